"""`POST /v1/events` and the rest of the API: sent again under a key, above the plan, of a tenant that was just added."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from pipeline.core.errors import Transient
from pipeline.core.idempotency import Entry, StoredAnswer, derived_event_id
from pipeline.core.kpl import split
from pipeline.core.rules import with_stored
from pipeline.flows.idempotency import Idempotency
from pipeline.flows.leases import Leases
from pipeline.flows.limit import Limiter
from pipeline.ports.clock import SystemClock
from pipeline.wiring.front_door import FrontDoor
from pipeline.wiring.loading import rules
from tests.fakes.facts import FactList
from tests.fakes.idempotency import MemoryRequests
from tests.fakes.limits import MemoryLimits
from tests.web.doors import MemorySink, OpenGate, make_door, web_settings
from tests.web.kit import Api, Town, caller_of, settings_of
from tests.web.serving import event, lines, serving

_LOCK_SECONDS = 40.0
_KEY = {"Idempotency-Key": "one-request", "Content-Type": "application/x-ndjson"}
_BODY = lines(event(), event(), event(event_id="own"))


class Dying(MemoryRequests):
    """A table that a process no longer reaches once the stream has answered it: what a kill there leaves behind."""

    def complete(self, entry: Entry, answer: StoredAnswer) -> bool:
        """Store nothing."""
        raise Transient(f"the process is gone: {entry.key} {answer.status}")


def _post(sink: MemorySink, table: MemoryRequests, owner: str) -> httpx.Response:
    """Send the request to a process of its own."""
    clock = SystemClock()
    flow = Idempotency(table, clock, lambda: owner, _LOCK_SECONDS)
    with serving(make_door(sink, idempotency=flow)) as served, served.client() as client:
        return client.post("/v1/events", content=_BODY, headers=_KEY)


def _post_to(door: FrontDoor) -> httpx.Response:
    with serving(door) as served, served.client() as client:
        return client.post("/v1/events", content=_BODY, headers=_KEY)


class Later(SystemClock):
    """A clock that shows some seconds more than the machine's."""

    ahead_us = 0

    def now_us(self) -> int:
        """Return the time."""
        return super().now_us() + self.ahead_us


class Slow(MemorySink):
    """A stream that answers twenty seconds later, by a clock that it sets."""

    def __init__(self, clock: Later) -> None:
        super().__init__()
        self._clock, self.put_us = clock, 0

    def put(self, records: Any) -> Any:
        """Take records, and let time pass."""
        self.put_us = self._clock.now_us()
        found = super().put(records)
        self._clock.ahead_us += 20_000_000
        return found


@pytest.mark.parametrize("headers", [_KEY, {"Content-Type": _KEY["Content-Type"]}], ids=["key", "none"])
def test_a_receipt_says_when_its_events_were_taken_and_not_when_they_were_answered(
    headers: dict[str, str],
) -> None:
    """Or a gap that swallowed them in between would not be seen to have: none of them is in the stream for longer."""
    clock = Later()
    sink = Slow(clock)
    flow = Idempotency(MemoryRequests(), clock, lambda: "a", _LOCK_SECONDS)
    door = make_door(sink, idempotency=flow, clock=clock)
    with serving(door) as served, served.client() as client:
        answer = client.post("/v1/events", content=_BODY, headers=headers)
    assert answer.status_code == 202
    assert door.receipts is not None
    receipt = door.receipts.read("demo", answer.json()["receipt"])
    assert receipt is not None
    assert 0 < receipt.arrived_us <= sink.put_us


def _ids(answer: httpx.Response) -> list[str]:
    return [one["event_id"] for one in answer.json()["events"]]


def _payloads(sink: MemorySink) -> list[bytes]:
    return [part for record in sink.records for part in split(record.data)]


def test_a_process_that_dies_behind_the_streams_answer_makes_no_second_event(tmp_path: Path) -> None:
    """Sent again, the request has the same ids; the archive has each event once without a flag, and its copy flagged."""
    sink, before, after = MemorySink(), Dying(), MemoryRequests()
    first = _post(sink, before, "first")
    after.stored = {key: replace(one, locked_until_us=0) for key, one in before.stored.items()}  # it ran out
    second, third = (_post(sink, after, owner) for owner in ("second", "third"))
    assert [one.status_code for one in (first, second, third)] == [202] * 3
    assert _ids(first) == _ids(second) == _ids(third)
    assert third.headers["Idempotent-Replayed"] == "true"
    payloads = _payloads(sink)
    assert len(payloads) == 2 * len(_ids(first))
    town = Town(events=1)
    town.rules = rules(web_settings())
    town.clock.advance(SystemClock().now_us() / 1e6 - town.clock.now_us() / 1e6)
    town.load(*payloads)
    api = Api(town, settings_of(tmp_path))
    asked: dict[str, Any] = {"entity": "IAH"}
    found = api.get("/v1/events", caller_of("demo"), **asked).json["events"]
    assert sorted(one["event_id"] for one in found) == sorted(_ids(first))
    everything = api.get("/v1/events", caller_of("demo"), include_duplicates="true", **asked).json["events"]
    assert sum(one["is_duplicate"] for one in everything) == len(_ids(first))


@pytest.mark.parametrize(
    ("section", "seconds"),
    [
        ({"web": {"repeat_seconds": 600}}, 600),
        ({"web": {"repeat_seconds": 86_400}, "duplicates": {"window_hours": 2}}, 6_900),
    ],
)
@pytest.mark.parametrize("beyond", [False, True])
def test_what_was_not_answered_is_repeated_only_within_the_duplicate_window(
    section: dict[str, dict[str, Any]], seconds: int, *, beyond: bool
) -> None:
    """Until then under its ids; later it is refused, sends nothing, and names the ids that may be there; the key stays taken."""
    sink, before, clock, after = MemorySink(), Dying(), SystemClock(), MemoryRequests()
    door = make_door(sink, web_settings(**section))
    first = _post_to(replace(door, idempotency=Idempotency(before, clock, lambda: "first", _LOCK_SECONDS)))
    assert first.status_code == 202
    [(place, one)] = before.stored.items()
    begun_us = one.begun_us - (seconds + (60 if beyond else -60)) * 1_000_000
    after.stored = {place: replace(one, begun_us=begun_us, locked_until_us=0)}
    door = make_door(again := MemorySink(), web_settings(**section))
    door = replace(door, idempotency=Idempotency(after, clock, lambda: "second", _LOCK_SECONDS))
    second = _post_to(door)
    ids = [*(derived_event_id("demo", "one-request", index, begun_us) for index in (0, 1)), "own"]
    if beyond:
        assert (second.status_code, second.json()["code"]) == (409, "retry_unsafe")
        assert (second.json()["event_ids"], _payloads(again)) == (ids, [])
        assert after.stored[place].locked_until_us == 0  # the key stays taken, for this request alone
    else:
        assert (second.status_code, _ids(second)) == (202, ids)


def test_events_above_the_plan_are_refused_before_anything_is_sent() -> None:
    """429 names the bucket; nothing of the request is in the stream, and a smaller one is taken."""
    clock, sink = SystemClock(), MemorySink()
    limiter = Limiter(Leases(MemoryLimits(), clock, FactList()), clock, 3_000)
    gate = OpenGate(events_per_second=1, bytes_per_second=1_000, max_batch_events=5)
    with serving(make_door(sink, limiter=limiter), gate) as served, served.client() as client:
        answers = [
            client.post("/v1/events", content=lines(*[event()] * count), headers={"Content-Type": _LINES})
            for count in (2, 4)
        ]
        assert [one.status_code for one in answers] == [202, 429]
        assert (answers[1].json()["code"], answers[1].json()["which"]) == ("rate_limited", "events")
        large = client.post(
            "/v1/events", content=lines(event(source="x" * 3_000)), headers={"Content-Type": _LINES}
        )
        assert (large.status_code, large.json()["which"]) == (413, "bytes")
    assert len(_payloads(sink)) == 2


_LINES = "application/x-ndjson"


class Late:
    """Rules to which a tenant is added that nobody has looked for yet."""

    def __init__(self) -> None:
        self.known, self.looks = rules(web_settings()), 0
        self.stored = with_stored(self.known, ["late"], [])

    def __call__(self) -> Any:
        """Return what is known."""
        return self.known

    def newest(self, since_us: int) -> Any:
        """Look."""
        assert since_us > 0
        self.looks += 1
        self.known = self.stored
        return self.known


def test_a_tenant_that_was_just_added_is_taken_at_once() -> None:
    """One look at the control store, and its first event goes in; what is known needs no look."""
    late, sink = Late(), MemorySink()
    with serving(make_door(sink, rules=late)) as served:
        for tenant, looks in (("demo", 0), ("late", 1), ("late", 1)):
            with served.client(tenant) as client:
                assert client.post("/v1/events", json=event()).status_code == 202
            assert late.looks == looks
    assert [orjson.loads(one)["tenant_id"] for one in _payloads(sink)] == ["demo", "late", "late"]
