"""Options of a command that sends over HTTP: where to, and a credential that never stands in the list of processes."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from pipeline.core.errors import ConfigProblem

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--to", metavar="URL", help="Send to the HTTP API at URL, not to the stream."),
    click.option("--key-env", metavar="NAME", help="With --to: environment variable that holds the API key."),
    click.option(
        "--key-file", type=click.Path(path_type=Path), help="With --to: file that holds the API key."
    ),
    click.option("--client-id", metavar="ID", help="With --to: OAuth2 client, in place of a key."),
    click.option("--secret-env", metavar="NAME", help="Environment variable that holds the client's secret."),
    click.option(
        "--secret-file", type=click.Path(path_type=Path), help="File that holds the client's secret."
    ),
    click.option("--token-url", metavar="URL", help="Where the client gets its tokens."),
    click.option(
        "--scope", metavar="TEXT", default="", help="Scope to ask for; by default all of the client's."
    ),
    click.option(
        "--ca-file", type=click.Path(path_type=Path), help="Certificates (PEM) to trust instead of the usual."
    ),
    click.option(
        "--plain-http", is_flag=True, help="Allow http:// to another machine: credentials go in the clear."
    ),
)


@dataclass(frozen=True)
class Destination:
    """An API, and who sends: a key, or a client with its secret."""

    url: str
    key: str | None = field(repr=False)
    client_id: str | None
    secret: str | None = field(repr=False)
    token_url: str | None
    scope: str
    ca_file: Path | None
    plain_http: bool


def http_options(function: F) -> F:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def destination_of(*, to: str | None, **given: Any) -> Destination | None:
    """Return where to send, and as whom; None without --to.

    Raises:
        click.UsageError: options that do not go together.
        ConfigProblem: the variable or file of a secret is not there.
    """
    if to is None:
        alone = [name for name, value in given.items() if value]
        if alone:
            raise click.UsageError(f"--{alone[0].replace('_', '-')} goes with --to URL")
        return None
    key = _secret("key", given["key_env"], given["key_file"])
    secret = _secret("secret", given["secret_env"], given["secret_file"])
    client_id, token_url = given["client_id"], given["token_url"]
    if (key is None) == (client_id is None):
        raise click.UsageError(
            "--to needs one credential: --key-env NAME, --key-file FILE, or --client-id ID"
        )
    if (client_id is None) != (secret is None) or (client_id is None) != (token_url is None):
        raise click.UsageError(
            "--client-id goes with --token-url URL and --secret-env NAME or --secret-file FILE"
        )
    return Destination(
        to, key, client_id, secret, token_url, given["scope"], given["ca_file"], given["plain_http"]
    )


def _secret(name: str, variable: str | None, file: Path | None) -> str | None:
    if variable is not None and file is not None:
        raise click.UsageError(f"give one of --{name}-env and --{name}-file")
    if variable is not None:
        found = os.environ.get(variable, "").strip()
        if not found:
            raise ConfigProblem(
                f"--{name}-env {variable}: this environment variable is not set; export it first"
            )
        return found
    if file is None:
        return None
    try:
        found = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigProblem(f"--{name}-file {file}: {exc}") from exc
    if not found:
        raise ConfigProblem(f"--{name}-file {file}: is empty")
    return found
