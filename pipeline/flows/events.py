"""The events of an entity, or of a type, in the order in which they happened."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.core.columns import envelope_schema
from pipeline.core.count import Question
from pipeline.core.find import Run, chosen_rows
from pipeline.flows.find import FindPorts, count_run, read_run, runs_of_entity, runs_of_types

_WAVE = 16  # runs read at once, before what is settled is given out


class Event(NamedTuple):
    """One stored row: what it is, where it lies, and its envelope columns by name."""

    time_us: int
    event_type: str
    key: str
    row: int
    columns: dict[str, Any]

    @property
    def order(self) -> tuple[Any, ...]:
        """Return what events are sorted by: event time, then position; key and row settle what is left."""
        position = (int(self.columns["sequence_number"]), self.columns["subsequence_number"])
        return self.time_us, *position, self.key, self.row


class EventSearch:
    """A tenant's events in the order (event time, position), read as they are given out.

    Attributes:
        shown: how many were given out.
        total: how many there are; known once `events` has ended.
    """

    def __init__(
        self, tenant_id: str, question: Question, limit: int | None, ports: FindPorts, *, duplicates: bool
    ) -> None:
        self._tenant_id, self._question, self._ports = tenant_id, question, ports
        self._limit, self._duplicates = limit, duplicates
        self.shown = self.total = 0

    def events(self) -> Iterator[Event]:
        """Yield the events, at most `limit`; read once.

        Raises:
            Corrupt: index or manifest name rows that are gone or belong to somebody else.
            Transient: try again.
        """
        runs, pending = self._runs(), list[Event]()
        while runs and self.shown != self._limit:
            wave, runs = runs[:_WAVE], runs[_WAVE:]
            for found, matched in self._ports.each(self._read, wave):
                pending += found
                self.total += matched
            pending.sort(key=lambda one: one.order)
            settled = sum(one.time_us < runs[0].from_us for one in pending) if runs else len(pending)
            ready = pending[: settled if self._limit is None else min(settled, self._limit - self.shown)]
            pending = pending[len(ready) :]
            self.shown += len(ready)
            yield from ready
        self.total += sum(self._ports.each(self._count, runs))

    def _runs(self) -> list[Run]:
        tenant_id, question, ports = self._tenant_id, self._question, self._ports
        seal = ports.ledger.seal_state()
        if question.entity_id is not None:
            found = runs_of_entity(tenant_id, question.entity_id, question, seal, ports)
        else:
            types = None if question.event_type is None else [question.event_type]
            found = runs_of_types(tenant_id, types, question.span, seal, ports)
        return [run for run in found if run.events(duplicates=self._duplicates)]

    def _read(self, run: Run) -> tuple[list[Event], int]:
        """Return the first events of a run that are asked for, and how many there are in it."""
        names = envelope_schema().names
        table = read_run(self._tenant_id, run, names, self._ports).select(names)
        chosen = chosen_rows(self._tenant_id, table, self._question.span, self._question.source)
        if not self._duplicates:
            chosen &= ~np.asarray(table.column("is_duplicate").to_numpy(), dtype=np.bool_)
        rows = np.flatnonzero(chosen)
        times = table.column("event_time").cast(pa.int64()).to_numpy()
        matched = len(rows)
        if self._limit is not None and matched > self._limit:  # no more of them can be among the first
            rows = rows[times[rows] <= np.partition(times[rows], self._limit - 1)[self._limit - 1]]
        values = table.take(pa.array(rows)).to_pylist()
        return [
            Event(int(times[row]), run.event_type, run.key, run.first_row + int(row), columns)
            for row, columns in zip(rows, values, strict=True)
        ], matched

    def _count(self, run: Run) -> int:
        groups, _ = count_run(self._tenant_id, run, replace(self._question, by=None), self._ports)
        return sum(one.events + one.duplicates * self._duplicates for one in groups.values())
