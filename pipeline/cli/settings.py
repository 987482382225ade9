"""Settings as a command needs them: the flags every command shares, and the endpoint of the stack that runs."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from pipeline.config import Settings, as_environment, running
from pipeline.config.running import EMULATOR_KEY, emulator_overrides
from pipeline.machine.processes import outside_environment

__all__ = [
    "EMULATOR_KEY",
    "emulator_overrides",
    "home_option",
    "processor_environment",
    "settings_with_stack",
]

F = TypeVar("F", bound=Callable[..., Any])


def home_option(function: F) -> F:
    """Add `--home DIR` to a command."""
    return click.option(
        "--home",
        type=click.Path(file_okay=False, path_type=Path),
        help="Home of the local stack: data, logs, headrace.toml [default: HEADRACE_HOME, or the user's state folder].",
    )(function)


def settings_with_stack(
    home: Path | None = None, overrides: Mapping[str, Mapping[str, Any]] | None = None
) -> Settings:
    """Load the settings and find the stack by itself, as `pipeline.config.running` says; a warning goes to the terminal."""
    return running.settings_with_stack(
        home, overrides, warn=lambda reason: click.echo(f"headrace: {reason}", err=True)
    )


def processor_environment(settings: Settings) -> dict[str, str]:
    """Return the environment of a processor: the settings, and nothing else that is set for headrace.

    Where they hold keys, as for a local stack, nothing that is set for AWS stays either; else the keys come from there.
    """
    outside = outside_environment(with_aws=settings.aws.access_key_id is None)
    return outside | as_environment(settings)
