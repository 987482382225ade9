"""The segment that is being filled: raw records, and what they became."""

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.core.chunks import Chunk, build_chunk
from pipeline.core.days import DAY_US
from pipeline.core.decode import Decoded, Decoder
from pipeline.core.event import Record, Refusal
from pipeline.core.schema import TypeSchema
from pipeline.core.segment import Counts
from pipeline.core.slots import parse_label
from pipeline.core.window import Fingerprints


class OpenSegment:
    """Records in stream order and their rows and refusals.

    Attributes:
        records: raw, kept until a committed segment covers them.
        chunks: accepted rows as columns.
        refusals: refused units, whole.
        partitions: the (event type, day) pairs touched: one data file each.
    """

    def __init__(self, decoder: Decoder, types: Mapping[str, TypeSchema]) -> None:
        self._decoder, self._types = decoder, types
        self.records: list[Record] = []
        self.chunks: list[Chunk] = []
        self.refusals: list[Refusal] = []
        self.partitions: set[tuple[str, int]] = set()
        self.ranges = 0  # what `batch_ranges` would make of the labels so far
        self._labels: set[tuple[str, int, int]] = set()
        self._counted = ""  # the last Kinesis record whose label was counted
        self.units = 0
        self.bytes = 0

    @property
    def rows(self) -> int:
        """Return the number of accepted rows."""
        return self.units - len(self.refusals)

    def add(self, records: Sequence[Record]) -> None:
        """Decode records and keep them."""
        decoded = Decoded()
        self.units += self._decoder.decode(records, len(self.records), decoded)
        self.records += records
        self._count_ranges(records)
        self.bytes += sum(len(record.data) for record in records)
        self.refusals += decoded.refusals
        if decoded.rows:
            chunk = build_chunk(decoded.rows, self._types)
            self.chunks.append(chunk)
            days = chunk.common.column("event_time").cast("int64").to_numpy() // DAY_US
            for event_type, typed in chunk.typed.items():
                touched = np.unique(days[typed.rows.to_numpy()])
                self.partitions.update((event_type, int(day)) for day in touched)

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
