"""The protocol of KCL's MultiLangDaemon: lines of JSON, one process for each shard.

The daemon writes one message a line, and waits for a status that names the message's action. In between, inside some
messages, it takes checkpoints and answers each with one line. What is written here is byte for byte what
`amazon_kclpy.kcl.KCLProcess` writes (a test holds the two side by side), and nothing of kclpy runs: one msgspec decode of a
whole line takes an eighth of its time, and an exception in our code cannot be swallowed on the way.

Source: amazon-kinesis-client-multilang 3.1, `MultiLangProtocol`, `MessageWriter`, `JsonFriendlyRecord`.
"""

import json
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from pipeline.core.errors import HeadraceError, InvalidEvent, LeaseLost, Transient
from pipeline.core.event import Record
from pipeline.core.kpl import is_aggregate, split
from pipeline.core.segment import Position

_AGAIN = ("ThrottlingException", "KinesisClientLibDependencyException")  # of the lease table: later, the same
_LEASE_LOST = "ShutdownException"


class _Message(msgspec.Struct, tag_field="action", rename="camel", gc=False):
    """One line of the daemon."""


class Initialize(_Message, tag="initialize"):
    """The first line: which shard, and where KCL believes it goes on: digits, or a word such as TRIM_HORIZON."""

    shard_id: str
    sequence_number: str | None = None
    sub_sequence_number: int | None = None

    @property
    def checkpoint(self) -> Position | None:
        """Return KCL's checkpoint of this shard; None when it begins with the oldest record.

        Raises:
            HeadraceError: the application was told to begin anywhere else.
        """
        number = self.sequence_number
        if number is None or number == "TRIM_HORIZON":
            return None
        if not number.isdecimal():
            raise HeadraceError(
                f"KCL begins shard {self.shard_id} at {number}, which may pass over records: set initialPositionInStream to "
                "TRIM_HORIZON and take another kcl.application"
            )
        return Position(number, self.sub_sequence_number or 0)


class WireRecord(msgspec.Struct, rename="camel", gc=False):
    """One record; of an aggregate that KCL took apart each user record is one, numbered from 0."""

    sequence_number: str
    sub_sequence_number: int
    partition_key: str
    approximate_arrival_timestamp: (
        int  # milliseconds since the epoch, UTC; kclpy makes naive local time of it
    )
    data: bytes  # base64 on the line


class ProcessRecords(_Message, tag="processRecords"):
    """The next records, perhaps none. `millis_behind_latest` is None where the daemon does not know."""

    records: list[WireRecord]
    millis_behind_latest: int | None = None


class LeaseWasLost(_Message, tag="leaseLost"):
    """Another worker may own the shard now."""


class ShardHasEnded(_Message, tag="shardEnded"):
    """The shard is closed, and everything in it was delivered."""


class ShutdownRequested(_Message, tag="shutdownRequested"):
    """The daemon stops, or hands the shard over: the last chance to write and to checkpoint."""


class Checkpointed(_Message, tag="checkpoint"):
    """The answer to a checkpoint: `error` is the name of a Java exception, None when it holds."""

    sequence_number: str | None = None
    sub_sequence_number: int | None = None
    error: str | None = None


Message = Initialize | ProcessRecords | LeaseWasLost | ShardHasEnded | ShutdownRequested | Checkpointed
decode = msgspec.json.Decoder(Message).decode


def to_records(wire: list[WireRecord]) -> list[Record]:
    """Return the records of one line as the loader takes them.

    An aggregate that KCL could not take apart (a bad checksum, an index outside its table) comes whole, as number 0, alone
    or behind the parts that were good: it is handed on as a record that still has to be taken apart, so that it lands in
    quarantine for what it is, and its parts are not, as with the reader. It then has the number of the last of them, up to
    which KCL lets us checkpoint. One that can be taken apart was the only part of another: one event, and no good one.
    """
    made = [
        Record(
            one.sequence_number,
            one.partition_key,
            one.data,
            one.approximate_arrival_timestamp * 1_000,
            one.sub_sequence_number,
        )
        for one in wire
    ]
    broken = [
        place
        for place, record in enumerate(made)
        if record.subsequence_number == 0 and _is_broken(record.data) and _is_last(made, place)
    ]
    for place in reversed(broken):
        number, first = made[place].sequence_number, place
        while first and made[first - 1].sequence_number == number:
            first -= 1
        last_part = made[place - 1].subsequence_number if first < place else 0
        made[first : place + 1] = [msgspec.structs.replace(made[place], subsequence_number=last_part or None)]
    return made


def _is_broken(data: bytes) -> bool:
    if not is_aggregate(data):
        return False
    try:
        split(data)
    except InvalidEvent:
        return True
    return False


def _is_last(records: list[Record], place: int) -> bool:
    """True when nothing follows under the same sequence number."""
    following = records[place + 1 : place + 2]
    return not following or following[0].sequence_number != records[place].sequence_number


class Daemon:
    """The line to the daemon; used by one thread.

    Args:
        source: where its messages come from, line by line.
        sink: where answers go. Nothing else may write there: the daemon obeys any line that looks like an action.
    """

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source, self._sink = source, sink

    def messages(self) -> Iterator[Message]:
        """Yield messages until the daemon hangs up; each is to be answered by `done` before the next is taken.

        Raises:
            HeadraceError: a line is none of the protocol.
        """
        while (message := self._read()) is not None:
            yield message

    def done(self, message: Message) -> None:
        """Say that a message is dealt with."""
        self._write({"action": "status", "responseFor": type(message).__struct_config__.tag})

    def checkpoint(self, position: Position | None) -> None:
        """Let KCL resume after `position`; None means after everything it delivered, and belongs to a shard's end only.

        Call it while a message is being dealt with.

        Raises:
            Transient: the lease table could not be written; the same call may be repeated.
            LeaseLost: the shard is another worker's, or the daemon is gone: write nothing more.
            HeadraceError: KCL refuses the position, or its state is invalid.
        """
        number, inner = (position.sequence_number, position.subsequence_number) if position else (None, None)
        self._write({"action": "checkpoint", "sequenceNumber": number, "subSequenceNumber": inner})
        answer = self._read()
        if answer is None:
            raise LeaseLost("the daemon hung up instead of answering a checkpoint")
        if not isinstance(answer, Checkpointed):
            raise HeadraceError(f"the daemon answered a checkpoint with {type(answer).__name__}")
        if answer.error is None:
            return
        where = f"checkpoint at {number}/{inner}: {answer.error}"
        if answer.error in _AGAIN:
            raise Transient(where)
        if answer.error == _LEASE_LOST:
            raise LeaseLost(where)
        raise HeadraceError(f"KCL refuses the {where}")

    def _read(self) -> Message | None:
        line = self._source.readline()
        if not line:
            return None
        try:
            message: Message = decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as exc:  # the line may hold payloads: not quoted
            raise HeadraceError(
                f"the daemon sent a line of {len(line)} bytes that is no message of it"
            ) from exc
        return message

    def _write(self, body: dict[str, str | int | None]) -> None:
        # Lines of our own before and after: what anybody else might have left on the descriptor cannot join ours.
        try:
            self._sink.write(f"\n{json.dumps(body)}\n".encode())
            self._sink.flush()
        except BrokenPipeError as exc:
            raise LeaseLost("the daemon hung up") from exc
