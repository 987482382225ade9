"""`headrace up`: the local stack, in the foreground or detached."""

import time
from pathlib import Path

import click

from pipeline.cli.settings import EMULATOR_KEY, emulator_overrides, home_option
from pipeline.config import Settings, as_environment, load_settings
from pipeline.core.ending import longest_end_seconds
from pipeline.core.errors import ConfigProblem
from pipeline.laptop.home import Home
from pipeline.laptop.launch import Launch, Running, local_stack

CHECK_SECONDS = 0.2
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
@home_option
def command(
    *, detach: bool, port: int | None, fresh: bool, no_loader: bool, no_api: bool, home: Path | None
) -> None:
    """Start the local stack: emulator, stream, tables, loader, HTTP API.

    Everything is kept in the home over `headrace down` and the next `headrace up`.
    """
    launch = launch_for(
        home, port=port, fresh=fresh, detach=detach, with_loader=not no_loader, with_api=not no_api
    )
    running: Running | None = None
    try:
        with local_stack(launch) as running:
            say(f"running on {running.stack.endpoint_url}, home {launch.home.path}")
            if running.api_url is not None:
                say(f"HTTP API on {running.api_url}, its reference on {running.api_url}/docs")
            if detach:
                say("`headrace status` shows it, `headrace down` stops it")
                return
            say("Ctrl-C stops it; nothing is lost")
            while True:
                running.check()
                time.sleep(CHECK_SECONDS)
    except KeyboardInterrupt:
        if running is None:
            raise
        say(f"stopped; data kept in {launch.home.path}")


def launch_for(
    home: Path | None,
    *,
    port: int | None = None,
    fresh: bool = False,
    detach: bool = False,
    throwaway: bool = False,
    with_loader: bool = True,
    with_api: bool = False,
) -> Launch:
    """Say what to start, from the settings.

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
        port=port,
        fresh=fresh,
        detach=detach,
        throwaway=throwaway,
        with_loader=with_loader,
        with_api=with_api,
        api_end_seconds=longest_end_seconds(settings.web.deadline_seconds),
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
