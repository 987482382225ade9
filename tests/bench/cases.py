"""What is measured. Every case returns rows of (name, value, unit, against): ratios are from one and the same run."""

import base64
import contextlib
import io
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import duckdb
from aws_kinesis_agg.aggregator import RecordAggregator
from aws_kinesis_agg.deaggregator import deaggregate_records

from pipeline.config import load_settings
from pipeline.core.decode import Decoder
from pipeline.core.encode import Place, encode_refusals, encode_rows
from pipeline.core.event import Record
from pipeline.core.keys import SegmentRef
from pipeline.core.kpl import split
from pipeline.core.open_segment import OpenSegment
from pipeline.core.rules import Rules
from pipeline.core.segment import Lineage, SealState
from pipeline.core.window import Window
from pipeline.core.window_reach import SegmentAge
from tests.bench.daemon import daemon
from tests.bench.data import bench_rules, events, records
from tests.bench.figure import Figure, paired
from tests.bench.hostile import hostile
from tests.bench.http import http, http_memory
from tests.bench.http_client import http_client
from tests.bench.kcl import kcl
from tests.bench.limits import checks, neighbour
from tests.bench.packed import packed
from tests.bench.producing import producer
from tests.bench.replay import replay
from tests.bench.trusting import credentials, repeated_requests
from tests.bench.window import SEGMENT_ROWS, duplicate_window

PLACE = Place(Lineage("bench-0-shard", "0001", "bench", "shard"), 1, SealState())


def load(rules: Rules, wire: Sequence[Record]) -> int:
    """Wire bytes to Parquet bytes, as the loader does it: decode, validate, dedupe, sort, columns, Parquet."""
    decoder, window, size = Decoder(rules), Window(), 0
    held, ordinal = OpenSegment(decoder, rules.schemas), 1
    for start in range(0, len(wire), 4):
        held.add(wire[start : start + 4])
        if held.rows >= SEGMENT_ROWS or start + 4 >= len(wire):
            prints = held.fingerprints()
            flags = window.seen(prints)
            size += sum(len(body) for _, body in encode_rows(held.chunks, flags, held.records, PLACE).files)
            if encode_refusals(held.refusals, held.records, PLACE):
                raise AssertionError("the bench's events are all good")
            window.add(SegmentAge(SegmentRef("0001", ordinal), ordinal, len(prints)), prints)
            held, ordinal = OpenSegment(decoder, rules.schemas), ordinal + 1
    return size


def loader_against_duckdb(count: int, rounds: int) -> list[Figure]:
    """The loader's processor time per event against DuckDB's own NDJSON -> Parquet, one thread each."""
    rules, payloads = bench_rules(load_settings().paths.schemas), events(count)
    wire = records(payloads)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "events.ndjson", Path(folder) / "events.parquet"
        source.write_bytes(b"\n".join(payloads) + b"\n")
        connection = duckdb.connect(config={"threads": 1})

        def by_duckdb() -> None:
            connection.execute(
                f"COPY (SELECT * FROM read_json('{source}', format='newline_delimited')) "
                f"TO '{target}' (FORMAT parquet, COMPRESSION zstd)"
            )

        load(rules, wire[:20])
        ours, theirs, ratio = paired(lambda: load(rules, wire), by_duckdb, rounds)
    mean = sum(map(len, payloads)) / count
    return [
        Figure("event size", mean, "bytes"),
        Figure("loader, wire to Parquet, validated, deduplicated, sorted", ours / count * 1e6, "us/event"),
        Figure("DuckDB, NDJSON to Parquet, unvalidated", theirs / count * 1e6, "us/event"),
        Figure("loader / DuckDB", ratio, "x", "<= 2"),
    ]


def kpl(count: int, rounds: int) -> list[Figure]:
    """Aggregates, encoded and decoded, against aws_kinesis_agg's own classes."""
    payloads = events(count)
    wire = records(payloads)
    about = {"kinesisSchemaVersion": "1.0", "sequenceNumber": "1", "partitionKey": "k"}
    foreign = [
        {"kinesis": {**about, "approximateArrivalTimestamp": 0, "data": base64.b64encode(record.data)}}
        for record in wire
    ]

    def encode_ours() -> None:
        records(payloads)

    def encode_theirs() -> None:
        aggregator = RecordAggregator()
        for payload in payloads:
            aggregator.add_user_record("k", payload, "0")

    def decode_theirs() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            for one in foreign:
                deaggregate_records([one])

    def decode_ours() -> None:
        for record in wire:
            split(record.data)

    out, out_theirs, out_ratio = paired(encode_ours, encode_theirs, rounds)
    back, back_theirs, back_ratio = paired(decode_ours, decode_theirs, rounds)
    return [
        Figure("KPL encode", out / count * 1e6, "us/event"),
        Figure("KPL encode, aws_kinesis_agg", out_theirs / count * 1e6, "us/event"),
        Figure("KPL encode / aws_kinesis_agg", out_ratio, "x"),
        Figure("KPL decode", back / count * 1e6, "us/event"),
        Figure("KPL decode, aws_kinesis_agg", back_theirs / count * 1e6, "us/event"),
        Figure("KPL decode / aws_kinesis_agg", back_ratio, "x"),
    ]


def loader_memory(count: int, rounds: int) -> list[Figure]:
    """A loader process over ten segments at the default limits: flat, and at most 350 MB."""
    del rounds
    command = [sys.executable, "-m", "tests.bench.memory", str(count)]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    sizes, peak = [float(size) for size in found[:-1]], float(found[-1])
    middle = len(sizes) // 2
    growth = statistics.median(sizes[middle:]) / statistics.median(sizes[1:middle])
    return [
        Figure(f"loader memory, peak over {len(sizes)} segments", peak, "MB", "<= 350"),
        Figure("loader memory, second half / first half", growth, "x", "about 1"),
    ]


class Case(NamedTuple):
    """One bench: what to run, with how many events, whole and quick."""

    run: Callable[[int, int], list[Figure]]
    events: int
    quick_events: int


CASES = {
    "loader": Case(loader_against_duckdb, 300_000, 30_000),
    "kpl": Case(kpl, 100_000, 10_000),
    "kcl": Case(kcl, 200_000, 40_000),
    "daemon": Case(daemon, 300_000, 60_000),
    "producer": Case(producer, 300_000, 30_000),
    "window": Case(duplicate_window, 5_000_000, 500_000),
    "hostile": Case(hostile, 1, 1),
    "packed": Case(packed, 10_000_000, 1_000_000),
    "replay": Case(replay, 400_000, 40_000),
    "credentials": Case(credentials, 20_000, 2_000),
    "idempotency": Case(repeated_requests, 20_000, 2_000),
    "http": Case(http, 8_000, 2_000),
    "http_client": Case(http_client, 200_000, 20_000),
    "http-memory": Case(http_memory, 150, 15),
    "checks": Case(checks, 50_000, 20_000),
    "neighbour": Case(neighbour, 1, 1),
    "memory": Case(loader_memory, 700_000, 140_000),
}
