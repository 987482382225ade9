"""The audit after a spill: balanced when it is drained, also by the next program after a kill."""

from pathlib import Path

import pytest

from tests.core.kit import event, wire
from tests.flows.deployment import Deployment
from tests.producer.stepped import Program, Sink

EVENTS = 40


def _program(place: Deployment, folder: Path, sink: Sink, name: str = "prod1") -> Program:
    stream = (place.stream.name, place.stream.epoch)
    return Program(name, folder, sink, place.receipts, place.clock, place.facts, stream)


def _put(work: Program, numbers: range) -> None:
    for number in numbers:
        entity = f"door-{number % 8}"
        work.put(entity, wire(event(event_id=f"e{number}", entity_id=entity)))
        work.rounds()


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
