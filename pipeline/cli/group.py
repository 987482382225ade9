"""The commands of `headrace`, by name; each is imported only when it runs, so that `--help` stays quick."""

import difflib
import importlib
from typing import NoReturn

import click

from pipeline import __version__

# name -> one line for `headrace --help`; the command is `command` in pipeline/cli/<name>.py
COMMANDS = {
    "demo": "A year of real flights from producer to SQL, proven complete.",
    "up": "Start the local stack.",
    "down": "Stop the local stack; its data is kept.",
    "status": "Show what runs, and how far the loader is.",
    "serve": "Take events over HTTP, and answer questions about them.",
    "worker": "Load the stream, alone or with others under KCL.",
    "produce": "Send events from an NDJSON file.",
    "query": "Ask the archive in SQL.",
    "events": "Show what happened to one entity, or the events of a type.",
    "counts": "Count events exactly, mostly without reading them.",
    "trace": "Follow one event from its arrival to what it counts in.",
    "quarantine": "Show what was refused, and why.",
    "redrive": "Send refused events through again, once the reason is mended.",
    "replay": "Reprocess a slice of the archive: plan it, start it, see it done.",
    "process": "Do the work of replay jobs.",
    "audit": "Prove that nothing is missing.",
    "schema": "Schemas of the events, and the tables made from them.",
    "tenants": "Client systems, and the plan of each.",
    "plans": "What tenants may use.",
    "keys": "API keys: make, rotate, revoke.",
    "clients": "OAuth clients, and whose they are.",
    "acts": "Who changed what, and when.",
    "control": "The control store's database.",
    "config": "Show the settings and where each comes from.",
}


class Commands(click.Group):
    """A group whose commands are modules, imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """Name all commands, in the order a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; None when there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        name = f"pipeline.cli.{cmd_name}"
        try:
            command = importlib.import_module(name).command
        except ModuleNotFoundError as exc:
            if exc.name != name:
                raise
            ctx.fail(f"the command {cmd_name!r} is not part of this installation")
        if not isinstance(command, click.Command):
            raise TypeError(f"{name}.command is no click command")
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse arguments that are not UTF-8: no command has a use for them, and none could store or print them."""
        for one in args:
            try:
                one.encode()
            except UnicodeEncodeError:
                shown = one.encode(errors="surrogateescape").decode(errors="backslashreplace")
                ctx.fail(f"the argument '{shown}' is not UTF-8")
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command to run, or say which one was probably meant."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            _refuse(ctx, args[0])
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _refuse(ctx: click.Context, name: str) -> NoReturn:
    near = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    ctx.fail(f"no command {name!r}{hint}")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="headrace")
def cli() -> None:
    """Events from Kinesis to Parquet, exactly once, on AWS or on this machine.

    Begin with `headrace demo`, or with `headrace up`.
    """
