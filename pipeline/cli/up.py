"""`headrace up`: the local stack, in the foreground or detached."""

import os
import time
from dataclasses import replace
from pathlib import Path

import click

from pipeline.cli.settings import EMULATOR_KEY, emulator_overrides, home_option
from pipeline.config import Settings, as_environment, load_settings
from pipeline.core.ending import longest_end_seconds
from pipeline.core.errors import ConfigProblem
from pipeline.laptop.api import api_url
from pipeline.laptop.background import start_in_background
from pipeline.laptop.home import Home
from pipeline.laptop.launch import Launch, Running, local_stack
from pipeline.laptop.stack import Stack
from pipeline.machine.modules import module_command

CHECK_SECONDS = 0.2
_UNSEEN = "UP_UNSEEN"  # in the environment of the one that --detach starts
LOCAL_IDLE_SECONDS = "1"  # on one machine a person waits for the rows, and small files cost nothing


@click.command("up")
@click.option("--detach", is_flag=True, help="Return when the stack runs; `headrace down` stops it.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the emulator [default: a free one].")
@click.option("--fresh", is_flag=True, help="Delete the data of an earlier stack first.")
@click.option(
    "--no-loader", is_flag=True, help="Without a loader: `headrace worker` loads, in a terminal of its own."
)
@click.option(
    "--no-api", is_flag=True, help="Without the HTTP API: `headrace serve` serves, where it is wanted."
)
@click.option(
    "--no-processor",
    is_flag=True,
    help="Without a processor of replay jobs: `headrace process` does them, when it is wanted.",
)
@home_option
def command(
    *,
    detach: bool,
    port: int | None,
    fresh: bool,
    no_loader: bool,
    no_api: bool,
    no_processor: bool,
    home: Path | None,
) -> None:
    """Start the local stack: emulator, stream, tables, loader, HTTP API, processor of replay jobs.

    What dies is started again, with --detach too. Everything is kept in the home over `headrace down` and the next
    `headrace up`.
    """
    launch = replace(
        launch_for(home),
        port=port,
        fresh=fresh,
        with_loader=not no_loader,
        with_api=not no_api,
        with_processor=not no_processor,
        unseen=_UNSEEN in os.environ,
    )
    if detach:
        stack = start_in_background(launch.home, _again(launch), {**os.environ, _UNSEEN: "1"})
        say_where(launch.home, stack)
        say("`headrace status` shows it, `headrace down` stops it")
    else:
        _run(launch)


def _run(launch: Launch) -> None:
    """Run the stack until a signal, or an error, ends it."""
    running: Running | None = None
    try:
        with local_stack(launch) as running:
            say_where(launch.home, running.stack)
            if not launch.unseen:
                say("Ctrl-C stops it; nothing is lost")
            while True:
                running.check()
                time.sleep(CHECK_SECONDS)
    except KeyboardInterrupt:
        if running is None:
            raise
        say(f"stopped; data kept in {launch.home.path}")


def say_where(home: Home, stack: Stack) -> None:
    """Say what runs where; an API that is slow to start is not passed over: what follows in a script would not reach it."""
    say(f"running on {stack.endpoint_url}, home {home.path}")
    url = api_url(home, stack.api)
    if url is not None:
        say(f"HTTP API on {url}, its reference on {url}/docs")
    elif stack.has_api:
        say(f"the HTTP API is not up yet: `headrace status` says its URL once it is; see {home.api_log}")


def _again(launch: Launch) -> list[str]:
    """Return this command without --detach."""
    flags = {
        "--fresh": launch.fresh,
        "--no-loader": not launch.with_loader,
        "--no-api": not launch.with_api,
        "--no-processor": not launch.with_processor,
    }
    words = [*module_command("pipeline.cli.main", "up", "--home", str(launch.home.path))]
    words += [] if launch.port is None else ["--port", str(launch.port)]
    return words + [name for name, given in flags.items() if given]


def launch_for(home: Path | None) -> Launch:
    """Say what to start, from the settings: emulator and loader, unless the caller wants it otherwise.

    Raises:
        ConfigProblem: a setting is wrong, or points at another endpoint.
    """
    settings = load_settings({"paths": {"home": home}})
    if settings.aws.endpoint_url is not None:
        raise ConfigProblem(
            f"aws.endpoint_url is {settings.aws.endpoint_url} from {settings.source('aws.endpoint_url')}, but the local "
            "stack brings its own: unset it"
        )
    keys = {"HEADRACE_AWS__ACCESS_KEY_ID": EMULATOR_KEY, "HEADRACE_AWS__SECRET_ACCESS_KEY": EMULATOR_KEY}
    keys["HEADRACE_AWS__REGION"] = "us-east-1"
    if settings.source("segment.max_idle_seconds") == "default":
        keys["HEADRACE_SEGMENT__MAX_IDLE_SECONDS"] = LOCAL_IDLE_SECONDS
    return Launch(
        home=Home(settings.paths.home),
        provision=lambda endpoint: _provision(settings, endpoint),
        say=say,
        loader_environment=as_environment(settings) | keys,
        recorded=as_environment(settings, secrets=False),
        api_end_seconds=longest_end_seconds(settings.web.deadline_seconds),
        processor_page=settings.web.workers + 2,  # the API has one more page than processes
    )


def _provision(settings: Settings, endpoint: str) -> None:
    from pipeline.wiring import provision

    provision(load_settings({"paths": {"home": settings.paths.home}, **emulator_overrides(endpoint)}))


def say(line: str) -> None:
    """Tell a person, who may have closed the terminal."""
    try:
        click.echo(f"headrace: {line}", err=True)
    except OSError:
        return
