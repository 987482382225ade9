"""How many events a tenant has: from aggregates, from the index for one entity, from rows where neither can say."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pipeline.core.aggregate import Aggregate
from pipeline.core.count import (
    Answer,
    Question,
    Tally,
    TypeDay,
    by_day,
    from_aggregates,
    quarantined_groups,
)
from pipeline.core.find import Run, day_span, file_runs, partitions_to_ask
from pipeline.core.keys import QUARANTINE_TABLE
from pipeline.core.manifest import DataFile
from pipeline.core.segment import SealState
from pipeline.flows.find import FindPorts, count_run, runs_of_entity

AGGREGATES, INDEX, ROWS = "aggregates", "index", "rows"  # what an answer is made from


def count_events(tenant_id: str, question: Question, event_types: Sequence[str], ports: FindPorts) -> Answer:
    """Return exact counts of a tenant's events.

    Args:
        tenant_id: whose.
        question: which events, grouped how.
        event_types: all that are known, that of unknown types included; stored ones are added. The question's own is
            asked alone.
        ports: what is read.

    Raises:
        Corrupt: index or manifest name rows that are gone or belong to somebody else.
        Transient: try again.
    """
    seal, tally = ports.ledger.seal_state(), Tally()
    if question.entity_id is not None:
        tally.basis.add(INDEX)
        runs = runs_of_entity(tenant_id, question.entity_id, question, seal, ports)
        _count(tenant_id, [(run, question) for run in runs], tally, ports, INDEX)
        return tally.answer(question)
    if question.event_type is not None:
        types = [question.event_type]
    else:
        types = sorted({*event_types, *stored_types(ports)})
    tally.basis.add(AGGREGATES)
    left = _count_aggregates(tenant_id, question, types, seal, tally, ports)
    if left:
        parts = list(_runs_of_cells(tenant_id, left, question, seal, ports))
        _count(tenant_id, parts, tally, ports, ROWS)
    return tally.answer(question)


def stored_types(ports: FindPorts) -> set[str]:
    """Return the event types that have data files, also those whose schema is gone."""
    found = {name.rpartition("#")[0] for name in ports.manifest.partitions()}
    return found - {QUARANTINE_TABLE}


def _count_aggregates(
    tenant_id: str, question: Question, types: Sequence[str], seal: SealState, tally: Tally, ports: FindPorts
) -> list[TypeDay]:
    """Count what aggregates answer; return the cells whose rows must be asked."""
    first_dt, last_dt = question.span.first_dt, question.span.last_dt

    def ask(event_type: str) -> list[Aggregate]:
        return ports.aggregates.find(f"{tenant_id}#{event_type}", first_dt, last_dt)

    left = []
    for event_type, items in zip(types, ports.each(ask, types), strict=True):
        tally.quarantined += quarantined_groups(items, event_type, question.by)
        for cell, held in by_day(items, event_type, seal).items():
            groups = from_aggregates(cell, held, question)
            if groups is None:
                left.append(cell)
            else:
                tally.add(groups, AGGREGATES)
    return left


def _runs_of_cells(
    tenant_id: str, cells: Sequence[TypeDay], question: Question, seal: SealState, ports: FindPorts
) -> Iterator[tuple[Run, Question]]:
    """Yield the runs of some cells, each with the question as it is put to that cell."""
    listed = ports.manifest.partitions()
    names = {cell: partitions_to_ask(listed, [cell.event_type], seal, day_span(cell.dt)) for cell in cells}
    files: dict[str, list[DataFile]] = defaultdict(list)
    for file in ports.manifest.files(*{name for found in names.values() for name in found}):
        files[file.partition].append(file)
    for cell in cells:
        span = question.span.within(day_span(cell.dt))
        held = [file for name in names[cell] for file in files[name]]
        for run in file_runs(tenant_id, held, seal, span):
            yield run, replace(question, span=span)


def _count(
    tenant_id: str, parts: Sequence[tuple[Run, Question]], tally: Tally, ports: FindPorts, basis: str
) -> None:
    """Count runs, each by what is known of it (`basis`) or by its rows."""
    for groups, by_rows in ports.each(lambda part: count_run(tenant_id, part[0], part[1], ports), parts):
        tally.add(groups, ROWS if by_rows else basis)
