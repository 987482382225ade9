"""Behaviour of the port `Requests`, the same in every world; and its items, golden."""

import secrets
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from pipeline.aws.idempotency import MAX_ANSWER_BYTES, request_item, request_of
from pipeline.aws.tables import IDEMPOTENCY
from pipeline.core.errors import Corrupt
from pipeline.core.idempotency import Entry, StoredAnswer
from pipeline.ports.idempotency import Requests
from tests.aws.backends import Aws, Faulty, World
from tests.golden.compare import matches_golden

NOW_US = 4_102_444_800_000_000  # 2100: nothing that lies in a real table is expired before this test ends
HOUR_US = 3_600_000_000
ENTRY = Entry(
    "acme", "8e03978e", "f" * 64, "one", NOW_US + 7, NOW_US + 35_000_000, expires_us=NOW_US + 24 * HOUR_US
)
ANSWER = StoredAnswer(202, {"X-Receipt": "r1"}, "application/json", b'{"accepted":["a"]}')


@pytest.fixture(scope="module")
def requests(place: World) -> Requests:
    """The port of one world; every test has a key of its own."""
    return place.requests()


def _entry(**given: Any) -> Entry:
    return replace(ENTRY, key=secrets.token_hex(8), **given)


def _found(requests: Requests, entry: Entry, now_us: int = NOW_US) -> Entry | None:
    return requests.claim(replace(entry, owner="somebody else", fingerprint="0" * 64), now_us)


def test_the_first_claim_holds(requests: Requests) -> None:
    """Whoever comes later is given what is there, unchanged."""
    entry = _entry()
    assert requests.claim(entry, NOW_US) is None
    assert _found(requests, entry) == entry


def test_a_claim_may_be_repeated(requests: Requests) -> None:
    """The same attempt claims twice, as after a lost answer: it holds."""
    entry = _entry()
    assert requests.claim(entry, NOW_US) is None
    assert requests.claim(entry, NOW_US) is None


def test_one_of_many_claims_holds(requests: Requests) -> None:
    """Of eight at once one holds, and the others are given that one."""
    entries = [_entry()]
    entries += [replace(entries[0], owner=f"owner {number}") for number in range(7)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda one: requests.claim(one, NOW_US), entries))
    assert found.count(None) == 1
    assert {one for one in found if one} == {entries[found.index(None)]}


def test_tenants_do_not_meet(requests: Requests) -> None:
    """The same key of another tenant is another key."""
    entry = _entry()
    requests.claim(entry, NOW_US)
    assert requests.claim(replace(entry, tenant="globex", owner="two"), NOW_US) is None


def test_an_answer_is_kept(requests: Requests) -> None:
    """It is given back as it was; storing it again changes nothing."""
    entry = _entry()
    requests.claim(entry, NOW_US)
    assert requests.complete(entry, ANSWER)
    assert requests.complete(entry, ANSWER)
    assert _found(requests, entry) == replace(entry, answer=ANSWER)


def test_an_answer_of_the_largest_size(requests: Requests) -> None:
    """What fits is kept with all of its bytes; what does not fit is not, and the entry stays as it was."""
    entry = _entry()
    requests.claim(entry, NOW_US)
    assert not requests.complete(entry, replace(ANSWER, body=secrets.token_bytes(MAX_ANSWER_BYTES + 1)))
    assert _found(requests, entry) == entry
    large = replace(ANSWER, body=secrets.token_bytes(MAX_ANSWER_BYTES - 1_000))
    assert requests.complete(entry, large)
    found = _found(requests, entry)
    assert found is not None
    assert found.answer == large


def test_only_the_owner_completes(requests: Requests) -> None:
    """Whoever lost the entry stores no answer, unlocks nothing, and removes nothing."""
    entry = _entry()
    requests.claim(entry, NOW_US)
    assert requests.take_over(entry, "two", NOW_US + HOUR_US)
    taken = replace(entry, owner="two", locked_until_us=NOW_US + HOUR_US)
    assert not requests.complete(entry, ANSWER)
    requests.unlock(entry)
    requests.forget(entry)
    assert _found(requests, entry) == taken
    assert requests.complete(taken, ANSWER)


def test_one_takes_over(requests: Requests) -> None:
    """Of two that found the same, the first one has it; its own repeated call holds as well."""
    entry = _entry()
    requests.claim(entry, NOW_US)
    assert requests.take_over(entry, "two", NOW_US + HOUR_US)
    assert requests.take_over(entry, "two", NOW_US + HOUR_US)
    assert not requests.take_over(entry, "three", NOW_US + HOUR_US)


def test_what_is_answered_is_not_taken_over(requests: Requests) -> None:
    """An answer that came in between stays."""
    entry = _entry()
    requests.claim(entry, NOW_US)
    requests.complete(entry, ANSWER)
    assert not requests.take_over(entry, "two", NOW_US + HOUR_US)
    requests.forget(entry)
    requests.unlock(entry)
    assert _found(requests, entry) == replace(entry, answer=ANSWER)


def test_unlocked(requests: Requests) -> None:
    """Nobody is at work on it any more, and all else stays."""
    entry = _entry()
    requests.claim(entry, NOW_US)
    requests.unlock(entry)
    assert _found(requests, entry) == replace(entry, locked_until_us=0)


def test_forgotten(requests: Requests) -> None:
    """The key is free again."""
    entry = _entry()
    requests.claim(entry, NOW_US)
    requests.forget(entry)
    assert _found(requests, entry) is None


def test_an_expired_entry_is_none(requests: Requests) -> None:
    """From that second on the key is free, though nobody has deleted the item."""
    entry = _entry()
    requests.claim(entry, NOW_US)
    requests.complete(entry, ANSWER)
    later = replace(entry, owner="two", begun_us=entry.expires_us, expires_us=entry.expires_us + 24 * HOUR_US)
    assert requests.claim(later, entry.expires_us - 1) == replace(entry, answer=ANSWER)
    assert requests.claim(later, entry.expires_us) is None
    assert _found(requests, entry, later.begun_us) == later


def test_the_table_lets_items_end(place: World) -> None:
    """Deleting is DynamoDB's own work, by the attribute that the items have."""
    if not isinstance(place, Aws) or isinstance(place, Faulty):
        pytest.skip("only tables have a time to live")
    table = place.tables() + IDEMPOTENCY.name
    found = place.dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
    assert found["AttributeName"] == IDEMPOTENCY.expires == "expires"
    assert found["TimeToLiveStatus"] in ("ENABLED", "ENABLING")


@pytest.mark.parametrize(("name", "entry"), [("begun", ENTRY), ("complete", replace(ENTRY, answer=ANSWER))])
def test_stored_items(name: str, entry: Entry) -> None:
    """What lies in the table is what lay there before, and is read back."""
    item = request_item(entry)
    assert request_of(item) == entry
    readable = {
        name: {"B": zlib.decompress(value["B"]).decode("latin-1")} if "B" in value else value
        for name, value in item.items()
    }
    matches_golden(f"item.request_{name}.json", readable)


@pytest.mark.parametrize(
    "odd", [{"owner": {}}, {"begun_us": {"N": "x"}}, {"answer": {"B": b"no"}}, {"answer": {"S": "no"}}]
)
def test_an_odd_item(odd: dict[str, Any]) -> None:
    """What cannot be read is said to be corrupt."""
    with pytest.raises(Corrupt, match="idempotency"):
        request_of({**request_item(replace(ENTRY, answer=ANSWER)), **odd})
