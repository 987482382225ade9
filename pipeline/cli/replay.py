"""`headrace replay`: plan, start and watch replay jobs."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pipeline.cli.answers import indented, printable, say
from pipeline.cli.asking import check_names, span_options, tenant_option
from pipeline.cli.collecting import fact_sink
from pipeline.cli.replay_results import command as results_command
from pipeline.cli.replay_text import job_document, job_text, list_text, plan_document, plan_text
from pipeline.cli.settings import home_option, settings_with_stack
from pipeline.core.errors import ConfigProblem, HeadraceError, NotFound

if TYPE_CHECKING:  # it loads Arrow, and `--help` is to be quick
    from pipeline.config import Settings
    from pipeline.core.replay import Selection
    from pipeline.core.replay_job import Job
    from pipeline.core.rules import Rules
    from pipeline.flows.replay_plan import Plan
    from pipeline.wiring import ReplayParts

PATIENCE_SECONDS = 5.0  # without any progress, until somebody is told to look for a processor
FAILED = 1
F = TypeVar("F", bound=Callable[..., Any])


@click.group("replay")
def command() -> None:
    """Reprocess a slice of the archive: plan it, start it, see it done.

    A job is about one entity (--tenant, --entity, any --from and --to), or about one event type of a tenant (--tenant,
    --type, whole days). `headrace process` does the work.
    """


def selection_options(function: F) -> F:
    """Add the options that say which events."""
    options = (
        click.option("--entity", help="Entity."),
        click.option("--type", "event_type", help="Event type."),
        click.option("--source", help="Only events of this source."),
        span_options,
        click.option(
            "--limit", type=click.IntRange(min=1), help="Only the first so many, by day, type and file."
        ),
        click.option("--include-duplicates", is_flag=True, help="Replay flagged repeats too."),
        click.option(
            "--granularity",
            type=click.Choice(["pointer", "event"]),
            default="pointer",
            show_default=True,
            help="One message per run of rows, or per event.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


@command.command("plan")
@tenant_option
@selection_options
@click.option("--json", "as_json", is_flag=True, help="One object, for programs.")
@home_option
def plan_command(*, as_json: bool, home: Path | None, **chosen: Any) -> None:
    """Say what a job would be, and change nothing. Events, messages and times are exact; bytes and cost are estimates.

    \b
    headrace replay plan --tenant ua --entity N14228
    headrace replay plan --tenant ua --type flight.departed --from 2013-01-01 --to 2013-01-31 --source JFK
    """  # noqa: D301 - click's mark against re-wrapping
    settings = settings_with_stack(home)
    plan = _plan(_parts(settings), settings, chosen)
    click.echo(indented(plan_document(plan)) if as_json else plan_text(plan))


@command.command("start")
@click.option("--tenant", help="Whose events; needed for a new job.")
@selection_options
@click.option("--resume", metavar="JOB", help="Go on sending a job; nothing else is given then.")
@click.option("--wait", is_flag=True, help="Wait until the job is done.")
@click.option("--json", "as_json", is_flag=True, help="Print the job as one object.")
@home_option
def start_command(*, resume: str | None, wait: bool, as_json: bool, home: Path | None, **chosen: Any) -> int:
    """Freeze a plan as a job, send its messages and print its id.

    From then on it means the same rows, whatever lands later. Its id comes as soon as it is frozen; interrupted later,
    `--resume JOB` goes on with it: messages that are sent twice do no harm. Exit code 1 when there is nothing to replay, or the job is stale or has failed.

    \b
    headrace replay start --tenant ua --type flight.departed --from 2013-01-01 --to 2013-01-31
    headrace replay start --resume 20240310T120000Z-1a2b3c --wait
    """  # noqa: D301 - click's mark against re-wrapping
    given = {
        name: value for name, value in chosen.items() if value not in (None, False) and name != "granularity"
    }
    if resume and given:
        raise ConfigProblem("--resume goes on with a job as it was frozen: leave the other options out")
    settings, parts = _opened(home, is_new=resume is None)
    job = resume
    if job is None:
        job = _frozen(parts, settings, chosen)
        if job is None:
            click.echo("nothing to replay: no job was made", err=True)
            return FAILED
        if not as_json:
            click.echo(job)  # before it is sent: whoever interrupts that needs it
    found = _sent(parts, job)
    if resume and not as_json:
        click.echo(job)
    found = _wait(parts, found) if wait else found
    if as_json:
        click.echo(indented(job_document(found)))
    return _told(found)


@command.command("status")
@click.argument("job", required=False)
@click.option("--wait", is_flag=True, help="Wait until the job is done.")
@click.option("--json", "as_json", is_flag=True, help="One object, or an array of all jobs, for programs.")
@home_option
def status_command(job: str | None, *, wait: bool, as_json: bool, home: Path | None) -> int:
    """Show a job, or all of them, newest first. Exit code 1 when the job that is named is stale or has failed."""
    parts = _parts(settings_with_stack(home))
    if job is None:
        if wait:
            raise ConfigProblem("--wait needs the id of a job: `headrace replay status` lists them")
        jobs = parts.jobs.newest()
        click.echo(indented([job_document(one) for one in jobs]) if as_json else list_text(jobs))
        return 0
    found = parts.jobs.get(job)
    found = _wait(parts, found) if wait else found
    click.echo(indented(job_document(found)) if as_json else job_text(found, parts.queue))
    return _told(found)


command.add_command(results_command)


def _parts(settings: "Settings") -> "ReplayParts":
    from pipeline import wiring
    from pipeline.ports.clock import SystemClock

    return wiring.replay_parts(settings, SystemClock(), fact_sink(settings, "replay"))


def _rules(settings: "Settings") -> "Rules":
    from pipeline import wiring

    return wiring.rules(settings)


def selection_of(chosen: dict[str, Any]) -> "Selection":
    """Return the selection that options name.

    Raises:
        ConfigProblem: it makes no sense.
    """
    from pipeline.core.replay import Selection, check
    from pipeline.core.span import parse_span

    if chosen["tenant"] is None:
        raise ConfigProblem("give --tenant: a replay job is about one tenant")
    span = parse_span(chosen["first"], chosen["last"], ("--from", "--to"))
    return check(
        Selection(
            tenant_id=chosen["tenant"],
            entity_id=chosen["entity"],
            event_type=chosen["event_type"],
            source=chosen["source"],
            from_us=span.from_us,
            until_us=span.until_us,
            include_duplicates=chosen["include_duplicates"],
            limit=chosen["limit"],
        )
    )


def _plan(parts: "ReplayParts", settings: "Settings", chosen: dict[str, Any]) -> "Plan":
    from pipeline.flows.replay_plan import plan

    selection = selection_of(chosen)
    check_names(_rules(settings), selection.tenant_id, selection.event_type)
    return plan(selection, parts.plan, chosen["granularity"])


def _opened(home: Path | None, *, is_new: bool) -> "tuple[Settings, ReplayParts]":
    """Return the settings, and what replay is made of: it is loaded for about a second, and may be interrupted too."""
    try:
        settings = settings_with_stack(home)
        return settings, _parts(settings)
    except KeyboardInterrupt:
        if is_new:
            say("no job was made")
        raise


def _frozen(parts: "ReplayParts", settings: "Settings", chosen: dict[str, Any]) -> str | None:
    """Plan and freeze a job; return its id, or None when there is nothing to replay. Interrupted, say whether it exists."""
    from pipeline.cli.progress import Progress
    from pipeline.core.replay_job import job_id
    from pipeline.flows.replay import freeze

    name = None
    try:
        with Progress("plan", told=True):
            planned = _plan(parts, settings, chosen)
        if not planned.events:
            return None
        name = job_id(parts.start.clock.now_us(), parts.start.new_id())
        with Progress("freeze", told=True):
            return freeze(planned, parts.start, name).id
    except KeyboardInterrupt:
        say("no job was made" if name is None else _whether_made(parts, name))
        raise


def _whether_made(parts: "ReplayParts", job: str) -> str:
    """Say what became of a job whose freezing was interrupted: it is stored by the last of several calls."""
    try:
        parts.jobs.get(job)
    except NotFound:
        return "no job was made"
    except HeadraceError:
        return f"whether job {job} was made, `headrace replay status {job}` says"
    return f"job {job} was made, and nothing of it is sent: `headrace replay start --resume {job}` goes on with it"


def _sent(parts: "ReplayParts", job: str) -> "Job":
    """Send a job's messages; interrupted, say how to go on."""
    from pipeline.cli.progress import Progress
    from pipeline.flows.replay import resume

    try:
        with Progress("send", unit="messages", told=True) as progress:
            return resume(job, parts.start, progress.update)
    except KeyboardInterrupt:
        say(
            f"job {job} exists, and not all of it may be sent: `headrace replay start --resume {job}` goes on with it"
        )
        raise


def _wait(parts: "ReplayParts", job: "Job") -> "Job":
    """Look at a job until it is done, stale or failed, showing how far it is; interrupted, say how to go on."""
    try:
        return _awaited(parts, job)
    except KeyboardInterrupt:
        say(
            f"job {job.id} goes on without this command: `headrace replay status {job.id} --wait` waits again, "
            f"`headrace replay start --resume {job.id} --wait` sends what is missing first"
        )
        raise


def _awaited(parts: "ReplayParts", job: "Job") -> "Job":
    from pipeline.cli.progress import Progress
    from pipeline.cli.waiting import wait_for

    hinted = False
    with Progress("replay", total=job.events, unit="events", told=True) as progress:

        def told(now: "Job", idle_seconds: float) -> None:
            nonlocal hinted
            progress.update(now.done_events)
            if idle_seconds > PATIENCE_SECONDS and not hinted:
                hinted = True
                click.echo(_hint(now), err=True)

        return wait_for(parts.jobs, job, told)


def _hint(job: "Job") -> str:
    """Say what may be wrong with a job of which nothing happens."""
    resume = f"`headrace replay start --resume {job.id}`"
    if job.state in ("frozen", "sending"):
        return f"nothing happens, and not all of its messages are sent: if whoever sent them was stopped, {resume}"
    return (
        "nothing happens: `headrace process` starts a processor (`headrace up` brings one, unless it is given "
        "--no-processor); if one runs, its messages may be gone: " + resume
    )


def _told(job: "Job") -> int:
    """Return the exit code of a job, and say on standard error what became of one that went wrong."""
    if job.state not in ("stale", "failed"):
        return 0
    step = "start a new one" if job.state == "stale" else f"`headrace replay start --resume {job.id}`"
    click.echo(f"headrace: replay job {job.id} is {job.state}: {printable(job.reason)}; {step}", err=True)
    return FAILED
