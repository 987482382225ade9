"""`headrace demo`: a year of New York flights from producer to SQL, with proof that nothing is missing."""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click

from pipeline.cli.answers import indented
from pipeline.cli.demo_run import STAGES, Demo, DemoResult
from pipeline.cli.demo_summary import print_summary
from pipeline.cli.progress import Stages
from pipeline.cli.settings import emulator_overrides, home_option
from pipeline.cli.up import launch_for
from pipeline.config import load_settings
from pipeline.core.errors import ConfigProblem
from pipeline.laptop.home import Home
from pipeline.laptop.launch import Running, local_stack


@click.command("demo")
@click.option("--days", type=click.IntRange(1, 366), help="Only the first N days [default: the whole year].")
@click.option("--keep", is_flag=True, help="Leave the stack running, to query and audit it yourself.")
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures to FILE."
)
@home_option
def command(*, days: int | None, keep: bool, json_file: Path | None, home: Path | None) -> int:
    """Send a year of New York flights through the whole pipeline on this machine, and prove the result.

    Starts the local stack, produces 690,237 real events (2,512 of them are bad) to Kinesis while the loader writes
    Parquet, sends the first 1,000 once more, asks a few questions in SQL and audits everything. Takes less than a
    minute. Without --keep nothing stays behind. Exit code 0 only when the audit balances.
    """
    began = time.monotonic()
    with _home(home, keep=keep) as place:
        launch = replace(launch_for(place), detach=keep, throwaway=not keep)
        stages = Stages(told=True)
        for name in STAGES:
            stages.add(name)
        with stages:
            stages.begin("start")
            with local_stack(launch) as running, _stopped_on_failure(running, keep=keep):
                overrides = {"paths": {"home": launch.home.path}}
                settings = load_settings({**overrides, **emulator_overrides(running.stack.endpoint_url)})
                stages.end("start")
                result = Demo(settings, running, stages, days).run(began)
    print_summary(result)
    if json_file is not None:
        _write(json_file, result)
    if keep:
        _say_next()
    return 0 if result.balanced else 1


@contextlib.contextmanager
def _home(home: Path | None, *, keep: bool) -> Iterator[Path]:
    """Yield an empty home: the user's own when the stack is kept, else one that is deleted afterwards."""
    if keep or home is not None:
        chosen = Home(load_settings({"paths": {"home": home}}).paths.home)
        if chosen.has_data:
            raise ConfigProblem(
                f"{chosen.path} holds the data of an earlier stack; the demo counts from nothing: "
                "`headrace down --wipe` deletes it, or name another place with --home DIR"
            )
        yield chosen.path
        return
    folder = Path(tempfile.mkdtemp(prefix="headrace-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _stopped_on_failure(running: Running, *, keep: bool) -> Iterator[None]:
    """Leave no process behind when a kept demo fails or is interrupted."""
    try:
        yield
    except BaseException:
        if keep:
            running.discard()
        raise


def _write(file: Path, result: DemoResult) -> None:
    try:
        file.write_bytes(indented(result.document()) + b"\n")
    except OSError as exc:
        raise ConfigProblem(
            f"{file}: {exc.strerror}; the demo itself has run, its figures are above"
        ) from exc


def _say_next() -> None:
    click.echo("The stack is still running. Try:")
    click.echo("  headrace query --list")
    click.echo('  headrace query "SELECT source, count(*) AS flights FROM flight_departed GROUP BY source"')
    click.echo("  headrace audit")
    click.echo("  headrace down          (keeps the data; --wipe deletes it)")
