"""`headrace config`: what is set, and by whom."""

import json

import click

from pipeline.cli.settings import home_option
from pipeline.config import describe, load_settings


@click.group("config")
def command() -> None:
    """Show the settings and where each comes from."""


@command.command("show")
@click.option("--json", "as_json", is_flag=True, help="One object: key -> value, source.")
@home_option
def show(*, as_json: bool, home: str | None) -> None:
    """List every setting with its value and source; secrets are hidden."""
    rows = describe(load_settings({"paths": {"home": home}}))
    if as_json:
        click.echo(
            json.dumps({row.key: {"value": row.value, "source": row.source} for row in rows}, indent=2)
        )
        return
    texts = [(row.key, _text(row.value), row.source) for row in rows]
    key_width, value_width = (max(len(text[column]) for text in texts) for column in (0, 1))
    value_width = min(value_width, 60)  # one long list does not push the sources off the screen
    for key, value, source in texts:
        click.echo(f"{key:{key_width}}  {value:{value_width}}  {source}")


def _text(value: object) -> str:
    if value is None:
        return "-"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
