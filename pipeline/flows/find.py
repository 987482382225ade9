"""Finding rows of a tenant: which runs there are, by entity or by type, and reading them.

The seal state is read once, before anything else, and decides for the whole answer which tier of a day counts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa

from pipeline.core.count import Count, Question, columns_for, from_rows, from_run
from pipeline.core.errors import Corrupt, NotFound
from pipeline.core.find import OWNERS, Run, check_owner, entity_runs, file_runs, partitions_to_ask
from pipeline.core.index import partitions_of
from pipeline.core.segment import SealState
from pipeline.core.span import Span
from pipeline.ports.aggregates import Aggregates
from pipeline.ports.index import EntityIndex
from pipeline.ports.ledger import Ledger
from pipeline.ports.manifest import Manifest
from pipeline.ports.reading import Each, ReadRows

T = TypeVar("T")


@dataclass(frozen=True)
class FindPorts:
    """What finding reads.

    Attributes:
        read: called from the threads of `each`.
        progress: told of runs that were read, and how many; called from any thread.
    """

    ledger: Ledger
    manifest: Manifest
    index: EntityIndex
    aggregates: Aggregates
    read: ReadRows
    each: Each
    progress: Callable[[int], None]


def runs_of_entity(
    tenant_id: str, entity_id: str, question: Question, seal: SealState, ports: FindPorts
) -> list[Run]:
    """Return the runs of an entity that may have rows that are asked for, in the order of time."""
    span = question.span
    items = ports.index.find(partitions_of(tenant_id, entity_id), span.first_dt, span.last_dt)
    found = entity_runs(tenant_id, entity_id, items, seal, span)
    return [run for run in found if question.event_type in {None, run.event_type}]


def runs_of_types(
    tenant_id: str, event_types: Sequence[str] | None, span: Span, seal: SealState, ports: FindPorts
) -> list[Run]:
    """Return the runs of some event types (None: of all) in the order of time, out of the manifest."""
    names = partitions_to_ask(ports.manifest.partitions(), event_types, seal, span)
    return file_runs(tenant_id, ports.manifest.files(*names), seal, span)


def read_run(tenant_id: str, run: Run, columns: Sequence[str], ports: FindPorts) -> pa.Table:
    """Return some columns of a run's rows, whose owner has been looked at.

    Raises:
        Corrupt: the file is gone, or a row is of somebody else.
    """
    wanted = list(dict.fromkeys([*OWNERS, *columns]))
    try:
        table = ports.read(run.key, run.first_row, run.rows, wanted)
    except NotFound as exc:
        raise Corrupt(
            f"{run.named_by} points at {run.key}, which the bucket does not hold: run `headrace audit`"
        ) from exc
    check_owner(tenant_id, run, table)
    ports.progress(1)
    return table


def count_run(
    tenant_id: str, run: Run, question: Question, ports: FindPorts
) -> tuple[dict[str, Count], bool]:
    """Count a run by what is known of it, else by its rows; the second value is True when rows were read."""
    known = from_run(run, question)
    if known is not None:
        return dict(known), False
    table = read_run(tenant_id, run, columns_for(question), ports)
    return dict(from_rows(tenant_id, run, table, question)), True
