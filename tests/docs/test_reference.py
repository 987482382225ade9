"""The documents say what the code says: generated pages, links, names of files and functions, commands, marks."""

import ast
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

from pipeline.aws.tables import ALL as ALL_TABLES
from pipeline.cli import main as boundary
from pipeline.cli.group import cli
from pipeline.config import reference
from pipeline.core.audit import Difference
from pipeline.core.errors import HeadraceError
from pipeline.core.event import RefusalCode
from pipeline.facts import FACTS, METRICS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
ROOMS = ("pipeline", "consumers", "tests", "docs", "schemas", "athena", "deploy", "examples", ".ci")
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
DECISIONS = sorted((DOCS / "decisions").glob("*.md"))
COMPONENTS = {
    "HTTP API",
    "producer",
    "stream reading",
    "loader",
    "ledger",
    "duplicate window",
    "index",
    "aggregates",
    "quarantine",
    "replay and processor",
    "audit",
    "SQL views",
}
MAX_DECISION_WORDS = 450  # half a page; the table of 0003 apart
WORDS = (
    *(
        "tenant",
        "entity",
        "event type",
        "schema version",
        "source",
        "event time",
        "received time",
        "stream",
        "shard",
    ),
    *(
        "position",
        "segment",
        "ledger",
        "data file",
        "partition",
        "pointer",
        "duplicate",
        "quarantine",
        "redrive",
    ),
    *("watermark", "seal", "replay job", "chunk", "late event"),
)

_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PLACE = re.compile(rf"(?:{'|'.join(map(re.escape, ROOMS))})/[\w./-]*(?:::[\w.]+)?")
_CALL = re.compile(r"(\w+)\(\)")


def _load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATE = _load_generator()
COMMANDS = {" ".join(path): command for path, command in GENERATE.commands()}


def _ids(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def _prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", list(GENERATE.pages()), ids=lambda path: str(path.relative_to(ROOT)))
def test_generated_pages_are_as_checked_in(page: Path) -> None:
    """A change of a help text, a setting or a fact shows on its page; `python docs/generate.py` writes it."""
    assert page.read_text(encoding="utf-8") == GENERATE.pages()[page]


def test_every_command_and_option_is_on_the_page() -> None:
    """Also those that a nested group brings."""
    page = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    assert "query" in COMMANDS
    assert "config show" in COMMANDS
    for name, command in COMMANDS.items():
        section = re.search(
            rf"^#+ headrace {re.escape(name)}\n\n```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL
        )
        assert section is not None, name
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert [one for one in parameter.opts if one not in section[1]] == [], name


def test_every_command_and_option_has_a_help_text() -> None:
    """A newcomer finds no bare flag."""
    for name, command in COMMANDS.items():
        assert command.help, name
        options = [one for one in command.params if isinstance(one, click.Option)]
        assert [one.name for one in options if not one.help] == [], name


def test_every_setting_is_on_the_page() -> None:
    """By its key and by its variable, with what it means."""
    page = (DOCS / "reference" / "settings.md").read_text(encoding="utf-8")
    for row in reference():
        line = next((line for line in page.splitlines() if line.startswith(f"| `{row.key}` |")), "")
        assert f"`{row.variable}`" in line
        assert row.description.replace("|", "\\|") in line


def test_every_metric_is_on_the_page() -> None:
    """By both its names, with its unit and every fact that tells it."""
    text = (DOCS / "operations.md").read_text(encoding="utf-8")
    table = text.partition(GENERATE.METRICS_BEGIN)[2].partition(GENERATE.METRICS_END)[0].splitlines()
    for metric in METRICS.values():
        [line] = [one for one in table if one.startswith(f"| `{metric.name}` | `{metric.prometheus_name}` |")]
        assert f"| {metric.unit} |" in line
        tellers = [fact.__name__ for fact in FACTS if metric in fact.metrics]
        assert [name for name in tellers if f"`{name}`" not in line] == []


@pytest.mark.parametrize("page", PAGES, ids=_ids(PAGES))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file, and every fragment a heading of it."""
    broken = []
    for target in _LINK.findall(_prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, fragment = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (fragment and fragment not in _anchors(path)):
            broken.append(target)
    assert broken == []


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=_ids(PAGES))
def test_named_files_and_functions_exist(page: Path) -> None:
    """What stands in backticks as `folder/file` or `folder/file::name` is there."""
    named = [text for text in _CODE.findall(_prose(page)) if _PLACE.fullmatch(text)]
    assert [text for text in named if not _exists(text)] == []


def test_the_architecture_names_its_functions() -> None:
    """The page that follows one event does so by file and function, and also its bare `name()` are real."""
    text = _prose(DOCS / "architecture.md")
    named = [one for one in _CODE.findall(text) if _PLACE.fullmatch(one)]
    assert sum("::" in one for one in named) >= 20
    known = {name for path in _sources() for name in _defined(ast.parse(path.read_text(encoding="utf-8")))}
    bare = [_CALL.fullmatch(one) for one in _CODE.findall(text)]
    assert [one[0] for one in bare if one and one[1] not in known] == []


def _sources() -> Iterator[Path]:
    for room in ("pipeline", "consumers"):
        yield from (ROOT / room).rglob("*.py")


def _exists(text: str) -> bool:
    name, _, inside = text.partition("::")
    path = ROOT / name
    if not inside:
        return path.exists()
    return path.is_file() and inside in set(_defined(ast.parse(path.read_text(encoding="utf-8"))))


def _defined(tree: ast.AST, before: str = "") -> Iterator[str]:
    """Yield what a module defines: `name` and `Class.name`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            yield before + node.name
            if isinstance(node, ast.ClassDef):
                yield from _defined(node, f"{before}{node.name}.")
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (before + one.id for one in targets if isinstance(one, ast.Name))


def _shown_commands(page: Path) -> list[list[str]]:
    """Return the command lines of a page's console blocks: what follows `$ `, and the lines it goes on in."""
    found = []
    for language, block in _FENCE.findall(page.read_text(encoding="utf-8")):
        lines = iter(block.replace("\\\n", " ").splitlines() if language == "console" else ())
        for line in lines:
            text = line.removeprefix("$ ") if line.startswith("$ ") else ""
            while (words := _words(text)) is None:
                text += "\n" + next(lines)
            found += [words] if words else []
    return found


def _words(text: str) -> list[str] | None:
    """Split a command line as a shell does; None while a quote is open."""
    try:
        return shlex.split(text, comments=True)
    except ValueError:
        return None


@pytest.mark.parametrize("page", PAGES, ids=_ids(PAGES))
def test_shown_commands_parse(page: Path) -> None:
    """Every `$ headrace ...` is accepted by the parser of the command line, every `$ make ...` names a target."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for words in _shown_commands(page):
        if words[0] == "headrace":
            _parse(cli, words[1:])
        elif words[0] == "make":
            assert [word for word in words[1:] if "=" not in word and word not in targets] == []


def _parse(command: click.Command, words: list[str]) -> None:
    """Let click read a command line without running anything."""
    context = command.make_context("headrace", list(words))
    if isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        _, inner, words = command.resolve_command(context, rest)
        assert inner is not None
        _parse(inner, words)


def test_the_readme_shows_its_two_commands() -> None:
    """What somebody who has just cloned the repository types."""
    shown = _shown_commands(ROOT / "README.md")
    assert ["make", "demo"] in shown
    assert ["make", "test"] in shown


def test_operations_name_every_alarm_and_exit_code() -> None:
    """A fact above INFO, an error of the tree, a difference of the audit and an exit code: each has its paragraph."""
    text = (DOCS / "operations.md").read_text(encoding="utf-8")
    alarms = [fact.__name__ for fact in FACTS if fact.level != "INFO"]
    advice = text.partition(GENERATE.FACTS_END)[2]
    assert [name for name in alarms if f"`{name}`" not in advice] == []
    assert [one.__name__ for one in HeadraceError.__subclasses__() if f"`{one.__name__}`" not in text] == []
    codes = (0, boundary.FAILED, boundary.MISUSED, boundary.INTERRUPTED, 70)
    assert [code for code in codes if f"| {code} |" not in text] == []
    source = (ROOT / "pipeline" / "core" / "audit.py").read_text(encoding="utf-8")
    kinds = set(re.findall(r'_differ\(\s*report,\s*"(\w+)"', source))
    assert len(kinds) > 5, Difference.__doc__
    assert sorted(kind for kind in kinds if f"`{kind}`" not in text) == []


def test_each_component_has_a_promise_and_a_test() -> None:
    """The table of guarantees: promise, window, mechanism, and at least one test that is there, for every component."""
    text = _prose(DOCS / "guarantees.md").split("## By component")[1].split("\n## ")[0]
    lines = [line.strip().strip("|") for line in text.splitlines() if line.startswith("|")]
    head, _, *body = [[cell.strip() for cell in line.split("|")] for line in lines]
    assert {row[0] for row in body if len(row) == len(head) and all(row)} == COMPONENTS
    for row in body:
        tests = [one for one in _CODE.findall(row[-1]) if one.startswith("tests/") and "::test_" in one]
        assert tests, row[0]
        assert all(_exists(one) for one in tests), row[0]


def test_every_refusal_code_is_explained() -> None:
    """A stable word of the interface has its line."""
    text = (DOCS / "guarantees.md").read_text(encoding="utf-8")
    assert [str(code) for code in RefusalCode if f"| `{code}` |" not in text] == []


def test_every_word_has_one_meaning() -> None:
    """The glossary has each word once."""
    lines = (DOCS / "glossary.md").read_text(encoding="utf-8").splitlines()
    words = [word for line in lines if line.startswith("| **") for word in line.split("**")[1].split(", ")]
    assert len(words) == len(set(words))
    assert [word for word in WORDS if word not in words] == []


@pytest.mark.parametrize("record", DECISIONS, ids=_ids(DECISIONS))
def test_a_decision_is_short_and_whole(record: Path) -> None:
    """Context, choice, what it costs; half a page."""
    text = record.read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Choice", "What it costs"]
    assert re.match(rf"# {record.name[:4]} ", text)
    prose = [line for line in text.splitlines() if not line.startswith("|")]
    assert len(" ".join(prose).split()) <= MAX_DECISION_WORDS


def test_decisions_are_numbered_without_a_hole() -> None:
    """And none is numbered twice."""
    assert [int(record.name[:4]) for record in DECISIONS] == list(range(1, len(DECISIONS) + 1))


def test_no_marks_are_left() -> None:
    """What is not done is in the issues, not in the tree."""
    mark = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*") if path.is_file()]
    files += [path for path in ROOT.iterdir() if path.is_file()]
    suffixes = {".py", ".md", ".sql", ".json", ".toml", ".txt", ".sh", ""}
    marked = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sorted(files)
        if path.suffix in suffixes and "__pycache__" not in path.parts
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if mark.search(line)
    ]
    assert marked == []


def test_the_tables_of_an_upgrade_are_those_of_the_code() -> None:
    """Each table is listed with its keys, in the order of the code, and with the attribute by which its items end."""
    listed = re.findall(
        r"^\| `(\w+)` \| `(\w+)` \((\w)\) \| (?:`(\w+)` \((\w)\))? ?\| (?:`(\w+)`)? ?\|",
        (DOCS / "operations.md").read_text(encoding="utf-8").split("\n## Upgrading\n")[1].split("\n## ")[0],
        re.MULTILINE,
    )
    wanted = [(one.name, *one.partition, *(one.sort or ("", ""))) for one in ALL_TABLES]
    assert [row[:5] for row in listed] == wanted
    expires = {row[0]: row[5] for row in listed}
    assert all(expires[one.name] == one.expires for one in ALL_TABLES if one.expires is not None)
