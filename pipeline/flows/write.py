"""Steps 6 and 7 of the segment protocol: write what a staging object says, then commit.

Every effect may be repeated any number of times, by anyone: nothing here looks at the stream, at a schema or at
the duplicate window.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from pipeline.core.errors import Corrupt, NotFound
from pipeline.core.keys import staged_digest
from pipeline.core.segment import Segment
from pipeline.core.staging import Effects, StagedObject, unstage
from pipeline.facts import FactSink, GapFound, SegmentFinished
from pipeline.flows.retrying import again
from pipeline.ports.aggregates import Aggregates
from pipeline.ports.clock import Clock
from pipeline.ports.index import EntityIndex
from pipeline.ports.ledger import Ledger
from pipeline.ports.manifest import Manifest
from pipeline.ports.objects import Objects
from pipeline.ports.probe import Probe
from pipeline.ports.spans import SpanSink, nowhere


@dataclass(frozen=True)
class WritePorts:
    """What writing needs. `each` calls a function for every item, in any order, several at once if it likes.

    `probe` is the loader's alone: None where a record that kills the process is left to a person. `computing` is entered
    while one thread computes over a batch and waits for nobody.
    """

    ledger: Ledger
    objects: Objects
    manifest: Manifest
    index: EntityIndex
    aggregates: Aggregates
    clock: Clock
    facts: FactSink
    each: Callable[[Callable[[Any], None], Iterable[Any]], None]
    probe: Probe | None = None
    spans: SpanSink = nowhere
    computing: Callable[[], AbstractContextManager[None]] = nullcontext


def write(effects: Effects, ports: WritePorts) -> None:
    """Make a planned segment's effects true (step 6).

    Raises:
        Corrupt: an object of this segment exists with other bytes.
    """

    def write_object(staged: StagedObject) -> None:
        put_once(staged, ports)

    ports.each(write_object, effects.objects)
    for name, put in (
        ("manifest", lambda: ports.manifest.put_all(effects.entries)),
        ("index", lambda: ports.index.put_all(effects.index)),
        ("aggregates", lambda: ports.aggregates.put_newer(effects.aggregates)),
    ):
        again(name, put, clock=ports.clock, facts=ports.facts)


def put_once(staged: StagedObject, ports: WritePorts) -> None:
    """Write one object unless it is there already.

    Raises:
        Corrupt: it is there with another digest; nobody may decide by himself which one is right.
    """
    found = again(
        "object",
        lambda: ports.objects.put_if_absent(staged.key, staged.body, staged.digest),
        clock=ports.clock,
        facts=ports.facts,
    )
    if found is not None and found != staged.digest:
        raise Corrupt(
            f"object {staged.key} exists with digest {found or 'none'}, not {staged.digest}: "
            "two writers disagree; stop the loaders and run `headrace audit`"
        )


def commit(segment: Segment, ports: WritePorts) -> bool:
    """Turn planned into committed (step 7); True when it was done here.

    A gap is told before: a process that dies in between, or an answer that is lost, costs a second alarm and never the only
    one.
    """
    if segment.gap is not None:
        gap = segment.gap
        ports.facts(
            GapFound(
                lineage=segment.lineage,
                ordinal=segment.ordinal,
                from_us=gap.from_us,
                until_us=gap.until_us,
                seconds=round((gap.until_us - gap.from_us) / 1e6, 3),
            )
        )
    return again(
        "commit", lambda: ports.ledger.commit(segment.committed()), clock=ports.clock, facts=ports.facts
    )


def finish(segment: Segment, ports: WritePorts) -> None:
    """Finish a segment that somebody planned: read its staging object, write, commit. Anyone may.

    Raises:
        Corrupt: the staging object is gone, or is not what its name says.
    """
    try:
        staged = again(
            "staging", lambda: ports.objects.get(segment.staging_key), clock=ports.clock, facts=ports.facts
        )
    except NotFound as exc:
        raise Corrupt(
            f"segment {segment.lineage}/{segment.ordinal} is planned, but its staging object {segment.staging_key} "
            "is gone: see docs/operations.md, `A planned segment whose staging object is gone`"
        ) from exc
    write(unstage(staged, staged_digest(segment.staging_key)), ports)
    if not commit(segment, ports):
        return
    counts = segment.counts
    ports.facts(
        SegmentFinished(
            lineage=segment.lineage,
            ordinal=segment.ordinal,
            records=counts.records,
            rows=counts.rows,
            duplicates=counts.duplicates,
            quarantined=counts.quarantined,
            files=counts.files,
            bytes=counts.bytes,
        )
    )
