"""Reading over HTTP: pages that come to the whole, exact counts, traces, days; every parameter checked."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from httpx import ASGITransport, AsyncClient
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.caller import Caller, Scope
from pipeline.core.count import Question
from pipeline.core.cursor import LIFE_US
from pipeline.core.errors import Corrupt, Transient
from pipeline.core.replay_job import Job
from pipeline.core.signed import MAX_CHARACTERS
from pipeline.facts import DamageFound, ReadsStopped
from pipeline.flows.events import EventSearch
from pipeline.flows.tenant_reads import TenantReads
from pipeline.web import reads as routes
from pipeline.wiring.reads import TENANT_READS, TENANT_WAITING
from tests.fakes.replay import MemoryJobs
from tests.web.kit import DAY, OTHER, OWN, Api, Town, caller_of, event, settings_of


@cache
def _town() -> Town:
    """Events of a day with many at the same time, over three segments, and flagged copies."""
    town = Town()
    for first in (200, 215, 230):
        numbers = range(first, first + 15)
        town.load(
            *(event(OWN, one, entity_id="lift", event_time=f"{DAY}T08:00:0{one % 4}Z") for one in numbers)
        )
    town.load(*(event(OWN, one, entity_id="lift", event_time=f"{DAY}T08:00:01Z") for one in range(205, 209)))
    return town


@cache
def _api() -> Api:
    return Api(_town(), settings_of(Path("/nonexistent")))


def _whole(question: Question, *, duplicates: bool) -> list[str]:
    find = _town().parts().trace.find
    search = EventSearch(OWN, question, None, find, duplicates=duplicates)
    return [one.columns["sequence_number"] for one in search.events()]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.booleans(), st.booleans())
def test_pages_come_to_the_whole(limits: list[int], duplicates: bool, by_type: bool) -> None:
    """Whatever the lengths of pages, all of them together are the events in their order, each once."""
    asked = {"type": "door.opened", "from": DAY, "to": DAY} if by_type else {"entity": "lift"}
    found: list[str] = []
    cursor: dict[str, str] = {}
    for number in range(100):
        page = (
            _api()
            .call(
                "GET",
                "/v1/events",
                params=asked
                | {"limit": str(limits[number % len(limits)]), "include_duplicates": str(duplicates).lower()}
                | cursor,
            )
            .json
        )
        found += [one["sequence_number"] for one in page["events"]]
        assert len(page["events"]) <= limits[number % len(limits)]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    question = Question(event_type="door.opened") if by_type else Question(entity_id="lift")
    assert found == _whole(question, duplicates=duplicates)
    assert len(found) > 20


def test_what_arrives_between_pages_repeats_nothing(tmp_path: Path) -> None:
    """A later event of an earlier time is in no further page, one of a later time is; none comes twice."""
    api = Api(Town(), settings_of(tmp_path))
    first = api.get("/v1/events", entity="door-1", limit=2).json
    early, late = f"{DAY}T00:30:00Z", f"{DAY}T08:30:00Z"
    api.town.load(
        event(OWN, 301, event_id="early", event_time=early), event(OWN, 303, event_id="late", event_time=late)
    )
    second = api.get("/v1/events", entity="door-1", limit=100, cursor=first["next"]).json
    ids = [one["event_id"] for one in first["events"] + second["events"]]
    assert ids == ["acme-e1", "acme-e3", "acme-e5", "acme-e7", "late"]


def test_a_page_ends_where_it_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer has no more events once their data come to the limit, and one at least."""
    api = Api(Town(), settings_of(tmp_path))
    monkeypatch.setattr(routes, "MAX_PAGE_BYTES", 1)
    page = api.get("/v1/events", entity="door-1").json
    assert len(page["events"]) == 1
    assert page["next"]


def test_a_cursor_is_for_one_question_and_a_day(tmp_path: Path) -> None:
    """Another question, a changed character, an old cursor: refused by the name of the parameter, all alike but in age."""
    api = Api(Town(), settings_of(tmp_path))
    cursor = api.get("/v1/events", entity="door-1", limit=1).json["next"]
    assert api.get("/v1/events", entity="door-1", limit=7, cursor=cursor).status_code == 200
    changed = ("A" if cursor[30] != "A" else "B").join((cursor[:30], cursor[31:]))
    for params in ({"entity": "door-0", "cursor": cursor}, {"entity": "door-1", "cursor": changed}):
        answer = api.call("GET", "/v1/events", params=params)
        assert answer.status_code == 400
        assert (answer.json["code"], answer.json["parameter"]) == ("bad_request", "cursor")
    api.town.clock.advance(LIFE_US / 1e6)
    old = api.get("/v1/events", entity="door-1", cursor=cursor)
    assert old.status_code == 400
    assert "older than a day" in old.json["detail"]


BAD = [
    ("/v1/events", {"entity": "a", "limit": "0"}, "limit"),
    ("/v1/events", {"entity": "a", "limit": "1001"}, "limit"),
    ("/v1/events", {"entity": "a", "limit": "٣"}, "limit"),
    ("/v1/events", {"entity": "a", "limit": "1e3"}, "limit"),
    ("/v1/events", {"entity": ""}, "entity"),
    ("/v1/events", {"entity": "x" * 257}, "entity"),
    ("/v1/events", {"entity": ["a", "b"]}, "entity"),
    ("/v1/events", {"entity": "a", "from": "yesterday"}, "from"),
    ("/v1/events", {"entity": "a", "from": "2013-07-04 10:00:00"}, "from"),
    ("/v1/events", {"entity": "a", "to": "2013-02-30"}, "to"),
    ("/v1/events", {"entity": "a", "from": "2013-07-05", "to": "2013-07-04"}, "from"),
    ("/v1/events", {"entity": "a", "include_duplicates": "yes"}, "include_duplicates"),
    ("/v1/events", {"type": "door.opened", "from": DAY}, "to"),
    ("/v1/events", {}, "type"),
    ("/v1/events", {"entity": "a", "type": "door.open"}, "type"),
    ("/v1/events", {"entity": "a", "colour": "red"}, "colour"),
    ("/v1/events/e1", {"at": "noon"}, "at"),
    ("/v1/events/e1", {"at": DAY, "entity": "a"}, "entity"),
    ("/v1/counts", {"by": "minute"}, "by"),
    ("/v1/aggregates", {}, "entity"),
    ("/v1/quarantine", {"code": "ugly"}, "code"),
    ("/v1/quarantine", {"from": "2024-01-01"}, "from"),
    ("/v1/quarantine", {"from": "2025-01-01"}, "from"),
    ("/v1/lag", {"stream": "doors"}, "stream"),
]


@pytest.mark.parametrize(("path", "params", "name"), BAD)
def test_a_bad_value_is_named_with_what_is_allowed(path: str, params: dict[str, Any], name: str) -> None:
    """Nothing is passed over in silence; the refusal names the parameter, what is allowed and an example."""
    answer = _api().call("GET", path, params=params)
    assert answer.status_code == 422
    assert answer.json["parameter"] == name
    assert set(answer.json) >= ({"allowed", "example"} if name not in ("colour", "stream") else {"detail"})
    assert name in answer.json["detail"]


def test_counts_are_those_of_the_command(tmp_path: Path) -> None:
    """All of the tenant's, by group, and those that were refused."""
    api = Api(Town(), settings_of(tmp_path))
    found = api.get("/v1/counts", by="type").json
    assert found["total"] == {"group": "all", "events": 8, "duplicates": 0, "quarantined": 1}
    assert [(one["group"], one["events"]) for one in found["groups"]] == [
        ("door.opened", 5),
        ("meter.read", 3),
    ]
    assert api.get("/v1/counts", entity="door-1").json["total"]["events"] == 4
    assert api.get("/v1/counts", type="_unknown").status_code == 200


def test_too_many_groups_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer is never longer than its limit: the caller is told to ask for less."""
    monkeypatch.setattr(routes, "MAX_GROUPS", 1)
    answer = Api(Town(), settings_of(tmp_path)).get("/v1/counts", by="type")
    assert (answer.status_code, answer.json["parameter"]) == (422, "by")


def test_days_come_in_pages(tmp_path: Path) -> None:
    """Each day once, its count beside what replay came to."""
    town = Town()
    town.load(
        *(
            event(OWN, 400 + one, entity_id="door-1", event_time=f"2024-03-0{one}T01:00:00Z")
            for one in range(1, 6)
        )
    )
    api = Api(town, settings_of(tmp_path))
    first = api.get("/v1/aggregates", entity="door-1", limit=4).json
    second = api.get("/v1/aggregates", entity="door-1", limit=4, cursor=first["next"]).json
    days = first["days"] + second["days"]
    assert [(one["day"], one["events"]) for one in days] == [
        *((f"2024-03-0{one}", 1) for one in range(1, 6)),
        (DAY, 4),
    ]
    assert [one["job"] for one in days[-1]["results"]] == [town.job_of[OWN]]
    assert second["next"] is None


@pytest.mark.parametrize("hint", [{}, {"entity": "door-1"}, {"at": DAY}, {"receipt": "acme:3"}])
def test_an_event_is_followed(hint: dict[str, str]) -> None:
    """With and without a hint: where it arrived, that it is archived, what it counts as."""
    found = _api().call("GET", "/v1/events/acme-e1", params=hint).json
    (way,) = found["found"]
    assert (way["outcome"], way["state"], way["indexed"]) == ("accepted", "committed", True)
    assert way["counted"] == {"figure": "events", "hour": 1, "included": True}
    assert found["found_by"] == (next(iter(hint)) if hint else "ids")


@pytest.mark.parametrize(
    ("characters", "status"), [(5_591, 404), (MAX_CHARACTERS, 404), (MAX_CHARACTERS + 1, 422)]
)
def test_a_receipt_as_long_as_any_that_is_given_out_is_read(characters: int, status: int) -> None:
    """That of a request over 128 shards is; one that nobody gave out is none."""
    receipt = "r" * characters
    assert _api().call("GET", "/v1/events/acme-e1", params={"receipt": receipt}).status_code == status


def test_an_id_may_hold_slashes(tmp_path: Path) -> None:
    """An id of CloudEvents is often a path."""
    town = Town()
    town.load(event(OWN, 500, event_id="orders/2024/7"))
    found = Api(town, settings_of(tmp_path)).get("/v1/events/orders/2024/7")
    assert found.json["event_id"] == "orders/2024/7"


def test_a_refused_event_is_followed_to_its_bytes(tmp_path: Path) -> None:
    """A trace names the unit, and the unit has the reason and all bytes."""
    api = Api(Town(), settings_of(tmp_path))
    (way,) = api.get("/v1/events/acme-bad").json["found"]
    assert way["outcome"] == "quarantined"
    unit = api.get(f"/v1/quarantine/{way['refused']['unit']}").json
    assert (unit["code"], unit["event_id"], unit["cut"]) == ("schema_mismatch", "acme-bad", False)
    assert '"acme-bad"' in unit["raw"]
    assert api.get("/v1/quarantine").json["counts"][0]["units"] == 1


def test_refused_units_come_in_pages(tmp_path: Path) -> None:
    """Each once, over segments and rows, and only those that are asked for."""
    town = Town()
    for segment in range(3):
        town.clock.advance(12 * 3_600)  # arrivals of two days
        bad = {"event_type": "door.opened", "data": {}}
        town.load(*(event(OWN, 600 + one, event_id=f"bad-{segment}-{one}", **bad) for one in range(4)))
    api, found, cursor = Api(town, settings_of(tmp_path)), list[str](), dict[str, str]()
    for _ in range(20):
        page = api.call("GET", "/v1/quarantine/samples", params={"limit": "3"} | cursor).json
        found += [one["event_id"] for one in page["units"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert found == ["acme-bad", *(f"bad-{segment}-{one}" for segment in range(3) for one in range(4))]
    assert api.get("/v1/quarantine/samples", code="not_json").json["units"] == []


def test_lag_says_nothing_of_shards(tmp_path: Path) -> None:
    """How far behind, as seen a few seconds ago, and neither the names nor the number of shards."""
    api = Api(Town(), settings_of(tmp_path))
    answer = api.get("/v1/lag", caller_of(OWN, {Scope.INGEST}))
    (one,) = answer.json["streams"]
    assert one == {"stream": "doors", "archived_until": "2024-03-10T12:00:01Z", "behind_seconds": 1.0}
    assert "shard" not in answer.text
    api.town.load(event(OWN, 700))
    assert api.get("/v1/lag").json["streams"][0]["archived_until"] == "2024-03-10T12:00:01Z"
    api.town.clock.advance(6)
    assert api.get("/v1/lag").json["streams"][0]["archived_until"] == "2024-03-10T12:00:02Z"


def test_usage_is_of_the_caller(tmp_path: Path) -> None:
    """The plan, and what is used and left of it; for a credential of any scope."""
    api = Api(Town(), settings_of(tmp_path))
    caller = caller_of(OTHER, {Scope.ADMIN})
    for _ in range(3):
        api.get("/v1/lag", caller_of(OTHER))
    found = api.get("/v1/usage", caller).json
    assert (found["plan"]["name"], found["used_requests"]) == ("premium", 3)
    assert found["left_requests"] == found["plan"]["requests_per_month"] - 3
    assert set(found["left_now"]) == {"requests", "events", "bytes"}


# What goes wrong ----------------------------------------------------------------------------------------


class _SlowJobs(MemoryJobs):
    """Jobs whose list waits for `go`."""

    def __init__(self) -> None:
        super().__init__()
        self.go, self.listed = threading.Event(), threading.Semaphore(0)

    def newest(self) -> list[Job]:
        """Return the list, once it may."""
        self.listed.release()
        self.go.wait(20)
        return super().newest()


async def _never(*_: Any) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("path", "query", "less"),
    [
        ("/v1/events", {"entity": "door-1"}, "shorter time"),
        ("/v1/events/acme-e1", {}, "give entity"),
        ("/v1/events/acme-e1", {"entity": "door-1"}, "try again"),
        ("/v1/lag", {}, "try again"),
        ("/v1/replays/none", {}, "try again"),
    ],
)
def test_nobody_is_told_to_ask_for_less_than_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, query: dict[str, Any], less: str
) -> None:
    """A parameter is named in a 503 only where the route has it and it was not given."""
    api = Api(Town(), settings_of(tmp_path, deadline_seconds=0.05))
    monkeypatch.setattr("pipeline.web.reading._in_turn", _never)
    answer = api.get(path, **query)
    assert (answer.status_code, less in answer.json["detail"]) == (503, True)


def test_a_read_that_takes_too_long_says_what_to_do(tmp_path: Path) -> None:
    """At the deadline 503 with the next step and a fact; the thread reads no further."""
    api = Api(Town(), settings_of(tmp_path, deadline_seconds=0.2))
    reads, gate = list[str](), threading.Event()
    parts = api.town.parts()

    def slow(key: str, *wanted: Any) -> Any:
        reads.append(key)
        gate.wait(20)
        return parts.trace.find.read(key, *wanted)

    find = replace(parts.trace.find, read=slow)  # type: ignore[arg-type]
    api.reads._parts = replace(parts, trace=replace(parts.trace, find=find))
    answer = api.get("/v1/events", entity="door-1")
    assert (answer.status_code, answer.json["code"]) == (503, "unavailable")
    assert "shorter time" in answer.json["detail"]
    assert answer.headers["Retry-After"] == "5"
    trace = api.get("/v1/events/acme-e1")
    assert "give entity, at or receipt" in trace.json["detail"]
    assert [type(one) for one in api.town.facts.told if isinstance(one, ReadsStopped)] == [ReadsStopped] * 2
    gate.set()
    api.reads.threads.shutdown()
    assert len(reads) == 2


def test_one_tenant_waits_and_another_is_served(tmp_path: Path) -> None:
    """A tenant has half of the threads and so many waiting; further requests are told to come again, others are served."""
    api, slow = Api(Town(), settings_of(tmp_path)), _SlowJobs()
    parts = api.town.parts()
    slowed = replace(parts, replay=replace(parts.replay, jobs=slow))

    def of(caller: Caller, waited_for: Callable[[], bool] = lambda: True) -> TenantReads:
        return TenantReads(slowed if caller.tenant_id == OWN else parts, caller, waited_for)

    api.reads.of = of  # type: ignore[method-assign]
    api.callers |= {one.credential: one for one in (caller_of(OWN), caller_of(OTHER))}
    assert asyncio.run(_crowd(api, slow)) == [200] * TENANT_WAITING
    assert not api.reads._turns


async def _crowd(api: Api, slow: _SlowJobs) -> list[int]:
    """Send as many requests as may wait and one more; return what the former came to."""
    app: Any = api.app
    async with AsyncClient(transport=ASGITransport(app=app), base_url="http://api") as client:
        own, other = ({"X-API-Key": caller_of(one).credential} for one in (OWN, OTHER))
        waiting = [asyncio.create_task(client.get("/v1/replays", headers=own)) for _ in range(TENANT_WAITING)]
        for _ in range(TENANT_READS):
            assert await asyncio.to_thread(slow.listed.acquire, timeout=10)
        refused = await client.get("/v1/replays", headers=own)
        assert (refused.status_code, refused.json()["code"]) == (503, "busy")
        assert refused.headers["retry-after"] == "1"
        assert (await client.get("/v1/replays", headers=other)).status_code == 200
        assert not slow.listed.acquire(blocking=False)  # the others of this tenant have no thread
        slow.go.set()
        return [one.status_code for one in await asyncio.gather(*waiting)]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Transient("throttled"), 503, "unavailable"),
        (Corrupt("item globex#0 names rows that are gone"), 500, "internal"),
    ],
)
def test_a_store_that_fails_says_nothing_of_itself(
    tmp_path: Path, error: Exception, status: int, code: str
) -> None:
    """A caller learns whether to come again; what is damaged, a fact tells the operator."""
    api = Api(Town(), settings_of(tmp_path))

    def fail(key: str, first_row: int, rows: int, columns: Sequence[str]) -> Any:  # noqa: ARG001 - the port's form
        error.spent = True  # type: ignore[attr-defined]
        raise error

    parts = api.town.parts()
    find = replace(parts.trace.find, read=fail)
    api.reads._parts = replace(parts, trace=replace(parts.trace, find=find))
    answer = api.get("/v1/events", entity="door-1")
    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert "globex" not in answer.text
    assert [one for one in api.town.facts.names() if one == "DamageFound"] == ["DamageFound"] * (
        status == 500
    )
    assert DamageFound.level == "ERROR"
