"""`headrace process`: handle the messages of replay jobs, in the foreground."""

from pathlib import Path

import click

from pipeline.cli.settings import home_option, processor_environment, settings_with_stack
from pipeline.machine.processor import run_processor


@click.command("process")
@click.option(
    "--drain",
    is_flag=True,
    help="End when the queue looked empty three times, over a second; SQS counts only by and by.",
)
@home_option
def command(*, drain: bool, home: Path | None) -> int:
    """Process replay jobs: count and fingerprint the events of each entity and day anew.

    `headrace up` brings one. Any number may run at once, on any machine. Ctrl-C finishes the chunk in hand. What is done is logged as one JSON
    line per chunk.

    \b
    headrace process              until Ctrl-C
    headrace process --drain      until nothing is left to do
    """  # noqa: D301 - click's mark against re-wrapping
    settings = settings_with_stack(home)
    code = run_processor(processor_environment(settings), ["--drain"] if drain else [])
    return code if code >= 0 else 1
