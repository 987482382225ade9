"""`headrace worker`: load a stream in the foreground, by our own reader or under KCL."""

import os
import sys
from pathlib import Path

import click

from pipeline.cli.settings import home_option, processor_environment, settings_with_stack


@click.command("worker")
@click.option("--kcl", is_flag=True, help="Share the shards with other workers, by KCL's leases; needs Java.")
@home_option
def command(*, kcl: bool, home: Path | None) -> None:
    """Load the stream into the archive, in the foreground, until asked to stop.

    Without --kcl one process reads all shards. With it KCL's daemon leases them: start as many workers as you like,
    anywhere; each shard has a process of its own. Ctrl-C or SIGTERM stop in order: what was read is cut and
    committed, status 0. `headrace up` brings a worker of its own.

    \b
    headrace worker                one process, all shards
    headrace worker --kcl          as many as wanted; needs the extra: '.[kcl]' of a clone, or 'headrace[kcl]'
    """  # noqa: D301 - click's mark against re-wrapping
    environment = processor_environment(settings_with_stack(home))
    module = "consumers.daemon" if kcl else "consumers.reader"
    # Not a child: the worker takes this process' place, its signals and its exit code.
    os.execve(sys.executable, [sys.executable, "-m", module], environment)  # noqa: S606 - our own module
