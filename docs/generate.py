# ruff: noqa: INP001 - a program beside the pages it writes, imported by nobody but its test
"""Writes the pages that say what the code says: `python docs/generate.py`.

* `docs/reference/cli.md` from the help texts of the commands
* `docs/reference/settings.md` from the settings tree
* the tables of facts and of metrics in `docs/operations.md`, each between its two marks, from `pipeline.facts`

`tests/docs/test_reference.py` compares what is checked in with what this writes.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from pipeline import facts
from pipeline.cli.group import COMMANDS, cli
from pipeline.config import reference
from pipeline.config.tree import SECTIONS

DOCS = Path(__file__).resolve().parent
WIDTH = 100  # of a help text on the page, whatever the terminal of whoever generates it
GENERATED = "<!-- Written by `python docs/generate.py`: change the code, not this file. -->"
FACTS_BEGIN = "<!-- facts: written by `python docs/generate.py` -->"
FACTS_END = "<!-- end of facts -->"
METRICS_BEGIN = "<!-- metrics: written by `python docs/generate.py` -->"
METRICS_END = "<!-- end of metrics -->"
_INTRODUCTION_OF_COMMANDS = (
    "Every command with its own help, as `headrace COMMAND --help` prints it. "
    "Exit codes: [operations](../operations.md#exit-codes)."
)
_INTRODUCTION_OF_SETTINGS = (
    "Where a value comes from, the first that is given: a flag, the environment variable, the file "
    "`headrace.toml` in the home of the stack (or the file that `HEADRACE_CONFIG` names), the default. "
    "`headrace config show` lists every value with its source. An unknown key is refused, and all problems are "
    "reported at once."
)


def pages() -> dict[Path, str]:
    """Return every generated page by its path."""
    operations = DOCS / "operations.md"
    return {
        DOCS / "reference" / "cli.md": cli_page(),
        DOCS / "reference" / "settings.md": settings_page(),
        operations: with_tables(operations.read_text(encoding="utf-8")),
    }


def commands(
    group: click.Group = cli, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command with the words that name it, groups before what is in them."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None:
            raise LookupError(f"{group.name} lists {name!r} and does not have it")
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def cli_page() -> str:
    """Return the page of the command line."""
    parts = [
        "# The command line",
        GENERATED,
        _INTRODUCTION_OF_COMMANDS,
        "\n".join(f"* [`headrace {name}`](#headrace-{name}): {line}" for name, line in COMMANDS.items()),
        "## headrace",
        _help(cli, ()),
    ]
    for path, command in commands():
        parts += [f"{'#' * (len(path) + 1)} headrace {' '.join(path)}", _help(command, path)]
    return "\n\n".join(parts) + "\n"


def _help(command: click.Command, path: tuple[str, ...]) -> str:
    name = " ".join(("headrace", *path))
    settings = {"terminal_width": WIDTH, "help_option_names": ["-h", "--help"]}
    text = command.get_help(click.Context(command, info_name=name, **settings))  # type: ignore[arg-type]
    return "```text\n" + "\n".join(line.rstrip() for line in text.splitlines()) + "\n```"


def settings_page() -> str:
    """Return the page of the settings."""
    parts = [
        "# Settings",
        GENERATED,
        _INTRODUCTION_OF_SETTINGS,
        "In the file a setting is a key of its section:",
        "```toml\n[segment]\nmax_rows = 50000\n```",
        "`HEADRACE_HOME` is the short form of `HEADRACE_PATHS__HOME`; the home itself cannot be set in the file.",
    ]
    rows = reference()
    for name, section in SECTIONS.items():
        parts += [f"## {name}", (section.__doc__ or "").strip(), _settings_table(name, rows)]
    return "\n\n".join(parts) + "\n"


def _settings_table(section: str, rows: list[Any]) -> str:
    lines = ["| key | environment | takes | default | what it means |", "|---|---|---|---|---|"]
    for row in rows:
        if row.key.startswith(f"{section}."):
            default = "found on this machine" if section == "paths" else _default(row.default)
            cells = (f"`{row.key}`", f"`{row.variable}`", _takes(row.allowed), default, row.description)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _takes(text: str) -> str:
    words, found, pattern = text.partition(" matching ")
    return f"{words} matching `{pattern}`" if found else text


def _default(value: Any) -> str:
    if value is None:
        return "not set"
    return "`" + (", ".join(map(str, value)) if isinstance(value, list) else str(value)) + "`"


def facts_table() -> str:
    """Return the table of facts."""
    lines = ["| fact | level | fields | what it says |", "|---|---|---|---|"]
    for fact in facts.FACTS:
        fields = ", ".join(f"`{name}`" for name in fact.__struct_fields__)
        says = " ".join((fact.__doc__ or "").partition("\n\n")[0].split())
        lines.append(f"| `{fact.__name__}` | {fact.level} | {fields} | {says} |")
    return "\n".join(lines)


def metrics_table() -> str:
    """Return the table of metrics, by the names that CloudWatch and Prometheus show."""
    lines = ["| metric | on the page | unit | by | from | what it counts |", "|---|---|---|---|---|---|"]
    for metric in facts.METRICS.values():
        told_by = ", ".join(f"`{fact.__name__}`" for fact in facts.FACTS if metric in fact.metrics)
        label = f"`{metric.label}`" if metric.label else ""
        names = f"`{metric.name}` | `{metric.prometheus_name}`"
        lines.append(f"| {names} | {metric.unit} | {label} | {told_by} | {metric.says} |")
    return "\n".join(lines)


def with_tables(page: str) -> str:
    """Return the page with its tables of facts and of metrics made anew."""
    page = _with_table(page, FACTS_BEGIN, facts_table(), FACTS_END)
    return _with_table(page, METRICS_BEGIN, metrics_table(), METRICS_END)


def _with_table(page: str, begin: str, table: str, end: str) -> str:
    before, found, rest = page.partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise LookupError(f"the page lacks the marks {begin} and {end}")
    return f"{before}{begin}\n{table}\n{end}{after}"


def main() -> None:
    """Write what differs, and name it."""
    for path, text in pages().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{path.relative_to(DOCS.parent)}: written\n")


if __name__ == "__main__":
    main()
