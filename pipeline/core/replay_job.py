"""A replay job as its table knows it, and the messages that stand for its pointers.

    frozen -> sending -> sent -> done
    sending   becomes done, too, when its last chunk is: its sender may have been stopped after the last message
    stale     an object that the job points to is gone; it is never silently shorter
    failed    a chunk cannot be done: `reason` says why; the job may be resumed

The list of pointers is frozen before the job exists, so a job means the same rows however often it is resumed.
"""

import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import msgspec

from pipeline.core.days import EPOCH
from pipeline.core.errors import Corrupt
from pipeline.core.index import Pointer
from pipeline.core.replay import Granularity, Selection

JobState = Literal["frozen", "sending", "sent", "done", "stale", "failed"]
UNFINISHED: tuple[JobState, ...] = ("frozen", "sending", "sent", "failed")
ENDED: tuple[JobState, ...] = ("done", "stale", "failed")
MAX_MESSAGE_BYTES = 4_096  # ours have about 200; an event id of 128 characters in escapes is the longest part
_PART_POINTERS = 10_000  # of one item: also when each is in a file of its own far below DynamoDB's 400 KB
_MAX_REASON = 300
_JOB_ID = re.compile(r"[0-9A-Za-z-]{1,64}")


class Job(msgspec.Struct, frozen=True):
    """One job. What it means is fixed when it is frozen; the fields from `state` on move.

    Attributes:
        basis: how many segments were committed, over all lineages, when it was planned; it orders jobs by what they saw.
        events: that it replays; `rows`: that its pointers cover.
        bytes: estimated, of data files.
        sent_steps: how far sending is (`flows.replay`).
        sent_messages: how many messages were sent, those of a second sending not among them; for whoever watches.
        ended_us: when it became done, stale or failed.
        traceparent: of the request that made it, where that is traced.
    """

    id: str
    selection: Selection
    granularity: Granularity
    basis: int
    chunks: int
    events: int
    rows: int
    messages: int
    bytes: int
    created_us: int
    first_us: int | None = None
    last_us: int | None = None
    state: JobState = "frozen"
    reason: str = ""
    sent_steps: int = 0
    sent_messages: int = 0
    done_chunks: int = 0
    done_events: int = 0
    ended_us: int | None = None
    traceparent: str | None = None


class Chunk(msgspec.Struct, frozen=True):
    """One chunk: the days first_dt..last_dt of a job. `done` moves, once."""

    job: str
    number: int
    first_dt: str
    last_dt: str
    events: int
    rows: int
    messages: int
    done: bool = False


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What lies in the queue: a pointer of a chunk, or one event of it. It only wakes a processor; the table decides."""

    v: Literal[1]
    job: str
    chunk: Annotated[int, msgspec.Meta(ge=1, le=10**6)]
    key: str
    first_row: Annotated[int, msgspec.Meta(ge=0, le=2**40)]
    rows: Annotated[int, msgspec.Meta(ge=1, le=2**40)]
    event_id: str | None = None


_MESSAGE = msgspec.json.Decoder(Message)
_PART = msgspec.msgpack.Decoder(list[tuple[str, list[int]]])


def write_message(message: Message) -> str:
    """Return a message's text: compact JSON in ASCII, since a queue refuses some characters that an event id may have.

    Source: SQS API reference, SendMessage: #x9, #xA, #xD, #x20 to #xD7FF, #xE000 to #xFFFD, #x10000 to #x10FFFF.
    """
    text = msgspec.json.encode(message).decode()
    if text.isascii():
        return text
    return json.dumps(msgspec.to_builtins(message), separators=(",", ":"))


def read_message(text: str) -> Message | str:
    """Return a message, or why the text is none; the queue is open to whoever may write to it."""
    if len(text.encode(errors="replace")) > MAX_MESSAGE_BYTES:
        return f"too large: more than {MAX_MESSAGE_BYTES} bytes"
    try:
        found = _MESSAGE.decode(text)
    except msgspec.ValidationError as exc:
        return f"not a replay message: {exc}"
    except (msgspec.DecodeError, UnicodeEncodeError):
        return "not JSON"
    return found if is_job_id(found.job) else "not a replay message: job"


def plain(reason: str) -> str:
    """Return a reason as one short line that any queue takes: what a hostile message says of itself may be in it."""
    return "".join(one if one.isprintable() else "?" for one in reason[:_MAX_REASON])


def pack_pointers(pointers: Sequence[Pointer]) -> Iterator[bytes]:
    """Yield a chunk's pointers in parts, each for one item; not compressed."""
    for start in range(0, len(pointers), _PART_POINTERS):
        files: dict[str, list[int]] = {}
        for one in pointers[start : start + _PART_POINTERS]:
            files.setdefault(one.key, []).extend((one.first_row, one.rows))
        yield msgspec.msgpack.encode(list(files.items()))


def unpack_pointers(parts: Sequence[bytes]) -> list[Pointer]:
    """Return the pointers of all parts of a chunk, file by file.

    Raises:
        Corrupt: a part is none.
    """
    try:
        return [
            Pointer(key, first_row, rows)
            for part in parts
            for key, numbers in _PART.decode(part)
            for first_row, rows in zip(numbers[::2], numbers[1::2], strict=True)
        ]
    except (msgspec.MsgspecError, ValueError) as exc:
        raise Corrupt(f"the pointers of a replay chunk cannot be read: {exc}; start the job anew") from exc


def is_job_id(text: str) -> bool:
    """True when `text` may be the id of a job, and so a key of its table."""
    return _JOB_ID.fullmatch(text) is not None


def job_id(now_us: int, new_id: str) -> str:
    """Return the id of a job: the second it was made in, so that ids sort by time, and what tells it from others."""
    moment: datetime = EPOCH + timedelta(microseconds=now_us)
    return f"{moment.astimezone(UTC).strftime('%Y%m%dT%H%M%SZ')}-{new_id}"
