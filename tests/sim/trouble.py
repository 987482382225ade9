"""Two troubles from outside: records that kill the worker, and a stream that drops what nobody has read."""

from collections.abc import Iterable, Iterator, Sequence

from greenlet import GreenletExit

from pipeline.core.decode import Decoded, Decoder
from pipeline.core.event import Record
from pipeline.core.rules import Rules
from pipeline.core.segment import Segment
from pipeline.flows.load import Loader
from pipeline.ports.probe import Death
from tests.sim.events import DEADLY, Produced
from tests.sim.invariants import Invariant, ViolatedError, Violation
from tests.sim.world import Shard, World


class DeadlyDecoder(Decoder):
    """Ends the worker at a deadly record, as a crash does: nothing is caught, nothing is told."""

    def decode(self, records: Iterable[Record], first_index: int, into: Decoded) -> int:
        """Decode, or die."""
        found = list(records)
        if any(DEADLY in record.data for record in found):
            raise GreenletExit
        return super().decode(found, first_index, into)


class FakeProbe:
    """Port `Probe`: somebody else dies."""

    def works(self, seconds: float) -> bool:
        """Good events do not kill."""
        return seconds > 0

    def death(self, records: Sequence[Record], seconds: float) -> Death | None:
        """None when none is deadly."""
        del seconds
        return Death("crash", "it kills") if any(DEADLY in record.data for record in records) else None


def arm(loader: Loader, judged_by: Rules) -> None:
    """Let a loader be killed by deadly records."""
    loader._decoder = DeadlyDecoder(judged_by)
    loader._clear()


def watch_note(world: World, effect: str) -> None:
    """After a note: whatever had arrived by then lies at or before a committed end, or in a gap.

    Raises:
        ViolatedError: the note is ahead.
    """
    name, _, short = effect.partition(" ")
    if name != "ledger.note_read":
        return
    until = world.ledger.reading(short).read_until_us
    segments = world.ledger.segments(short)
    ends = [int(one.end.sequence_number) for one in segments if one.end and one.state == "committed"]
    [shard] = [one for one in world.shards if one.lineage.short == short][:1]
    for one in world.produced[shard.lineage.name]:
        early = one.record.arrived_us <= until and int(one.record.sequence_number) > max(ends, default=-1)
        if one.record not in shard.records and one.record.arrived_us <= _begun(world, shard):
            continue  # dropped before anybody read: not promised
        if early and not _in_gap(one, segments, world):
            raise ViolatedError(
                Invariant.WATERMARKS,
                f"{short} is read until {until}, and {one.record.sequence_number} is not",
            )


def _in_gap(one: Produced, segments: list[Segment], world: World) -> bool:
    at, arrived = int(one.record.sequence_number), one.record.arrived_us - world.scenario.jitter_us
    return any(
        (segment.end is None or at > int(segment.end.sequence_number))
        and (at < int(segment.gap.before) if segment.gap.before else arrived <= segment.gap.until_us)
        for segment in segments
        if segment.gap is not None
    )


def _begun(world: World, shard: Shard) -> int:
    """Return when a loader first started on a shard, or on the first of its ancestors."""
    family = world.family(shard.lineage)
    roots = [one.lineage for one in world.shards if one.lineage.name in family and not one.lineage.parents]
    return max(world.ledger.reading(one.short).begun_us for one in roots)


def settle_gaps(world: World) -> Iterator[Violation]:
    """Take out of what was produced what lies in a named gap: the rest is all there. Gaps never overlap.

    Not promised either, and noted in the world: what had arrived before the first start on a shard, and was dropped before
    anything was committed.
    """
    stored = {row.place[:2] for file in world.monitor.rows.values() for row in file}
    stored |= {one.place[:2] for file in world.monitor.refusals.values() for one in file}
    slack = world.scenario.jitter_us + max(world.scenario.clock_errors) * 1_000_000
    for shard in world.shards:
        name, short = shard.lineage.name, shard.lineage.short
        segments = world.ledger.segments(short)
        firsts = [int(number) for lineage, number in stored if lineage == short]
        kept = []
        for one in world.produced[name]:
            number = one.record.sequence_number
            dropped = (short, number) not in stored and one.record not in shard.records
            before_all = one.record.arrived_us <= _begun(world, shard) and int(number) < min(
                firsts, default=int(number) + 1
            )
            if dropped and before_all:
                world.unpromised.add((short, number))
            elif not (dropped and _in_gap(one, segments, world)):
                kept.append(one)
        world.produced[name] = kept
        known = 0
        for segment in segments:
            if segment.gap is not None and not known - slack <= segment.gap.from_us <= segment.gap.until_us:
                yield Violation(
                    Invariant.GAPS, f"{short}/{segment.ordinal}: {segment.gap}, known until {known}"
                )
            known = max(known, segment.max_arrival_us, segment.gap.until_us if segment.gap else 0)
