"""The audit after a spill: balanced when it is drained, also by the next program after a kill."""

import json
import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from pipeline.core.kpl import split
from tests.core.kit import event, wire
from tests.flows.deployment import Deployment
from tests.producer.stepped import Program, Sink

EVENTS = 40


def _program(place: Deployment, folder: Path, sink: Sink, name: str = "prod1") -> Program:
    stream = (place.stream.name, place.stream.epoch)
    return Program(name, folder, sink, place.receipts, place.clock, place.facts, stream)


def _put(work: Program, numbers: range) -> None:
    for number in numbers:
        work.put(f"door-{number % 8}", _event(number))
        work.rounds()


def _event(number: int) -> bytes:
    return wire(event(event_id=f"e{number}", entity_id=f"door-{number % 8}"))


@pytest.mark.parametrize("rounds_before_kill", [None, 0, 1, 2, 3, 5, 8])
@pytest.mark.parametrize("acknowledged_first", [0, 20])
def test_the_audit_balances(tmp_path: Path, rounds_before_kill: int | None, acknowledged_first: int) -> None:
    """Some events go out, the others to disk; the stream takes again; perhaps a kill, and the next program drains."""
    place = Deployment(shards=2)
    sink = Sink(inner=place.stream)
    work = _program(place, tmp_path, sink)
    _put(work, range(acknowledged_first))
    work.rounds(2)
    sink.fate = lambda: "throttled"
    _put(work, range(acknowledged_first, EVENTS))
    assert work.flush().spilled > 0
    sink.fate = lambda: "stored"
    if rounds_before_kill is not None:
        work.rounds(rounds_before_kill)
        work.kill()
        work = _program(place, tmp_path, sink, "prod2")
    assert work.wait("drain", 200)
    work.close()
    place.load()
    report = place.audit()
    assert report.balanced, report.differences
    total = report.total()
    assert (total.archived, total.received, report.unreceipted, report.sent_twice) == (EVENTS, EVENTS, 0, 0)
    closed = {one.producer: one.closed for one in place.receipts.all()}
    assert closed["prod1"]
    assert list(tmp_path.glob("*.spill")) == []


@pytest.mark.parametrize("rounds_before_split", [0, 1, 2, 4, 7])
@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("killed", [False, True])
def test_a_spill_drains_over_a_resharding(
    tmp_path: Path, rounds_before_split: int, *, merged: bool, killed: bool
) -> None:
    """Shards split, and merge again, while the disk empties: each entity in order from parent to child, nothing lost or doubled."""
    place, luck = Deployment(), random.Random(rounds_before_split)
    sink = Sink(inner=place.stream, fate=lambda: "throttled")
    work = _program(place, tmp_path, sink)
    _put(work, range(EVENTS))
    assert work.flush().spilled == EVENTS
    sink.fate = lambda: luck.choice(["stored", "throttled"])
    _put(work, range(EVENTS, EVENTS + 8))  # behind what is on disk
    work.rounds(rounds_before_split)
    children = place.stream.split("shardId-000000000000")
    if killed:
        work.flush()
        work.kill()
        work = _program(place, tmp_path, sink, "prod2")
    if merged:
        work.rounds(3)
        place.stream.merge(*children)
    assert work.wait("drain", 300)
    work.close()
    shards = place.stream.by_id.values()  # parents before children
    assert all(shard.records for shard in shards if not shard.closed)
    found = [payload for shard in shards for record in shard.records for payload in split(record.data)]
    assert _ids_by_entity(found) == _ids_by_entity(_event(number) for number in range(EVENTS + 8))
    place.load()
    report = place.audit()
    assert (report.differences, report.sent_twice, report.unreceipted) == ([], 0, 0)
    assert report.total().archived == EVENTS + 8


def _ids_by_entity(payloads: Iterable[bytes]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for payload in payloads:
        one = json.loads(payload)
        found.setdefault(one["entity_id"], []).append(one["event_id"])
    return found


def test_a_lost_answer_before_the_kill_is_a_flagged_copy(tmp_path: Path) -> None:
    """Stored without an answer, spilled, killed, sent again: balanced, and the copies are duplicates."""
    place = Deployment()
    sink = Sink(inner=place.stream, fate=lambda: "lost")
    work = _program(place, tmp_path, sink)
    _put(work, range(6))
    work.flush()
    work.kill()
    sink.fate = lambda: "stored"
    later = _program(place, tmp_path, sink, "prod2")
    later.wait("drain", 100)
    later.close()
    place.load()
    report = place.audit()
    assert report.balanced, report.differences
    assert (report.total().archived, report.total().duplicates > 0, report.sent_twice > 0) == (6, True, True)


def test_a_receipt_said_closed_too_early_would_be_seen(tmp_path: Path) -> None:
    """The audit's own guard: a batch that is still on disk when a later one is acknowledged and all is said to be done."""
    place = Deployment()
    sink = Sink(inner=place.stream, fate=lambda: "throttled")
    work = _program(place, tmp_path, sink)
    for number in range(3):
        work.put("door-1", wire(event(event_id=f"e{number}")))
        work.flush()
    sink.fate = lambda: "stored"
    work.worker._outbox.lanes.done(work.worker._outbox.lanes.call()[0])  # forgotten
    work.rounds(5)
    work.worker._book.write(closed=True)
    place.load()
    assert "batch_unacknowledged" in place.kinds()
    work.kill()
