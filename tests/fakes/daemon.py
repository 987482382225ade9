"""KCL's MultiLangDaemon as one child sees it: lines out, answers in, checkpoints judged as the Java side judges them."""

import json
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from pipeline.core.event import Record
from pipeline.core.segment import Position

_WITH_CHECKPOINTER = ("processRecords", "shardEnded", "shutdownRequested")


def initialize(shard_id: str, sequence_number: str = "TRIM_HORIZON", sub: int = 0) -> dict[str, Any]:
    """Return the first message."""
    return {
        "action": "initialize",
        "shardId": shard_id,
        "sequenceNumber": sequence_number,
        "subSequenceNumber": sub,
    }


def process(records: Iterable[Record], behind_ms: int | None = 0) -> dict[str, Any]:
    """Return a batch as KCL hands it over: aggregates are taken apart, other records have number 0."""
    return {
        "action": "processRecords",
        "records": [
            {
                "data": b64encode(one.data).decode(),
                "partitionKey": one.partition_key,
                "sequenceNumber": one.sequence_number,
                "approximateArrivalTimestamp": one.arrived_us // 1_000,
                "subSequenceNumber": one.subsequence_number or 0,
                "action": "record",
            }
            for one in records
        ],
        "millisBehindLatest": behind_ms,
    }


def bare(action: str) -> dict[str, Any]:
    """Return a message without content."""
    return {"action": action}


class FakeDaemon:
    """Both ends of the pipe (a source with `readline`, a sink with `write`), without a pipe.

    Args:
        messages: what to send, in order; a callable is called instead, for what happens in between.
        refusals: names of Java exceptions, each the answer to one checkpoint; then they hold.

    Attributes:
        said: every line of the child, parsed.
        checkpoints: those that hold; None stands for the one without arguments.
    """

    def __init__(
        self, *messages: dict[str, Any] | Callable[[], object], refusals: Iterable[str] = ()
    ) -> None:
        self._messages, self._refusals = deque(messages), deque(refusals)
        self._answers: deque[dict[str, Any]] = deque()
        self._now = ""
        self._largest: Position | None = None
        self.said: list[dict[str, Any]] = []
        self.checkpoints: list[Position | None] = []

    def readline(self) -> bytes:
        """Give the next line; nothing once all is sent."""
        if self._answers:
            return self._line(self._answers.popleft())
        while self._messages:
            message = self._messages.popleft()
            if callable(message):
                message()
                continue
            assert self._now in {"", "done"}, "the child takes a message before it has answered the last"
            self._now = message["action"]
            for record in message.get("records", ()):
                self._largest = Position(record["sequenceNumber"], record["subSequenceNumber"])
            return self._line(message)
        return b""

    def write(self, data: bytes) -> int:
        """Take what the child says."""
        for line in filter(None, data.split(b"\n")):
            said = json.loads(line)
            self.said.append(said)
            if said["action"] == "checkpoint":
                self._checkpoint(said)
            else:
                assert said == {"action": "status", "responseFor": self._now}
                self._now = "done"
        return len(data)

    def flush(self) -> None:
        """Nothing is held."""

    def _checkpoint(self, asked: dict[str, Any]) -> None:
        number, sub = asked["sequenceNumber"], asked["subSequenceNumber"]
        error = self._refusals.popleft() if self._refusals else None
        if self._now not in _WITH_CHECKPOINTER:
            error = "InvalidStateException"
        elif number is not None and error is None:
            position = Position(number, sub or 0)
            last = self.checkpoints[-1] if self.checkpoints else None
            if self._largest is None or self._largest < position or (last and position < last):
                error = "IllegalArgumentException"
        if error is None:
            self.checkpoints.append(Position(number, sub) if number is not None else None)
        answer = {
            "action": "checkpoint",
            "sequenceNumber": number,
            "subSequenceNumber": sub,
            "error": error,
        }
        self._answers.append(answer)

    @staticmethod
    def _line(message: dict[str, Any]) -> bytes:
        return json.dumps(message, separators=(",", ":")).encode() + b"\n"
