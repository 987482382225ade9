"""`headrace worker`: load a stream in the foreground, by our own reader or under KCL."""

import os
import sys
from pathlib import Path

import click

from pipeline.cli.settings import home_option, processor_environment, settings_with_stack
from pipeline.cli.up import LOCAL_IDLE_SECONDS, say
from pipeline.config import Settings
from pipeline.laptop.home import Home
from pipeline.laptop.stack import find_stack
from pipeline.laptop.stopping import heartbeat_loader
from pipeline.machine.modules import module_command


@click.command("worker")
@click.option("--kcl", is_flag=True, help="Share the shards with other workers, by KCL's leases; needs Java.")
@home_option
def command(*, kcl: bool, home: Path | None) -> None:
    """Load the stream into the archive, in the foreground, until asked to stop.

    Without --kcl one process reads all shards. With it KCL's daemon leases them: start as many workers as you like,
    anywhere; each shard has a process of its own. Ctrl-C or SIGTERM stop in order: what was read is cut and
    committed, status 0. `headrace up` brings a worker of its own, unless it is given --no-loader.

    \b
    headrace worker                one process, all shards
    headrace worker --kcl          as many as wanted; needs the extra: '.[kcl]' of a clone, or 'headrace[kcl]'
    """  # noqa: D301 - click's mark against re-wrapping
    settings = settings_with_stack(home)
    environment = processor_environment(settings) | _local(settings)
    module = "consumers.daemon" if kcl else "consumers.reader"
    # Not a child: the worker takes this process' place, its signals and its exit code.
    os.execve(sys.executable, module_command(module), environment)  # noqa: S606 - our own module


def _local(settings: Settings) -> dict[str, str]:
    """Return what the loader of a local stack is given beside the settings; warn where that loader runs already."""
    home = Home(settings.paths.home)
    stack = find_stack(home).stack
    if stack is None or stack.endpoint_url != settings.aws.endpoint_url:
        return {}
    if (loader := heartbeat_loader(home)) is not None:
        say(
            f"process {loader.pid} loads this stack already: nothing is doubled, but each throws work of the other away; "
            "`headrace up --no-loader` starts a stack without it"
        )
    default = settings.source("segment.max_idle_seconds") == "default"
    return {"HEADRACE_SEGMENT__MAX_IDLE_SECONDS": LOCAL_IDLE_SECONDS} if default else {}
