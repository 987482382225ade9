"""Looking for one event id among a tenant's rows and refused units: where a hint says, or everywhere."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.columns import envelope_schema, quarantine_schema
from pipeline.core.count import Question
from pipeline.core.decode import refused_name
from pipeline.core.errors import Corrupt, NotFound
from pipeline.core.find import Run, day_span, file_runs
from pipeline.core.keys import QUARANTINE_TABLE, data_place, data_segment, ids_key
from pipeline.core.manifest import DataFile
from pipeline.core.redriven import QUARANTINED, is_tier
from pipeline.core.segment import Position, SealState, Segment
from pipeline.core.sighting import Hint, RowPlace, Sighting, covering
from pipeline.core.span import Span
from pipeline.core.window import decode_ids, fingerprints, holds
from pipeline.flows.find import FindPorts, read_run, runs_of_entity, runs_of_types
from pipeline.ports.ledger import Ledger
from pipeline.ports.objects import Objects
from pipeline.ports.receipts import Receipts

_ANY_SEAL = SealState()  # a trace shows what is stored, also where another tier stands in for it
_QUARANTINE = QUARANTINE_TABLE + "#"


@dataclass(frozen=True)
class TracePorts:
    """What a trace reads; `row_group` is that of `flows.rows.RowReader`, called as `find.read` is."""

    find: FindPorts
    objects: Objects
    receipts: Receipts
    row_group: Callable[[str, int], int]


class Decided:
    """What the ledger held when a trace began: the lineages; all segments are read once they are asked for."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.lineages = ledger.lineages()

    @cached_property
    def segments(self) -> list[Segment]:
        """Return every segment of the lineages."""
        return [each for one in self.lineages for each in self._ledger.segments(one.short)]


def look_where(
    tenant_id: str, event_id: str, hint: Hint, decided: Decided, ports: TracePorts
) -> list[Sighting]:
    """Return the sightings where a hint says, in the order of arrival; none without a hint."""
    if hint.kind == "receipt":
        segments = _of_receipt(hint, decided, ports)
        files = ports.find.each(
            lambda one: ports.find.manifest.of_segment(one.lineage, one.ordinal), segments
        )
        return _in_files(tenant_id, event_id, list(chain.from_iterable(files)), ports)
    seal = ports.find.ledger.seal_state()
    if hint.entity_id is not None:
        runs = runs_of_entity(tenant_id, hint.entity_id, Question(), seal, ports.find)
    elif hint.dt is not None:
        runs = runs_of_types(tenant_id, None, day_span(hint.dt), seal, ports.find)
    else:
        runs = []
    return _in_runs(tenant_id, event_id, runs, ports)


def look_in_segment(
    tenant_id: str, event_id: str, lineage: str, ordinal: int, ports: TracePorts
) -> list[Sighting]:
    """Return the sightings in one segment, in the order of arrival."""
    return _in_files(tenant_id, event_id, ports.find.manifest.of_segment(lineage, ordinal), ports)


def _of_receipt(hint: Hint, decided: Decided, ports: TracePorts) -> list[Segment]:
    name, receipts = hint.receipt, [] if hint.acked is None else [hint.acked]
    if name is not None:
        receipts = [one for one in ports.receipts.of(name.producer) if one.number == name.number]
    return covering(receipts[0], decided.lineages, decided.segments) if receipts else []


def look_everywhere(
    tenant_id: str, event_id: str, decided: Decided, ports: TracePorts
) -> tuple[list[Sighting], list[Segment]]:
    """Return all sightings in the order of arrival, and the segments whose ids are there no more.

    Reads the ids of all segments, the newest first, then the data files of those that hold the id; and every
    quarantine file, as refused units have no ids.
    """
    wanted = fingerprints([(tenant_id, event_id)])

    def look(segment: Segment) -> bool | None:
        try:
            ids = decode_ids(ports.objects.get(ids_key(*segment.ref)))
        except NotFound:
            return None
        finally:
            ports.find.progress(1)
        return holds(ids, wanted)

    newest_first = sorted(decided.segments, key=lambda one: one.max_arrival_us, reverse=True)
    asked = [one for one in newest_first if one.counts.rows]
    answers = list(zip(asked, ports.find.each(look, asked), strict=True))
    gone = [one for one, answer in answers if answer is None and one.state == "committed"]
    manifest = ports.find.manifest
    files = [
        file
        for one, answer in answers
        if answer
        for file in manifest.of_segment(one.lineage, one.ordinal)
        if not file.partition.startswith(_QUARANTINE)
    ]
    refused = [name for name in manifest.partitions() if name.startswith(_QUARANTINE)]
    return _in_files(tenant_id, event_id, files + ports.find.manifest.files(*refused), ports), gone


def _in_files(tenant_id: str, event_id: str, files: Sequence[DataFile], ports: TracePorts) -> list[Sighting]:
    refused = [file for file in files if is_tier(file, QUARANTINED)]
    rows = [file for file in files if not file.partition.startswith(_QUARANTINE)]
    runs = file_runs(tenant_id, rows, _ANY_SEAL, Span())
    found = _in_runs(tenant_id, event_id, runs, ports)
    for sightings in ports.find.each(lambda file: _in_refused(tenant_id, event_id, file, ports), refused):
        found += sightings
    return sorted(found, key=lambda one: one.order)


def _in_runs(tenant_id: str, event_id: str, runs: Sequence[Run], ports: TracePorts) -> list[Sighting]:
    found = ports.find.each(lambda run: _in_run(tenant_id, event_id, run, ports), runs)
    return sorted(chain.from_iterable(found), key=lambda one: one.order)


def _in_run(tenant_id: str, event_id: str, run: Run, ports: TracePorts) -> list[Sighting]:
    ids = read_run(tenant_id, run, ["event_id"], ports.find).column("event_id")
    rows = np.flatnonzero(pc.equal(ids, event_id).to_numpy())
    if not len(rows):
        return []
    table = read_run(tenant_id, run, envelope_schema().names, ports.find).take(pa.array(rows))
    found = []
    for row, one in zip(rows.tolist(), _plain(table), strict=True):
        sighting = _sighting(RowPlace(run.key, run.first_row + row), one, ports)
        fields = {name: one[name] for name in ("entity_id", "source")}
        fields |= {"event_time_us": one["event_time"], "event_type": run.event_type}
        found.append(sighting(outcome="duplicate" if one["is_duplicate"] else "accepted", **fields))
    return found


def _in_refused(tenant_id: str, event_id: str, file: DataFile, ports: TracePorts) -> list[Sighting]:
    """Look through a quarantine file, of which a tenant sees the units that carry its name."""
    names = [name for name in quarantine_schema().names if name != "raw"]
    try:
        table = ports.find.read(file.key, 0, file.rows, names)
    except NotFound as exc:
        raise Corrupt(f"the manifest names {file.key}, which is gone: run `headrace audit`") from exc
    finally:
        ports.find.progress(1)
    same = pc.and_(
        pc.equal(table.column("tenant_id"), refused_name(tenant_id)),
        pc.equal(table.column("event_id"), refused_name(event_id)),
    )
    rows = np.flatnonzero(pc.fill_null(same, fill_value=False).to_numpy())
    found = []
    for row, one in zip(rows.tolist(), _plain(table.take(pa.array(rows))), strict=True):
        refusal = (one["code"], one["pointer"], one["message"])
        sighting = _sighting(RowPlace(file.key, row), one, ports)
        found.append(sighting(outcome="quarantined", event_type=one["event_type"], refusal=refusal))
    return found


def _plain(table: pa.Table) -> list[dict[str, Any]]:
    """Return rows as dicts, times as microseconds since the epoch."""
    for at, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            table = table.set_column(at, field.name, table.column(at).cast(pa.int64()))
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _sighting(place: RowPlace, row: dict[str, Any], ports: TracePorts) -> Callable[..., Sighting]:
    """Return what makes a sighting out of what rows and refused units have in common."""
    found, segment = data_place(place.key), data_segment(place.key)
    if found is None or segment is None:
        raise Corrupt(f"{place.key!r} is no key of a data file: run `headrace audit`")

    def make(**fields: Any) -> Sighting:
        return Sighting(
            place=place,
            row_group=ports.row_group(*place),
            tier=found.tier,
            lineage=segment.lineage,
            ordinal=segment.ordinal,
            event_id=row["event_id"],
            arrived_us=row["ingested_time"],
            shard_id=row["shard_id"],
            position=Position(row["sequence_number"], row["subsequence_number"]),
            **fields,
        )

    return make
