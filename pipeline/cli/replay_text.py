"""Replay plans and jobs as answers show them: documents for programs, lines for people."""

from typing import TYPE_CHECKING, Any

from pipeline.cli.answers import counted, printable

if TYPE_CHECKING:  # it loads Arrow, and `--help` is to be quick
    from pipeline.core.replay import Selection
    from pipeline.core.replay_job import Job
    from pipeline.flows.replay_plan import Plan
    from pipeline.ports.queue import MessageQueue


def plan_document(plan: "Plan") -> dict[str, Any]:
    """Return a plan as JSON-ready values."""
    return {
        "selection": _selection(plan.selection),
        "granularity": plan.granularity,
        "basis": plan.basis,
        "events": plan.events,
        "rows": plan.rows,
        "messages": plan.messages,
        "chunks": len(plan.chunks),
        "bytes": plan.bytes,
        "first_event_time": _time(plan.first_us),
        "last_event_time": _time(plan.last_us),
        "sqs_requests": plan.queue_requests,
        "s3_gets": plan.gets,
        "dynamodb_write_units": plan.writes,
        "dollars": round(plan.dollars, 6),
    }


def job_document(job: "Job") -> dict[str, Any]:
    """Return a job as JSON-ready values."""
    return {
        "job": job.id,
        "state": job.state,
        "reason": job.reason or None,
        "selection": _selection(job.selection),
        "granularity": job.granularity,
        "basis": job.basis,
        "events": job.events,
        "rows": job.rows,
        "messages": job.messages,
        "sent_messages": job.sent_messages,
        "chunks": job.chunks,
        "done_chunks": job.done_chunks,
        "done_events": job.done_events,
        "first_event_time": _time(job.first_us),
        "last_event_time": _time(job.last_us),
        "created": _time(job.created_us),
        "ended": _time(job.ended_us),
    }


def _selection(selection: "Selection") -> dict[str, Any]:
    from pipeline.core.span import END_US, FIRST_US

    return {
        "tenant_id": selection.tenant_id,
        "entity_id": selection.entity_id,
        "event_type": selection.event_type,
        "source": selection.source,
        "from": _time(selection.from_us) if selection.from_us > FIRST_US else None,
        "until": _time(selection.until_us) if selection.until_us < END_US else None,
        "limit": selection.limit,
        "include_duplicates": selection.include_duplicates,
    }


def _time(at_us: int | None) -> str | None:
    from pipeline.core.span import instant_of

    return None if at_us is None else instant_of(at_us)


def plan_text(plan: "Plan") -> str:
    """Return a plan as lines."""
    if not plan.events:
        return "nothing to replay"
    lines = [
        f"events    {plan.events:,}, from {_time(plan.first_us)} to {_time(plan.last_us)}",
        f"messages  {plan.messages:,} in {counted(len(plan.chunks), 'chunk')}",
        f"bytes     about {plan.bytes / 1024:,.0f} KiB of data files",
        f"cost      up to ${plan.dollars:.6f}: {plan.queue_requests:,} SQS requests, {plan.gets:,} S3 GETs,",
        f"          at most {plan.writes:,} DynamoDB write units",
    ]
    return "\n".join(lines)


def list_text(jobs: list["Job"]) -> str:
    """Return jobs, a line each."""
    if not jobs:
        return "no replay jobs yet: `headrace replay start` makes one"
    return "\n".join(f"{one.id}  {_progress(one)}  {_words(one)}" for one in jobs)


def job_text(job: "Job", queue: "MessageQueue") -> str:
    """Return a job as lines."""
    lines = [f"{job.id}  {_words(job)}", f"state     {_progress(job)}"]
    lines.append(f"messages  {job.messages:,}, one per {job.granularity}; {counted(job.rows, 'row')}")
    if job.state in ("frozen", "sending"):
        lines.append(f"sent      {job.sent_messages:,} of them so far")
    if job.state in ("sending", "sent"):
        lines.append(f"queue     about {queue.depth():,} messages of all jobs wait or are in somebody's hand")
    lines.append(f"created   {_time(job.created_us)}, of {counted(job.basis, 'committed segment')}")
    if job.ended_us is not None:
        lines.append(f"ended     {_time(job.ended_us)}, after {(job.ended_us - job.created_us) / 1e6:,.1f} s")
    return "\n".join(lines)


def _progress(job: "Job") -> str:
    chunks = counted(job.chunks, "chunk")
    return f"{job.state:7} {job.done_events:,} of {job.events:,} events, {job.done_chunks:,} of {chunks}"


def _words(job: "Job") -> str:
    """Say a selection as the options that chose it."""
    said = []
    for name, value in _selection(job.selection).items():
        if value is True:
            said.append(name.replace("_", " "))
        elif value:
            said.append(f"{name.removesuffix('_id').removeprefix('event_')} {printable(str(value))}")
    return ", ".join(said)
