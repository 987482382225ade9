"""Replay jobs, chunks and results as DynamoDB items, and back. Stored for ever, as `aws.items`.

replay_jobs   _jobs   <job>                      a job
              <job>   chunk#<number>             a chunk: small, so that marking it as done is one write unit
              <job>   pointers#<number>#<part>   its frozen pointers, packed; written once
entity_days   <tenant>#<entity>   <dt>#<scope>   a result
"""

import zlib
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import msgspec

from pipeline.aws.items import Item, number, text
from pipeline.core.entity_day import EntityDay
from pipeline.core.errors import Corrupt
from pipeline.core.index import Pointer
from pipeline.core.replay import Selection
from pipeline.core.replay_job import Chunk, Job, JobState, pack_pointers, unpack_pointers

JOBS = "_jobs"  # the partition of jobs; a job's id begins with a digit
_STATES: dict[str, JobState] = {state: state for state in get_args(JobState)}
_JOB_NUMBERS = (
    "basis",
    "chunks",
    "events",
    "rows",
    "messages",
    "bytes",
    "created_us",
    "sent_steps",
    "done_chunks",
    "done_events",
)
_JOB_TIMES = ("first_us", "last_us", "ended_us")
_CHUNK_NUMBERS = ("events", "rows", "messages")
_DAY_NUMBERS = ("events", "duplicates", "first_event_time_us", "last_event_time_us", "basis")


def job_key(job: str) -> Item:
    """Return the key of a job."""
    return {"partition": text(JOBS), "name": text(job)}


def job_item(job: Job) -> Item:
    """Return a job."""
    times = {name: getattr(job, name) for name in _JOB_TIMES}
    return {
        **job_key(job.id),
        "state": text(job.state),
        "reason": text(job.reason),
        "selection": text(msgspec.json.encode(job.selection).decode()),
        "granularity": text(job.granularity),
        **{name: number(getattr(job, name)) for name in _JOB_NUMBERS},
        **{name: number(value) for name, value in times.items() if value is not None},
        **({"sent_messages": number(job.sent_messages)} if job.sent_messages else {}),
        **({} if job.traceparent is None else {"traceparent": text(job.traceparent)}),
    }


def job_of(item: Item) -> Job:
    """Read a job."""
    numbers: dict[str, Any] = {name: int(item[name]["N"]) for name in _JOB_NUMBERS}
    times: dict[str, Any] = {name: int(item[name]["N"]) for name in _JOB_TIMES if name in item}
    return Job(
        id=item["name"]["S"],
        state=_STATES[item["state"]["S"]],
        reason=item["reason"]["S"],
        selection=msgspec.json.decode(item["selection"]["S"], type=Selection),
        granularity="event" if item["granularity"]["S"] == "event" else "pointer",
        traceparent=item["traceparent"]["S"] if "traceparent" in item else None,
        sent_messages=int(item["sent_messages"]["N"]) if "sent_messages" in item else 0,
        **numbers,
        **times,
    )


def chunk_key(job: str, chunk: int) -> Item:
    """Return the key of a chunk."""
    return {"partition": text(job), "name": text(f"chunk#{chunk:06d}")}


def chunk_item(chunk: Chunk) -> Item:
    """Return a chunk."""
    return {
        **chunk_key(chunk.job, chunk.number),
        "first_dt": text(chunk.first_dt),
        "last_dt": text(chunk.last_dt),
        **{name: number(getattr(chunk, name)) for name in _CHUNK_NUMBERS},
        "done": {"BOOL": chunk.done},
    }


def chunk_of(item: Item) -> Chunk:
    """Read a chunk."""
    return Chunk(
        job=item["partition"]["S"],
        number=int(item["name"]["S"].split("#")[1]),
        first_dt=item["first_dt"]["S"],
        last_dt=item["last_dt"]["S"],
        **{name: int(item[name]["N"]) for name in _CHUNK_NUMBERS},
        done=bool(item["done"]["BOOL"]),
    )


def pointer_names(chunk: int) -> tuple[str, str]:
    """Return the first and last name that a part of a chunk's pointers may have."""
    return f"pointers#{chunk:06d}#0000", f"pointers#{chunk:06d}#9999"


def pointer_items(chunk: Chunk, pointers: Sequence[Pointer]) -> Iterator[Item]:
    """Yield a chunk's pointers, in parts."""
    for part, body in enumerate(pack_pointers(pointers)):
        name = f"pointers#{chunk.number:06d}#{part:04d}"
        yield {"partition": text(chunk.job), "name": text(name), "body": {"B": zlib.compress(body, 6)}}


def pointers_of(chunk: Chunk, items: Sequence[Item]) -> list[Pointer]:
    """Read a chunk's pointers.

    Raises:
        Corrupt: they are not all there.
    """
    try:
        found = unpack_pointers([zlib.decompress(bytes(item["body"]["B"])) for item in items])
    except zlib.error as exc:
        raise Corrupt(f"the pointers of chunk {chunk.number} of replay job {chunk.job}: {exc}") from exc
    rows = sum(one.rows for one in found)
    if rows != chunk.rows:
        raise Corrupt(
            f"the pointers of chunk {chunk.number} of replay job {chunk.job} cover {rows} rows, not {chunk.rows}"
        )
    return found


def day_item(row: EntityDay) -> Item:
    """Return a result."""
    return {
        "partition": text(f"{row.tenant_id}#{row.entity_id}"),
        "name": text(f"{row.dt}#{row.scope}"),
        **{name: number(getattr(row, name)) for name in _DAY_NUMBERS},
        "inputs_hash": text(row.inputs_hash),
        "sample_ids": {"L": [text(one) for one in row.sample_ids]},
        "job": text(row.job),
    }


def day_of_item(item: Item) -> EntityDay:
    """Read a result."""
    tenant_id, _, entity_id = item["partition"]["S"].partition("#")  # a tenant holds no #
    dt, _, scope = item["name"]["S"].partition("#")
    return EntityDay(
        tenant_id=tenant_id,
        entity_id=entity_id,
        dt=dt,
        scope=scope,
        inputs_hash=item["inputs_hash"]["S"],
        sample_ids=tuple(one["S"] for one in item["sample_ids"]["L"]),
        job=item["job"]["S"],
        **{name: int(item[name]["N"]) for name in _DAY_NUMBERS},
    )
