"""`headrace serve`: the HTTP API in the foreground."""

import os
import sys
from pathlib import Path

import click

from pipeline.cli.settings import home_option, processor_environment, settings_with_stack
from pipeline.machine.modules import module_command


@click.command("serve")
@click.option("--host", help="Address to listen on [default: the setting web.host].")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port; 0 for a free one [default: the setting web.port]."
)
@click.option("--workers", type=click.IntRange(1, 64), help="Processes [default: the setting web.workers].")
@home_option
def command(*, host: str | None, port: int | None, workers: int | None, home: Path | None) -> None:
    """Serve the HTTP API, in the foreground, until asked to stop.

    The first line of the log, fact ApiStarted, has the URL; its page /docs describes every route. Ctrl-C or SIGTERM
    stop in order: every request that was read is answered, and what was taken is in the stream; status 0. `headrace up`
    brings an API of its own, unless it is given --no-api.

    \b
    headrace serve                       on 127.0.0.1:8080
    headrace serve --port 0              on a free port
    headrace serve --workers 4           four processes behind one port
    """  # noqa: D301 - click's mark against re-wrapping
    given = {"host": host, "port": port, "workers": workers}
    settings = settings_with_stack(
        home, {"web": {name: value for name, value in given.items() if value is not None}}
    )
    command = module_command("consumers.api")
    # Not a child: the API takes this process' place, its signals and its exit code.
    os.execve(sys.executable, command, processor_environment(settings))  # noqa: S606 - our own module
