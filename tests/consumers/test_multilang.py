"""The daemon's protocol: lines in, values out, and answers that the daemon cannot tell from kclpy's."""

import importlib.util
import io
import json
import time
from typing import Any, BinaryIO, cast

import pytest

from consumers.multilang import (
    Daemon,
    Initialize,
    LeaseWasLost,
    ProcessRecords,
    ShardHasEnded,
    ShutdownRequested,
    decode,
    to_records,
)
from pipeline.core.errors import HeadraceError, LeaseLost, Transient
from pipeline.core.event import Record
from pipeline.core.kpl import MAGIC
from pipeline.core.segment import Position
from tests.fakes.daemon import bare, initialize, process

SHARD = "shardId-000000000000"
NUMBER = "49590338271490256608559692538361571095921575989136588898"  # 56 digits
needs_kclpy = pytest.mark.skipif(
    importlib.util.find_spec("amazon_kclpy") is None,
    reason="amazon_kclpy is not installed: pip install 'headrace[kcl]'",
)


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _held(number: str | None, sub: int | None, error: str | None = None) -> dict[str, Any]:
    return {"action": "checkpoint", "sequenceNumber": number, "subSequenceNumber": sub, "error": error}


def _record(
    data: bytes, sub: int = 0, number: str = NUMBER, arrived_us: int = 1_710_072_000_123_000
) -> Record:
    return Record(number, "ключ", data, arrived_us, sub)


def test_messages_are_read() -> None:
    """Every message of the daemon, with words for numbers where KCL has none yet, and fields nobody asked for."""
    lines = [
        (initialize(SHARD), Initialize(SHARD, "TRIM_HORIZON", 0)),
        ({**bare("initialize"), "shardId": SHARD}, Initialize(SHARD)),
        (process([], None), ProcessRecords([], None)),
        (process([], 5) | {"new": [1]}, ProcessRecords([], 5)),
        (bare("leaseLost"), LeaseWasLost()),
        (bare("shardEnded"), ShardHasEnded()),
        (bare("shutdownRequested"), ShutdownRequested()),
    ]
    for sent, expected in lines:
        assert decode(_line(sent)) == expected


def test_records_keep_bytes_numbers_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data is the producer's bytes, 56 digits stay text, and arrival is UTC whatever the zone of the machine."""
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    try:
        sent = [_record(b"\x00\xff{}"), _record(b"", 1), _record(b"{}", 0, str(int(NUMBER) + 1))]
        message = decode(_line(process(sent)))
        assert isinstance(message, ProcessRecords)
        found = to_records(message.records)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert found == sent


def test_an_aggregate_that_kcl_could_not_take_apart() -> None:
    """Alone under its number it is handed on whole, to be judged as an aggregate; between siblings it is one event."""
    broken, after = MAGIC + b"no aggregate", str(int(NUMBER) + 1)
    sent = [_record(broken), _record(broken, 0, after), _record(b"{}", 1, after)]
    message = decode(_line(process(sent)))
    assert isinstance(message, ProcessRecords)
    assert [one.subsequence_number for one in to_records(message.records)] == [None, 0, 1]


def test_an_aggregate_that_kcl_took_apart_in_part() -> None:
    """It comes behind its good parts: they are dropped, and the whole takes the number of the last, in every place."""
    broken, numbers = MAGIC + b"no aggregate", [str(int(NUMBER) + more) for more in range(4)]
    sent = [
        _record(b"{}", 0, numbers[0]),
        _record(b"{}", 0, numbers[1]),
        _record(b"{}", 1, numbers[1]),
        _record(broken, 0, numbers[1]),
        _record(b"{}", 0, numbers[2]),
        _record(broken, 0, numbers[2]),
        _record(broken, 0, numbers[3]),
    ]
    message = decode(_line(process(sent)))
    assert isinstance(message, ProcessRecords)
    found = [(one.sequence_number, one.subsequence_number, one.data) for one in to_records(message.records)]
    assert found == [
        (numbers[0], 0, b"{}"),
        (numbers[1], 1, broken),
        (numbers[2], None, broken),
        (numbers[3], None, broken),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"hush-hush", "9 bytes"),
        (b'{"action":"dance"}', "18 bytes"),
        (_line({**process([]), "records": [{"data": "hush-hush"}]}), "bytes that is no message"),
        (b"\xff\xfe", "2 bytes"),
    ],
)
def test_a_strange_line(line: bytes, said: str) -> None:
    """What is no message ends the work, and is not quoted."""
    with pytest.raises(HeadraceError, match=said) as found:
        list(Daemon(io.BytesIO(line), io.BytesIO()).messages())
    assert "hush" not in str(found.value)


@pytest.mark.parametrize("number", ["LATEST", "AT_TIMESTAMP", "SHARD_END"])
def test_a_beginning_that_passes_over_records(number: str) -> None:
    """Only the oldest record and a position are beginnings; the message names the setting."""
    message = decode(_line(initialize(SHARD, number)))
    assert isinstance(message, Initialize)
    with pytest.raises(HeadraceError, match="initialPositionInStream"):
        _ = message.checkpoint
    assert Initialize(SHARD, NUMBER, 7).checkpoint == Position(NUMBER, 7)
    assert Initialize(SHARD, "TRIM_HORIZON", 0).checkpoint is None


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (_held(NUMBER, 3, "ThrottlingException"), Transient),
        (_held(NUMBER, 3, "KinesisClientLibDependencyException"), Transient),
        (_held(NUMBER, 3, "ShutdownException"), LeaseLost),
        (_held(NUMBER, 3, "InvalidStateException"), HeadraceError),
        (_held(NUMBER, 3, "IllegalArgumentException"), HeadraceError),
        (bare("leaseLost"), HeadraceError),
        (None, LeaseLost),
    ],
)
def test_answers_to_a_checkpoint(answer: dict[str, Any] | None, error: type[HeadraceError]) -> None:
    """Throttling may be repeated, a lost lease is one, and everything else is exactly a HeadraceError, never repeated."""
    with pytest.raises(error) as found:
        Daemon(io.BytesIO(_line(answer) if answer else b""), io.BytesIO()).checkpoint(Position(NUMBER, 3))
    assert type(found.value) is error


def test_a_checkpoint_has_both_numbers() -> None:
    """Without the second KCL would take 0 for it; the one without arguments has neither."""
    answers, sink = _line(_held(NUMBER, 3)) + _line(_held(None, None)), io.BytesIO()
    daemon = Daemon(io.BytesIO(answers), sink)
    daemon.checkpoint(Position(NUMBER, 3))
    daemon.checkpoint(None)
    asked = [json.loads(line) for line in sink.getvalue().splitlines() if line]
    assert [(one["sequenceNumber"], one["subSequenceNumber"]) for one in asked] == [(NUMBER, 3), (None, None)]


class _Broken(io.BytesIO):
    def flush(self) -> None:
        raise BrokenPipeError


def test_a_daemon_that_is_gone() -> None:
    """Nobody to answer is a lost lease: the next worker goes on from the ledger."""
    with pytest.raises(LeaseLost):
        Daemon(io.BytesIO(), _Broken()).done(ShardHasEnded())


def _theirs(source: BinaryIO) -> tuple[bytes, list[Any]]:
    """Run kclpy's own loop with a processor that checkpoints as ours does; return what it wrote and what it decoded."""
    from amazon_kclpy import kcl
    from amazon_kclpy.v3 import processor

    seen: list[Any] = []

    class Processor(processor.RecordProcessorBase):  # type: ignore[misc]
        def initialize(self, message: Any) -> None:
            seen.append((message.shard_id, message.sequence_number, message.sub_sequence_number))

        def process_records(self, message: Any) -> None:
            seen.append(
                [
                    Record(
                        one.sequence_number,
                        one.partition_key,
                        one.binary_data,
                        one.timestamp_millis * 1_000,
                        one.sub_sequence_number,
                    )
                    for one in message.records
                ]
            )
            if message.records:
                message.checkpointer.checkpoint(NUMBER, 3)

        def lease_lost(self, message: Any) -> None:
            seen.append(message.action)

        def shard_ended(self, message: Any) -> None:
            seen.append(message.action)
            message.checkpointer.checkpoint()

        def shutdown_requested(self, message: Any) -> None:
            seen.append(message.action)
            message.checkpointer.checkpoint(NUMBER, 3)

    out = io.StringIO()
    text = io.TextIOWrapper(cast("Any", source), encoding="utf-8")
    kcl.KCLProcess(Processor(), text, out, io.StringIO()).run()
    return out.getvalue().encode(), seen


def _ours(source: BinaryIO) -> tuple[bytes, list[Any]]:
    seen: list[Any] = []
    sink = io.BytesIO()
    daemon = Daemon(source, sink)
    for message in daemon.messages():
        match message:
            case Initialize():
                seen.append((message.shard_id, message.sequence_number, message.sub_sequence_number))
            case ProcessRecords():
                seen.append(to_records(message.records))
                if message.records:
                    daemon.checkpoint(Position(NUMBER, 3))
            case ShardHasEnded():
                seen.append("shardEnded")
                daemon.checkpoint(None)
            case ShutdownRequested():
                seen.append("shutdownRequested")
                daemon.checkpoint(Position(NUMBER, 3))
            case LeaseWasLost():
                seen.append("leaseLost")
            case _:
                raise AssertionError(message)
        daemon.done(message)
    return sink.getvalue(), seen


@needs_kclpy
def test_the_daemon_cannot_tell_us_from_kclpy() -> None:
    """The same lines give the same answers, byte for byte, and the same records."""
    records = [_record(b"\x00\xff", 2), _record('{"ü":1}'.encode(), 3)]
    lines = b"".join(
        map(
            _line,
            [
                initialize(SHARD),
                process([], None),
                process(records, 12),
                _held(NUMBER, 3),
                bare("shutdownRequested"),
                _held(NUMBER, 3),
                bare("shardEnded"),
                _held(None, None),
                bare("leaseLost"),
            ],
        )
    )
    answers, seen = _ours(io.BytesIO(lines))
    assert (answers, seen) == _theirs(io.BytesIO(lines))
    assert seen[2] == records
