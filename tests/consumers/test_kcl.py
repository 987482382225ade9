"""The child of KCL's daemon, in process: what it commits, what it checkpoints, and when it stops working."""

import hashlib
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from consumers.kcl import Child
from consumers.multilang import Daemon
from pipeline.core import kpl
from pipeline.core.errors import ConfigProblem, HeadraceError, NotFound, Transient
from pipeline.core.event import Record
from pipeline.core.gap import Keeping
from pipeline.core.segment import CutLimits, Position
from pipeline.facts import CallRetried, ParentsAwaited, SegmentCommitted, ShardReleased
from pipeline.flows.load import LoadLimits
from pipeline.flows.read import ReadPorts, Shards
from pipeline.flows.window import WindowLimits
from tests.core.kit import event, wire
from tests.fakes.daemon import FakeDaemon, bare, initialize, process
from tests.flows.deployment import Deployment
from tests.flows.falling_behind import DAY_US, MARGIN_US, House

FIRST = "shardId-000000000000"


def _child(house: Deployment, daemon: FakeDaemon) -> Child:
    ports = ReadPorts(house.stream, house.ledger, house.clock, house.facts, lambda: False)
    line = Daemon(cast("Any", daemon), cast("Any", daemon))
    return Child(line, Shards(ports), ports, house.loader)


def _run(house: Deployment, *messages: Any, refusals: Iterable[str] = ()) -> FakeDaemon:
    daemon = FakeDaemon(*messages, refusals=refusals)
    _child(house, daemon).run()
    return daemon


def _taken_apart(records: Iterable[Record]) -> list[Record]:
    """Return records as KCL delivers them: one for each user record of an aggregate."""
    made: list[Record] = []
    for one in records:
        parts = kpl.split(one.data) if kpl.is_aggregate(one.data) else [one.data]
        made += [
            msgspec.structs.replace(one, data=part, subsequence_number=n) for n, part in enumerate(parts)
        ]
    return made


def _delivered(house: Deployment, shard_id: str = FIRST) -> list[Record]:
    return _taken_apart(house.stream.by_id[shard_id].records)


def _plain(house: Deployment, count: int, first: int = 0, shard_id: str = FIRST) -> list[Record]:
    return [
        house.stream.append(shard_id, wire(event(event_id=f"e{number}")), "key")
        for number in range(first, first + count)
    ]


def _reasons(house: Deployment, kind: type[SegmentCommitted | ShardReleased]) -> list[str]:
    return [fact.reason for fact in house.facts.told if isinstance(fact, kind)]


def _ends(house: Deployment) -> list[Position | None]:
    return [row.end for row in house.ledger.rows.values()]


def _place(record: Record) -> Position:
    return Position(record.sequence_number, record.subsequence_number or 0)


def test_a_stop_commits_and_checkpoints() -> None:
    """What is collected is cut and committed, the checkpoint is its end, and the audit balances."""
    house = Deployment(max_rows=1_000)
    house.produce(40)
    records = _delivered(house)
    daemon = _run(house, initialize(FIRST), process(records), bare("shutdownRequested"), bare("leaseLost"))
    assert daemon.checkpoints == [_place(records[-1])]
    assert daemon.checkpoints[0] != Position(records[-1].sequence_number, 0)  # both numbers
    assert _reasons(house, SegmentCommitted) == ["stop"]
    assert _reasons(house, ShardReleased) == ["stop"]
    assert house.ledger.reading("0001").starts == 0  # a stop in order is no death
    report = house.audit()
    assert report.balanced, report.differences
    assert report.total().archived == 40


def test_checkpoints_follow_commits_only() -> None:
    """A batch that is only collected is not checkpointed; after a cut the checkpoint is the end of the segment."""
    house = Deployment(max_rows=10)
    records = _plain(house, 25)
    house.limits = LoadLimits(CutLimits(max_rows=10), WindowLimits())
    seen: list[int] = []
    daemon = FakeDaemon(
        initialize(FIRST),
        process(records[:8]),
        lambda: seen.append(len(daemon.checkpoints)),
        process(records[8:20]),
        lambda: seen.append(len(daemon.checkpoints)),
        process(records[20:]),
        lambda: seen.append(len(daemon.checkpoints)),
        process([]),  # all that was delivered lies behind the last commit now
        lambda: seen.append(len(daemon.checkpoints)),
    )
    _child(house, daemon).run()
    assert seen == [0, 1, 1, 1]
    assert daemon.checkpoints == [_place(records[19])] == _ends(house)


def test_time_cuts_while_nothing_comes() -> None:
    """Empty batches are ticks: a quiet shard is cut by age and checkpointed inside one of them."""
    house = Deployment(max_rows=1_000)
    records = _plain(house, 3)
    daemon = _run(
        house, initialize(FIRST), process(records), lambda: house.clock.advance(61), process([], behind_ms=0)
    )
    assert _reasons(house, SegmentCommitted) == ["age"]
    assert daemon.checkpoints == [_place(records[-1])]


def test_an_idle_shard_is_noted_as_it_was_before_the_fetch() -> None:
    """KCL fetches ahead: an empty batch is of a moment before the last sixteen answers, and says nothing until there are so many."""
    house, noted = House(), list[int]()
    began_us = house.clock.now_us()

    def look() -> None:
        noted.append(house.ledger.reading("0001").read_until_us)

    minute = (lambda: house.clock.advance(60), process([], behind_ms=0), look)
    _run(house, initialize(FIRST), *minute * 16)
    assert noted == [0] * 15 + [began_us - MARGIN_US]


def test_a_lost_lease_writes_nothing_more() -> None:
    """The open segment is thrown away, and batches that still come are only answered."""
    house = Deployment(max_rows=1_000)
    records = _plain(house, 9)
    daemon = _run(
        house,
        initialize(FIRST),
        process(records[:5]),
        bare("leaseLost"),
        process(records[5:]),
        bare("shutdownRequested"),
        bare("shardEnded"),
    )
    assert house.ledger.rows == {}
    assert daemon.checkpoints == []
    assert len(daemon.said) == 6
    assert [fact for fact in house.facts.told if isinstance(fact, ShardReleased)] == [
        ShardReleased("0001", FIRST, "lease lost", 5)
    ]


def test_a_daemon_that_hangs_up() -> None:
    """The end of the pipe without a word is a lost lease too."""
    house = Deployment(max_rows=1_000)
    _run(house, initialize(FIRST), process(_plain(house, 5)))
    assert house.ledger.rows == {}
    assert _reasons(house, ShardReleased) == ["hung up"]


def test_the_end_of_a_shard() -> None:
    """The last segment says so, and only then comes the checkpoint without arguments."""
    house = Deployment(max_rows=1_000)
    records = _plain(house, 5)
    daemon = _run(house, initialize(FIRST), process(records), bare("shardEnded"))
    assert daemon.checkpoints == [None]
    assert [(row.shard_end, row.state) for row in house.ledger.rows.values()] == [(True, "committed")]
    assert _reasons(house, ShardReleased) == ["shard end"]


def test_the_end_of_a_shard_that_cannot_be_committed() -> None:
    """A failed commit leaves the loop, unanswered: a "done" would let KCL begin the children."""
    house = Deployment(max_rows=1_000)
    records = _plain(house, 5)

    def fail(_segment: object) -> bool:
        raise Transient("no ledger")

    daemon = FakeDaemon(initialize(FIRST), process(records), bare("shardEnded"))
    house.ledger.commit = fail  # type: ignore[method-assign, assignment]
    with pytest.raises(Transient, match="no ledger"):
        _child(house, daemon).run()
    assert daemon.checkpoints == []
    assert [one["responseFor"] for one in daemon.said] == ["initialize", "processRecords"]


def test_an_unknown_error_leaves_the_loop() -> None:
    """No exception is swallowed and answered with "done"."""
    house = Deployment()

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    house.objects.put_if_absent = fail  # type: ignore[method-assign, assignment]
    daemon = FakeDaemon(initialize(FIRST))
    with pytest.raises(ZeroDivisionError):
        _child(house, daemon).run()
    assert daemon.said == []


@pytest.mark.parametrize("error", ["ThrottlingException", "KinesisClientLibDependencyException"])
def test_a_throttled_checkpoint_is_repeated(error: str) -> None:
    """With back-off, at the same position, until it holds."""
    house = Deployment(max_rows=5)
    records = _plain(house, 5)
    daemon = _run(house, initialize(FIRST), process(records), refusals=[error] * 3)
    assert daemon.checkpoints == [_place(records[-1])]
    assert sum(isinstance(fact, CallRetried) for fact in house.facts.told) == 3


def test_a_refused_checkpoint_is_a_lost_lease() -> None:
    """ShutdownException: the segment that was committed stays, the rest is the next worker's, quietly."""
    house = Deployment(max_rows=5)
    records = _plain(house, 12)
    daemon = _run(
        house,
        initialize(FIRST),
        process(records[:7]),
        process(records[7:]),
        bare("leaseLost"),
        refusals=["ShutdownException"],
    )
    assert [row.counts.units for row in house.ledger.rows.values()] == [7]
    assert daemon.checkpoints == []
    assert [one["action"] for one in daemon.said] == ["status", "checkpoint", "status", "status", "status"]


def test_an_invalid_state_is_not_repeated() -> None:
    """Nor is a position that KCL refuses: somebody has to look."""
    for error in ("InvalidStateException", "IllegalArgumentException"):
        house = Deployment(max_rows=5)
        with pytest.raises(HeadraceError, match=error):
            _run(house, initialize(FIRST), process(_plain(house, 5)), refusals=[error])


def test_kcl_lags_behind_the_ledger() -> None:
    """What the ledger covers is dropped, and no checkpoint passes what KCL itself has delivered: it would be refused."""
    house = Deployment(max_rows=1_000)
    house.produce(40)
    house.load()
    records = _delivered(house)
    daemon = _run(house, initialize(FIRST), process(records[:7]), process(records[7:]))
    assert daemon.checkpoints == [_place(records[6]), _place(records[-1])]
    report = house.audit()
    assert report.balanced, report.differences
    assert report.total().archived == 40


def test_kcl_ahead_of_the_ledger() -> None:
    """A checkpoint of another archive would pass over records: refused before the first, and nothing is written."""
    house = Deployment(max_rows=1_000)
    records = _plain(house, 5)
    for loaded in (0, 3):
        lineage = house.ledger.register(house.stream.name, house.stream.epoch, FIRST, ())
        loader = house.loader(lineage)
        loader.start()
        loader.process(records[:loaded])
        loader.cut("stop")
        before = dict(house.ledger.rows)
        with pytest.raises(ConfigProblem, match=r"kcl\.application"):
            _run(house, initialize(FIRST, records[3].sequence_number), process(records[4:]))
        assert house.ledger.rows == before
    _run(house, initialize(FIRST, records[2].sequence_number), process(records[3:]), bare("shardEnded"))
    assert sum(row.counts.units for row in house.ledger.rows.values()) == 5


def test_an_aggregate_that_comes_again() -> None:
    """A segment ends with the last unit of a Kinesis record; a daemon that delivers the record anew gets none of it twice."""
    house = Deployment(max_rows=7)
    house.produce(40)
    records = _delivered(house)
    middle = records[20].sequence_number
    cut = next(n for n, one in enumerate(records) if int(one.sequence_number) > int(middle))
    first = _run(house, initialize(FIRST), process(records[:cut]), bare("shutdownRequested"))
    assert first.checkpoints == [_place(records[cut - 1])]
    whole = next(n for n, one in enumerate(records) if one.sequence_number == middle)
    _run(house, initialize(FIRST), process(records[whole:]), bare("shutdownRequested"))
    report = house.audit()
    assert report.balanced, report.differences
    assert (report.total().archived, report.total().duplicates) == (40, 0)


def test_a_segment_holds_many_events_of_few_records() -> None:
    """Batch labels are counted by Kinesis record, though KCL shows each event under the label of its batch."""
    house = Deployment()
    house.limits = LoadLimits(CutLimits(max_rows=1_000, max_ranges=12), WindowLimits())
    house.produce(80)
    records = _delivered(house)
    _run(house, initialize(FIRST), process(records[:50]), process(records[50:]), bare("shutdownRequested"))
    assert len(house.stream.by_id[FIRST].records) > 12
    assert _reasons(house, SegmentCommitted) == ["stop"]
    assert house.audit().balanced


def test_a_broken_aggregate_is_refused_for_what_it_is() -> None:
    """KCL hands one with a bad checksum over whole: quarantine says so, and its neighbours are archived."""
    house = Deployment(max_rows=1_000)
    [before] = _plain(house, 1)
    broken = house.stream.append(FIRST, kpl.MAGIC + b"no aggregate, and no checksum of one", "key")
    records = [before, broken, *_plain(house, 1, 1)]
    delivered = [msgspec.structs.replace(one, subsequence_number=0) for one in records]
    daemon = _run(house, initialize(FIRST), process(delivered), bare("shutdownRequested"))
    assert daemon.checkpoints == [_place(delivered[-1])]
    [codes] = [fact.codes for fact in house.facts.told if type(fact).__name__ == "UnitsRefused"]  # type: ignore[attr-defined]
    assert codes == {"bad_aggregate": 1}


@pytest.mark.parametrize("after", [0, 2])
def test_an_aggregate_that_kcl_reads_and_we_do_not(after: int) -> None:
    """The reader refused it whole: KCL, which passes over a field it does not know, delivers parts that are covered.

    Its checkpoint names the last part that it delivered, also when more came with it.
    """
    house = Deployment(max_rows=1_000)
    made = kpl.Aggregate()
    for number in range(5):
        made.add(wire(event(event_id=f"part-{number}")))
    whole = made.encode("key", "0")
    body = whole[4:-16] + b"\x22\x01x"
    record = house.stream.append(FIRST, kpl.MAGIC + body + hashlib.md5(body).digest(), "key")
    house.load()
    parts = [
        msgspec.structs.replace(record, data=part, subsequence_number=number)
        for number, part in enumerate(kpl.split(whole))
    ]
    daemon = _run(house, initialize(FIRST), process(parts + _plain(house, after)), bare("leaseLost"))
    assert daemon.checkpoints == [_place(parts[-1])]
    assert [(row.counts.rows, row.counts.quarantined) for row in house.ledger.rows.values()] == [(0, 1)]


def test_an_aggregate_within_an_aggregate() -> None:
    """Alone in it, it is one event that is none: one refusal, as by the reader, and not its own events."""
    for kcl in (False, True):
        house = Deployment(max_rows=1_000)
        inner, outer = kpl.Aggregate(), kpl.Aggregate()
        for number in range(3):
            inner.add(wire(event(event_id=f"e{number}")))
        outer.add(inner.encode("key", "0"))
        house.stream.append(FIRST, outer.encode("key", "0"), "key")
        if kcl:
            _run(house, initialize(FIRST), process(_delivered(house)), bare("shutdownRequested"))
        else:
            house.load()
        assert [(row.counts.rows, row.counts.quarantined) for row in house.ledger.rows.values()] == [(0, 1)]


def test_a_shard_that_was_not_listed_once() -> None:
    """It lives and is not read to its end: it is left to its own worker, whoever asked about its siblings."""
    house = House(shards=2)
    quiet, other = house.stream.by_id
    for shard_id in (quiet, other):
        house.put(3, shard_id)
        _run(house, initialize(shard_id), process(_delivered(house, shard_id)), bare("shutdownRequested"))
    listed = house.stream.shards
    for unread in (0, 4):  # also where an empty read is no end
        house.put(unread, quiet)
        house.stream.shards = lambda: [one for one in listed() if one.shard_id != quiet]  # type: ignore[method-assign]
        with pytest.raises(Transient, match="was not listed, but can be read"):
            _run(house, initialize(other))
        house.stream.shards = listed  # type: ignore[method-assign]
    assert _reasons(house, ShardReleased)[-1] == "not expired"
    _run(house, initialize(quiet), process(_delivered(house, quiet)), bare("shutdownRequested"))
    assert sum(row.counts.rows for row in house.segments()) == house.number
    assert house.gaps() == []


def test_a_shard_that_expired_is_let_go_of() -> None:
    """Who records its end holds it no longer: nothing is left open at a stop."""
    house = House()
    house.put(4)
    house.work()
    child, _sibling = house.stream.split(FIRST)
    house.away(30)
    house.stream.expire(FIRST)
    _run(house, initialize(child), bare("shutdownRequested"))
    assert [one.shard_end for one in house.segments() if one.lineage == "0001"][-1]
    released = [fact.shard_id for fact in house.facts.told if isinstance(fact, ShardReleased)]
    assert released == [FIRST, child]


def test_an_expired_shard_whose_position_is_refused_has_a_gap() -> None:
    """What it held was dropped, however long the stream keeps records now."""
    house = House()
    house.stream.refuses_trimmed = True
    house.limits = replace(house.limits, keeping=Keeping(7 * DAY_US))
    house.put(4)
    house.work()
    house.put(2)
    child, _sibling = house.stream.split(FIRST)
    house.away(30)
    house.stream.expire(FIRST)
    _run(house, initialize(child))
    [gap] = house.gaps()
    assert gap.from_us == house.segments()[0].max_arrival_us


def test_a_child_that_hangs_ends_itself() -> None:
    """Also where nobody reads its answers any more: with status 1, and the log says where it stood."""
    code = (
        "from consumers.watchdog import Watchdog\nfrom pipeline.core.decode import Decoder\n"
        "from tests.consumers.test_kcl import *\nfrom tests.consumers.test_kcl import _child, _plain\n"
        "def hang(*_):\n    while True: pass\n"
        "Decoder.decode = hang\nhouse = Deployment()\n"
        "child = _child(house, FakeDaemon(initialize(FIRST), process(_plain(house, 1))))\n"
        "child._watchdog = Watchdog(1)\nchild.run()"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (answer.returncode, "Timeout (" in answer.stderr, "hang" in answer.stderr) == (1, True, True)


def test_a_child_shard_waits_for_its_parents() -> None:
    """KCL's word is not enough: until the ledger has the parent's end the child is held back, and then given up."""
    house = Deployment(max_rows=1_000)
    records = _plain(house, 5)
    left, _right = house.stream.split(FIRST)
    with pytest.raises(Transient, match="parents 0001"):
        _run(house, initialize(left), process(_plain(house, 2, 5, left)))
    waits = [fact for fact in house.facts.told if isinstance(fact, ParentsAwaited)]
    assert waits[0] == ParentsAwaited("0002", left, 1)
    assert house.clock.monotonic() >= 60
    assert house.ledger.rows == {}
    _run(house, initialize(FIRST), process(records), bare("shardEnded"))
    daemon = _run(house, initialize(left), process(house.stream.by_id[left].records), bare("shardEnded"))
    assert daemon.checkpoints == [None]
    assert [row.shard_end for row in house.ledger.rows.values()] == [True, True]


def test_a_parent_that_ends_meanwhile() -> None:
    """The wait ends as soon as the parent does."""
    house = Deployment(max_rows=1_000)
    records = _plain(house, 5)
    left, _right = house.stream.split(FIRST)

    def pause(seconds: float) -> None:
        house.clock.advance(seconds)
        if not house.ledger.rows:
            _run(house, initialize(FIRST), process(records), bare("shardEnded"))

    house.clock.pause = pause  # type: ignore[method-assign]
    daemon = _run(house, initialize(left))
    assert [one["responseFor"] for one in daemon.said] == ["initialize"]
    assert sum(isinstance(fact, ParentsAwaited) for fact in house.facts.told) == 1


def test_a_shard_of_another_stream() -> None:
    """A lease for a shard that the stream does not have is no shard of ours."""
    with pytest.raises(NotFound, match="shardId-7"):
        _run(Deployment(), initialize("shardId-7"))


def test_a_daemon_that_does_not_begin_at_the_beginning() -> None:
    """Records before `initialize` are nobody's; neither is a checkpoint that nobody asked for."""
    with pytest.raises(HeadraceError, match="not with initialize"):
        _run(Deployment(), process([]))
    held = {"action": "checkpoint", "sequenceNumber": None, "subSequenceNumber": None, "error": None}
    with pytest.raises(HeadraceError, match="unasked"):
        _run(Deployment(), initialize(FIRST), held)
