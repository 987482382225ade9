"""`headrace down`: stop the local stack."""

from pathlib import Path

import click

from pipeline.cli.settings import home_option
from pipeline.cli.up import say
from pipeline.config import load_settings
from pipeline.laptop.home import Home
from pipeline.laptop.stopping import down


@click.command("down")
@click.option("--wipe", is_flag=True, help="Delete the data of the stack as well.")
@home_option
def command(*, wipe: bool, home: Path | None) -> None:
    """Stop the local stack; its data is kept for the next `headrace up`.

    The loader finishes its segment first, then the emulator saves streams and tables.
    """
    settings = load_settings({"paths": {"home": home}})
    down(Home(settings.paths.home), erase=wipe, say=say)
