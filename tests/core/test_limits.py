"""Buckets, months, leases, and what a caller is told: pure arithmetic."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.bucket import MICROSECONDS, Bucket
from pipeline.core.decision import Decision, Share
from pipeline.core.lease import (
    QUOTA,
    Account,
    Leased,
    Refused,
    Terms,
    current,
    give_back,
    lease,
    lease_size,
)
from pipeline.core.quota import month_begins_us, month_ends_us, month_of

NOON_US = 1_710_072_000_000_000  # 2024-03-10T12:00:00Z
BUCKETS = st.builds(Bucket, st.integers(1, 2_000), st.integers(1, 3_600), st.integers(1, 5_000))


@given(BUCKETS, st.lists(st.integers(0, 10**7), max_size=20))
def test_refilling_in_steps_is_refilling_at_once(bucket: Bucket, steps: list[int]) -> None:
    """Nothing is rounded away, however often a level is looked at."""
    units = 0
    for step in steps:
        units = bucket.refilled(units, step)
    assert units == bucket.refilled(0, sum(steps))


@given(BUCKETS, st.integers(-(10**9), 10**9), st.integers(1, 5_000))
def test_a_wait_is_exact(bucket: Bucket, units: int, tokens: int) -> None:
    """After the wait the tokens are there, a microsecond before they were not."""
    tokens = min(tokens, bucket.holds)
    units = min(units, bucket.full_units)
    wait = bucket.wait_us(units, tokens)
    assert bucket.refilled(units, wait) >= tokens * bucket.token_units
    if wait:
        assert bucket.refilled(units, wait - 1) < tokens * bucket.token_units


def test_a_level_follows_new_terms() -> None:
    """Half a bucket stays as many tokens when its terms speak of other seconds, and is never more than full."""
    old, new = Bucket(10, 60, 100), Bucket(5, 1, 40)
    assert new.there(new.rescaled(30 * old.token_units, old.seconds)) == 30
    assert new.there(new.rescaled(99 * old.token_units, old.seconds)) == 40


@given(st.integers(0, 4 * 10**15))
def test_a_month_holds_its_moments(now_us: int) -> None:
    """A moment lies between the first of its month and the first after it."""
    month = month_of(now_us)
    assert month_begins_us(month) <= now_us < month_ends_us(month)
    assert month_of(month_ends_us(month)) > month


@given(
    BUCKETS,
    st.lists(
        st.tuples(st.integers(0, 3 * MICROSECONDS), st.integers(1, 50), st.integers(0, 200)), max_size=40
    ),
)
def test_usable_tokens_never_exceed_the_bucket(bucket: Bucket, asks: list[tuple[int, int, int]]) -> None:
    """Whatever is leased, by then usable tokens are never more than holds + rate x time."""
    terms, account, now_us = Terms((bucket,)), None, NOON_US
    usable: list[tuple[int, int]] = []
    for number, (step, need, more) in enumerate(asks):
        now_us += step
        found = lease(terms, account, now_us, (need,), (need + more,), str(number))
        if isinstance(found, Leased):
            assert need <= found.tokens[0] <= need + more
            account = found.change.applied(account)
            assert account is not None
            usable.append((found.valid_from_us(terms, account, now_us), found.tokens[0]))
    for at_us, _ in usable:
        total = sum(tokens for valid_us, tokens in usable if valid_us <= at_us)
        assert total * bucket.token_units <= bucket.full_units + bucket.tokens * (at_us - NOON_US)


@given(BUCKETS, st.integers(1, 6_000))
def test_a_refusal_says_when(bucket: Bucket, need: int) -> None:
    """Asked again at the moment that a refusal names, the tokens are leased; a need above the bucket is never met."""
    terms = Terms((bucket,))
    account = Account("r", NOON_US, (-2 * MICROSECONDS * bucket.tokens,), (bucket.tokens,), (bucket.seconds,))
    found = lease(terms, account, NOON_US, (need,), (need,), "n")
    if isinstance(found, Refused):
        if need > bucket.holds:
            assert found.until_us is None
        else:
            assert found.until_us is not None
            assert isinstance(lease(terms, account, found.until_us, (need,), (need,), "n"), Leased)


def test_all_buckets_or_none() -> None:
    """One short bucket refuses the lease and is named."""
    terms = Terms((Bucket(10, 1, 20), Bucket(1, 1, 5)))
    account = Account("r", NOON_US, (20 * MICROSECONDS, 0), (10, 1), (1, 1))
    assert lease(terms, account, NOON_US, (1, 1), (1, 1), "n") == Refused(
        1, NOON_US + MICROSECONDS, NOON_US + MICROSECONDS
    )


def test_the_quota_caps_a_lease_and_then_refuses() -> None:
    """The last requests of a month are leased as they are, then none until the next month begins."""
    terms = Terms((Bucket(1_000, 1, 2_000),), 1_000)
    account = Account("r", NOON_US, (2_000 * MICROSECONDS,), (1_000,), (1,), "2024-03", 970)
    last = lease(terms, account, NOON_US, (1,), (110,), "n")
    assert isinstance(last, Leased)
    assert (last.tokens, last.change.after.used) == ((30,), 1_000)
    end_us = month_ends_us("2024-03")
    assert lease(terms, last.change.after, NOON_US, (1,), (110,), "n") == Refused(QUOTA, end_us, end_us)
    again = lease(terms, last.change.after, end_us, (1,), (110,), "n")
    assert isinstance(again, Leased)
    assert (again.change.after.month, again.change.after.used) == ("2024-04", 110)


def test_requests_let_through_while_the_store_was_down_are_paid() -> None:
    """The quota counts what is owed, and refuses when that alone uses it up."""
    terms = Terms((Bucket(10, 1, 20),), 100)
    paid = lease(terms, None, NOON_US, (1,), (1,), "n", owed=50)
    assert isinstance(paid, Leased)
    assert paid.change.after.used == 51
    assert isinstance(lease(terms, None, NOON_US, (1,), (1,), "n", owed=100), Refused)


def test_a_month_never_goes_back() -> None:
    """A process whose clock is behind counts into the month that another one began."""
    terms = Terms((Bucket(10, 1, 20),), 100)
    began = Account("r", month_ends_us("2024-03"), (0,), (10,), (1,), "2024-04", 7)
    found = current(terms, began, month_ends_us("2024-03") - 300_000)
    assert (found.month, found.used, found.at_us) == ("2024-04", 7, began.at_us)


def test_what_is_given_back() -> None:
    """Tokens and the month's requests come back; of an earlier month only tokens do, and never above full."""
    terms = Terms((Bucket(10, 1, 20),), 100)
    account = Account("r", NOON_US, (0,), (10,), (1,), "2024-03", 40)
    back = give_back(terms, account, NOON_US, (5,), "2024-03", "n").after
    assert (back.units, back.used) == ((5 * MICROSECONDS,), 35)
    back = give_back(terms, account, NOON_US, (50,), "2024-02", "n").after
    assert (back.units, back.used) == ((20 * MICROSECONDS,), 40)


@pytest.mark.parametrize(
    ("bucket", "size"),
    [
        (Bucket(10, 1, 20), 1),
        (Bucket(100, 1, 200), 11),
        (Bucket(1_000, 1, 2_000), 110),
        (Bucket(5, 60, 5), 1),
        (Bucket(1_000, 60, 1_000), 10),
        (Bucket(1_000, 1, 3), 3),
    ],
)
def test_sizes_of_leases(bucket: Bucket, size: int) -> None:
    """110 ms of the rate or a hundredth of the bucket, at least one token, at most a full bucket."""
    assert lease_size(bucket) == size


def test_header_fields() -> None:
    """Both fields are lists of structured fields; Retry-After stands in refusals that time mends."""
    shares = (Share("requests", 20, 2, 17, 1), Share("month", 100_000, 2_678_400, 99_000, 60))
    told = Decision(True, 20, 17, 1, shares=shares).headers()
    assert told == {
        "RateLimit": '"requests";r=17;t=1, "month";r=99000;t=60',
        "RateLimit-Policy": '"requests";q=20;w=2, "month";q=100000;w=2678400',
    }
    assert Decision(False, 20, 0, 2, 3, "requests").headers() == {"Retry-After": "3"}
    assert Decision(False, 20, 0, 2, None, "events").headers() == {}


def test_two_that_read_the_same_both_lease() -> None:
    """From a bucket that is not full, leases add up in any order; one that comes too late for its tokens is refused."""
    terms = Terms((Bucket(1_000, 1, 2_000),), 10_000)
    read = Account("r", NOON_US, (500 * MICROSECONDS,), (1_000,), (1,), "2024-03", 0)
    one, two = (lease(terms, read, NOON_US, (1,), (110,), name) for name in "ab")
    assert isinstance(one, Leased)
    assert isinstance(two, Leased)
    first = one.change.applied(read)
    assert first is not None
    both = two.change.applied(first)
    assert both is not None
    assert (both.units, both.used) == ((280 * MICROSECONDS,), 220)
    assert one.change.applied(first) == first
    assert two.change.applied(msgspec.structs.replace(read, units=(-600 * MICROSECONDS,))) is None
    assert two.change.applied(msgspec.structs.replace(read, used=9_891)) is None
    assert two.change.applied(msgspec.structs.replace(read, month="2024-04")) is None
    assert two.change.applied(msgspec.structs.replace(read, at_us=0)) is None


def test_of_two_that_read_a_full_bucket_one_leases() -> None:
    """A full bucket is stored anew, by one."""
    terms = Terms((Bucket(10, 1, 20),))
    one, two = (lease(terms, None, NOON_US, (1,), (1,), name) for name in "ab")
    assert isinstance(one, Leased)
    assert isinstance(two, Leased)
    first = one.change.applied(None)
    assert first is not None
    assert two.change.applied(first) is None


def test_a_slow_bucket_gives_no_token_twice() -> None:
    """Where tokens are rare, the second that read the last one is refused."""
    terms = Terms((Bucket(5, 60, 5),))
    read = Account("r", NOON_US, (60 * MICROSECONDS,), (5,), (60,), "2024-03")
    one, two = (lease(terms, read, NOON_US, (1,), (1,), name) for name in "ab")
    assert isinstance(one, Leased)
    assert isinstance(two, Leased)
    assert two.change.applied(one.change.applied(read)) is None
    assert isinstance(lease(terms, one.change.applied(read), NOON_US, (1,), (1,), "c"), Refused)
