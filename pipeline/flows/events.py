"""The events of an entity, or of a type, in the order in which they happened."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.columns import envelope_schema
from pipeline.core.count import Question, from_run
from pipeline.core.filed import times_of
from pipeline.core.find import Run, chosen_rows
from pipeline.core.subsequence import stream_order
from pipeline.flows.find import FindPorts, read_run, runs_of_entity, runs_of_types

_WAVE_RUNS, _WAVE_ROWS = 16, 20_000  # read at once, before what is settled is given out
_GIVEN_ROWS = 1_000  # made into dicts at once: they take ten times the memory of Arrow
_SEQUENCE_DIGITS = 129  # of a Kinesis sequence number at most
_ORDER = ("time_us", "padded_sequence", "unit_order", "key", "row")


class Event(NamedTuple):
    """One stored row: what it is, where it lies, and its envelope columns by name."""

    time_us: int
    event_type: str
    key: str
    row: int
    columns: dict[str, Any]


class EventSearch:
    """A tenant's events in the order (event time, position), read as they are given out; key and row settle ties.

    Memory: the rows of one wave, which are 20,000 or one run if that is longer, and, of what was read before, the rows
    that are not earlier than the next run begins; of these no more than `limit`. All as Arrow, save a thousand events.

    Attributes:
        shown: how many were given out.
        total: how many there are; known once `events` has ended.
        exact: False when there may be more than `total`: rows that nobody asked for would have had to be read.
    """

    def __init__(
        self, tenant_id: str, question: Question, limit: int | None, ports: FindPorts, *, duplicates: bool
    ) -> None:
        self._tenant_id, self._question, self._ports = tenant_id, question, ports
        self._limit, self._duplicates = limit, duplicates
        self.shown = self.total = 0
        self.exact = True

    def events(self) -> Iterator[Event]:
        """Yield the events, at most `limit`; read once.

        Raises:
            Corrupt: index or manifest name rows that are gone or belong to somebody else.
            Transient: try again.
        """
        runs, pending = self._runs(), list[pa.Table]()
        while runs and self.shown != self._limit:
            length = _wave(runs)
            wave, runs = runs[:length], runs[length:]
            for found, matched in self._ports.each(self._read, wave):
                pending.append(found)
                self.total += matched
            table = pa.concat_tables(pending).sort_by([(name, "ascending") for name in _ORDER])
            table = table if self._limit is None else table.slice(0, self._limit - self.shown)
            times = table.column("time_us").to_numpy()
            settled = int(np.searchsorted(times, runs[0].from_us)) if runs else len(times)
            pending = [table.slice(settled)]
            self.shown += settled
            yield from _given_out(table.slice(0, settled))
        for run in runs:
            self._count(run)

    def _runs(self) -> list[Run]:
        tenant_id, question, ports = self._tenant_id, self._question, self._ports
        seal = ports.ledger.seal_state()
        if question.entity_id is not None:
            found = runs_of_entity(tenant_id, question.entity_id, question, seal, ports)
        else:
            types = None if question.event_type is None else [question.event_type]
            found = runs_of_types(tenant_id, types, question.span, seal, ports)
        return [run for run in found if run.events(duplicates=self._duplicates)]

    def _read(self, run: Run) -> tuple[pa.Table, int]:
        """Return the first events of a run that are asked for, with their order, and how many there are in it."""
        names = envelope_schema().names
        table = read_run(self._tenant_id, run, names, self._ports).select(names)
        chosen = chosen_rows(self._tenant_id, table, self._question.span, self._question.source)
        if not self._duplicates:
            chosen &= ~np.asarray(table.column("is_duplicate").to_numpy(), dtype=np.bool_)
        rows = np.flatnonzero(chosen)
        times = times_of(table)
        matched = len(rows)
        if self._limit is not None and matched > self._limit:  # no more of them can be among the first
            rows = rows[times[rows] <= np.partition(times[rows], self._limit - 1)[self._limit - 1]]
        found = table.take(pa.array(rows))  # a copy: the rest of the run is let go
        sequence = pc.ascii_lpad(found.column("sequence_number"), width=_SEQUENCE_DIGITS, padding="0")
        found = found.append_column("time_us", pa.array(times[rows])).append_column(
            "padded_sequence", sequence
        )
        units = stream_order(found.column("subsequence_number").to_numpy())
        found = found.append_column("unit_order", pa.array(units))
        found = found.append_column("key", pa.repeat(run.key, len(rows)))
        found = found.append_column("event_type", pa.repeat(run.event_type, len(rows)))
        return found.append_column("row", pa.array(run.first_row + rows)), matched

    def _count(self, run: Run) -> None:
        """Add a run that is not shown to the total, if that is known without its rows."""
        groups = from_run(run, replace(self._question, by=None))
        if groups is None:
            self.exact = False
        else:
            self.total += sum(one.events + one.duplicates * self._duplicates for one in groups.values())


def _wave(runs: Sequence[Run]) -> int:
    """Return how many runs are read next: those that have rows enough for a wave, and one at least."""
    rows = np.cumsum([run.rows for run in runs[:_WAVE_RUNS]])
    return max(int(np.searchsorted(rows, _WAVE_ROWS, side="right")), 1)


def _given_out(table: pa.Table) -> Iterator[Event]:
    names = envelope_schema().names
    for first in range(0, table.num_rows, _GIVEN_ROWS):
        part = table.slice(first, _GIVEN_ROWS)
        places = [part.column(name).to_pylist() for name in ("time_us", "event_type", "key", "row")]
        yield from map(Event, *places, part.select(names).to_pylist())
