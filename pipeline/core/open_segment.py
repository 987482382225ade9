"""The segment that is being filled: raw records, and what they became."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import groupby
from types import MappingProxyType

import numpy as np
from msgspec import UNSET

from pipeline.core.apart import Packed
from pipeline.core.chunks import Chunk, build_chunk
from pipeline.core.days import DAY_US, EPOCH
from pipeline.core.decode import Decoded, Decoder
from pipeline.core.event import Record, Refusal, RefusalCode, Row
from pipeline.core.kpl import is_aggregate
from pipeline.core.schema import TypeSchema
from pipeline.core.segment import Counts, Position
from pipeline.core.slots import parse_label
from pipeline.core.subsequence import user_record
from pipeline.core.tracing import TracedEvent, parse_traceparent
from pipeline.core.window import Fingerprints

_MICROSECOND = timedelta(microseconds=1)
_NONE: Mapping[tuple[str, int], str] = MappingProxyType({})
MAX_TRACED = 128  # events of a segment whose spans are told: a flood of traced ones costs no more
_ALL_PARTS = 2**31 - 1  # of an aggregate that was refused whole: KCL may take apart what we do not


def unit_key(record: Record) -> tuple[str, int]:
    """Return what names a record, or the part of one that KCL took out of an aggregate."""
    return record.sequence_number, record.subsequence_number or 0


class OpenSegment:
    """Records in stream order and their rows and refusals.

    Attributes:
        records: raw, kept until a committed segment covers them.
        chunks: accepted rows as columns.
        refusals: refused units, whole.
        partitions: the (event type, day) pairs touched: one data file each.
        traced: events of sampled requests, the first `MAX_TRACED` of them.
    """

    def __init__(
        self, decoder: Decoder, types: Mapping[str, TypeSchema], packed: Packed | None = None
    ) -> None:
        self._decoder, self._types, self._packed = decoder, types, packed or Packed()
        self.records: list[Record] = []
        self.chunks: list[Chunk] = []
        self.refusals: list[Refusal] = []
        self.partitions: set[tuple[str, int]] = set()
        self.traced: list[TracedEvent] = []
        self.ranges = 0  # what `batch_ranges` would make of the labels so far
        self._labels: set[tuple[str, int, int]] = set()
        self._refused_whole = -1  # the last aggregate that was not taken apart
        self._counted = ""  # the last Kinesis record whose label was counted
        self.units = 0
        self.bytes = 0

    @property
    def rows(self) -> int:
        """Return the number of accepted rows."""
        return self.units - len(self.refusals)

    @property
    def last(self) -> Position | None:
        """Return the position of the last unit.

        The sub-sequence number is that of the record's last unit, also where we took the aggregate apart: whoever
        reads the shard next, whole records or parts, finds all of it covered.
        """
        if not self.records:
            return None
        last = len(self.records) - 1
        if last == self._refused_whole:
            return Position(self.records[last].sequence_number, _ALL_PARTS)
        units = [(one.record, one.subsequence_number) for one in self.refusals[-1:]]
        for rows in [chunk.common.slice(chunk.common.num_rows - 1) for chunk in self.chunks[-1:]]:
            units += zip(rows["record"].to_pylist(), rows["subsequence_number"].to_pylist(), strict=True)
        inner = max(user_record(number) for record, number in units if record == last)
        return Position(self.records[last].sequence_number, inner)

    def add(self, records: Sequence[Record], deadly: Mapping[tuple[str, int], str] = _NONE) -> None:
        """Decode records and keep them; those that are `deadly` are refused whole, not looked at, with what is said of them."""
        if deadly:
            for is_deadly, run in groupby(records, lambda one: unit_key(one) in deadly):
                if is_deadly:
                    self._refuse(list(run), deadly)
                else:
                    self._decode(list(run))
        else:
            self._decode(records)

    def _refuse(self, records: Sequence[Record], deadly: Mapping[tuple[str, int], str]) -> None:
        for record in records:
            index, inner = len(self.records), record.subsequence_number or 0
            self.refusals.append(
                Refusal(RefusalCode.KILLS_WORKER, "", deadly[unit_key(record)], record.data, index, inner)
            )
            self._keep([record])
            self._note_whole()
        self.units += len(records)

    def _decode(self, records: Sequence[Record]) -> None:
        decoded = Decoded(taken=self._take, packed=self._packed)
        first = len(self.records)
        self._keep(records)  # before its rows are taken: they name their records
        self.units += self._decoder.decode(records, first, decoded)
        self.bytes += decoded.inflated_bytes
        self.refusals += decoded.refusals
        if decoded.rows:
            self._take(decoded.rows)
        if self.refusals and self.refusals[-1].code == RefusalCode.BAD_AGGREGATE:
            self._note_whole()

    def _note_whole(self) -> None:
        """Call when the last refusal is a record's own, and not that of a part: remember the aggregate it may be."""
        index = self.refusals[-1].record
        record = self.records[index]
        if record.subsequence_number is None and is_aggregate(record.data):
            self._refused_whole = index

    def _take(self, rows: list[Row]) -> None:
        self._note_traced([row for row in rows if row.envelope.traceparent is not UNSET])
        chunk = build_chunk(rows, self._types)
        self.chunks.append(chunk)
        days = chunk.common.column("event_time").cast("int64").to_numpy() // DAY_US
        for event_type, typed in chunk.typed.items():
            touched = np.unique(days[typed.rows.to_numpy()])
            self.partitions.update((event_type, int(day)) for day in touched)

    def _note_traced(self, rows: list[Row]) -> None:
        """Remember events whose request somebody traces."""
        for row in rows[: MAX_TRACED - len(self.traced)]:
            one = row.envelope
            parent = parse_traceparent(str(one.traceparent))
            if parent is not None and parent.sampled:
                self.traced.append(
                    TracedEvent(
                        parent=parent,
                        tenant_id=one.tenant_id,
                        event_id=one.event_id,
                        entity_id=one.entity_id,
                        event_type=one.event_type,
                        event_time_us=(one.event_time - EPOCH) // _MICROSECOND,
                        arrived_us=self.records[row.record].arrived_us,
                    )
                )

    def _keep(self, records: Sequence[Record]) -> None:
        self.records += records
        self._count_ranges(records)
        self.bytes += sum(len(record.data) for record in records)

    def _count_ranges(self, records: Sequence[Record]) -> None:
        for record in records:
            if record.sequence_number == self._counted:  # taken apart by KCL: many units, one label
                continue
            self._counted = record.sequence_number
            label = parse_label(record.partition_key)
            if label is None:
                continue
            here = (label.producer, label.slot, label.number)
            if here not in self._labels:
                self.ranges -= (*here[:2], here[2] - 1) in self._labels
                self.ranges -= (*here[:2], here[2] + 1) in self._labels
                self._labels.add(here)
            self.ranges += 1

    def fingerprints(self) -> Fingerprints:
        """Return the fingerprints of the accepted rows, in stream order."""
        empty = np.empty(0, dtype=np.uint64)
        return Fingerprints(
            np.concatenate([empty, *(chunk.prints.high for chunk in self.chunks)]),
            np.concatenate([empty, *(chunk.prints.low for chunk in self.chunks)]),
        )

    def plain_units(self) -> int:
        """Return the units of records that carry no batch label: nobody gave a receipt for them."""
        plain = np.array([parse_label(record.partition_key) is None for record in self.records])
        if not plain.any():
            return 0
        rows = sum(int(plain[chunk.common.column("record").to_numpy()].sum()) for chunk in self.chunks)
        return rows + sum(bool(plain[refusal.record]) for refusal in self.refusals)

    def counts(self, duplicates: int, files: int, size_bytes: int) -> Counts:
        """Return the ledger's counts of this segment."""
        return Counts(
            records=len({record.sequence_number for record in self.records}),
            units=self.units,
            rows=self.rows,
            duplicates=duplicates,
            quarantined=len(self.refusals),
            plain_units=self.plain_units(),
            files=files,
            bytes=size_bytes,
        )
