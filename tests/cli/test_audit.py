"""`headrace audit`: what its last line promises, and of what."""

import os
from pathlib import Path

import pytest
from rich.console import Console

from pipeline.cli.audit import loader_runs, show
from pipeline.config import load_settings
from pipeline.core.audit import Line, Report
from pipeline.laptop.home import Home, prepare
from pipeline.laptop.processes import ProcessRef, process_ref
from pipeline.laptop.stack import Stack, write_stack

HERE = "http://127.0.0.1:4567"


@pytest.mark.parametrize(
    ("endpoint", "alive", "expected"),
    [(HERE, True, True), (HERE, False, False), ("http://127.0.0.1:9", False, True)],
)
def test_a_dead_loader_is_seen_where_it_is_the_audited_stack(
    endpoint: str, *, alive: bool, expected: bool, tmp_path: Path
) -> None:
    """A stack of another endpoint says nothing of what is audited."""
    home, me = Home(tmp_path), process_ref(os.getpid())
    loader = me if alive else ProcessRef(os.getpid(), "another start")
    prepare(home)
    write_stack(
        home,
        Stack(
            endpoint_url=HERE,
            port=4567,
            phase="running",
            started_at=0,
            owner=None,
            emulator=me,
            loader=loader,
        ),
    )
    settings = load_settings(
        {"paths": {"home": tmp_path}, "aws": {"endpoint_url": endpoint, "region": "us-east-1"}}
    )
    assert loader_runs(settings) is expected


def test_without_a_stack_nothing_is_said(tmp_path: Path) -> None:
    """AWS has no stack here."""
    assert loader_runs(load_settings({"paths": {"home": tmp_path}}))


@pytest.mark.parametrize("unread", [True, False])
def test_the_last_line_says_that_nobody_reads(*, unread: bool) -> None:
    """Balanced is what was loaded; what lies in the stream of a dead loader is not in it."""
    console, report = Console(record=True, width=400), Report()
    report.lines["shardId-000000000000", "2024-03-10"] = Line(1, 1)
    show(report, console, unread=unread)
    last = console.export_text().splitlines()[-1]
    assert last.startswith("balanced")
    assert ("loader is not running" in last) == unread
