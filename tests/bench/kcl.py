"""KCL: what the daemon's protocol costs Python, beside kclpy and beside the reader."""

import importlib.util
import io
import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import botocore.parsers
import botocore.session

from consumers.multilang import Daemon, ProcessRecords, to_records
from pipeline.aws.kinesis import _record
from pipeline.config import load_settings
from pipeline.core.event import Record
from pipeline.core.kpl import split
from pipeline.core.rules import Rules
from pipeline.core.segment import CutLimits, Lineage
from pipeline.core.staging import StagedObject
from pipeline.flows.load import Loader, LoadLimits
from pipeline.flows.window import WindowLimits
from pipeline.flows.write import WritePorts
from pipeline.ports.clock import SystemClock
from tests.bench.data import bench_rules, events, records
from tests.bench.figure import Figure, paired
from tests.bench.null_ports import NullAggregates, NullIndex, NullLedger, NullManifest, NullObjects

_LINEAGE = Lineage("bench-0-shard", "0001", "bench", "shard")
_RECORDS_PER_READ = 20  # aggregates of 500 events: 4 MB, as the reader asks for


def kcl(count: int, rounds: int) -> list[Figure]:
    """Python's side of KCL: a line into records against kclpy; a whole shard against the reader, ports that keep nothing."""
    rules, wire = bench_rules(load_settings().paths.schemas), records(events(count))
    reads = [wire[at : at + _RECORDS_PER_READ] for at in range(0, len(wire), _RECORDS_PER_READ)]
    lines, answers = [_line(read) for read in reads], [_answer(read) for read in reads]
    parse = _boto_parser()

    def by_kcl() -> None:
        _load(rules, (to_records(one.records) for one in _messages(lines)))

    def by_reader() -> None:
        _load(rules, ([_record(one) for one in parse(answer)["Records"]] for answer in answers))

    by_kcl()
    ours, reader, ratio = paired(by_kcl, by_reader, rounds)
    found = [
        Figure("KCL, from the line to the staged segment", ours / count * 1e6, "us/event"),
        Figure("reader, from GetRecords to the staged segment", reader / count * 1e6, "us/event"),
        Figure("KCL - reader", (ours - reader) / count * 1e6, "us/event", "<= 1"),
        Figure("KCL / reader", ratio, "x"),
    ]
    if importlib.util.find_spec("amazon_kclpy") is None:
        return found
    line, theirs, apart = paired(
        lambda: [to_records(one.records) for one in _messages(lines)],
        lambda: [_by_kclpy(one) for one in lines],
        rounds,
    )
    return [
        *found,
        Figure("a line into records", line / count * 1e6, "us/record"),
        Figure("a line into records, kclpy", theirs / count * 1e6, "us/record"),
        Figure("a line into records / kclpy", apart, "x"),
    ]


def _load(rules: Rules, batches: Iterable[Sequence[Record]]) -> None:
    ports = WritePorts(
        NullLedger(),
        NullObjects(),
        NullManifest(),
        NullIndex(),
        NullAggregates(),
        SystemClock(),
        lambda _fact: None,
        _each,
    )
    loader = Loader(_LINEAGE, rules, LoadLimits(CutLimits(), WindowLimits()), ports)
    loader.start()
    for batch in batches:
        loader.process(batch)
        loader.tick()
    loader.cut("bench")


def _each(call: Callable[[StagedObject], None], items: Iterable[StagedObject]) -> None:
    for item in items:
        call(item)


def _messages(lines: Sequence[bytes]) -> Iterable[ProcessRecords]:
    for message in Daemon(io.BytesIO(b"".join(lines)), io.BytesIO()).messages():
        if isinstance(message, ProcessRecords):
            yield message


def _line(read: Sequence[Record]) -> bytes:
    """Return a read as KCL's daemon writes it: every event by itself."""
    found = [
        {
            "data": b64encode(part).decode(),
            "partitionKey": one.partition_key,
            "sequenceNumber": one.sequence_number,
            "approximateArrivalTimestamp": one.arrived_us // 1_000,
            "subSequenceNumber": number,
            "action": "record",
        }
        for one in read
        for number, part in enumerate(split(one.data))
    ]
    body = {"action": "processRecords", "records": found, "millisBehindLatest": 0}
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"


def _answer(read: Sequence[Record]) -> bytes:
    """Return a read as GetRecords answers it."""
    found = [
        {
            "Data": b64encode(one.data).decode(),
            "PartitionKey": one.partition_key,
            "SequenceNumber": one.sequence_number,
            "ApproximateArrivalTimestamp": one.arrived_us / 1e6,
        }
        for one in read
    ]
    return json.dumps({"Records": found, "NextShardIterator": "i", "MillisBehindLatest": 0}).encode()


def _boto_parser() -> Callable[[bytes], dict[str, Any]]:
    shape = (
        botocore.session.get_session().get_service_model("kinesis").operation_model("GetRecords").output_shape
    )
    assert shape is not None
    parser = botocore.parsers.create_parser("json")

    def parse(body: bytes) -> dict[str, Any]:
        found: dict[str, Any] = parser.parse({"body": body, "headers": {}, "status_code": 200}, shape)
        return found

    return parse


def _by_kclpy(line: bytes) -> list[Record]:
    from amazon_kclpy import dispatch

    message = json.loads(line, object_hook=dispatch.message_decode)
    return [
        Record(
            one.sequence_number,
            one.partition_key,
            one.binary_data,
            one.timestamp_millis * 1_000,
            one.sub_sequence_number,
        )
        for one in message.records
    ]
