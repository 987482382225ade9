"""Processes of the API that share a port, as their parent sees them end."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from consumers import api
from pipeline.config import load_settings
from pipeline.core.errors import HeadraceError

SLOW_TO_START = "import time; time.sleep(60)"


def _kept(home: Path, monkeypatch: pytest.MonkeyPatch, program: str, began: Callable[[], None]) -> None:
    """Keep two processes of a program, and ask them to stop at once."""
    monkeypatch.setattr(api, "module_command", lambda _: [sys.executable, "-c", program])

    def stopped_at_once(stop: Callable[[], None]) -> None:
        began()
        stop()

    monkeypatch.setattr(api, "on_stop", stopped_at_once)
    settings = load_settings(
        {
            "paths": {"home": home},
            "web": {"port": 0, "workers": 2},
            "aws": {"endpoint_url": "http://127.0.0.1:1"},
        },
        environ={},
    )
    api._keep_many(settings, lambda _: None)


def test_a_stop_before_they_serve_is_an_end_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the signal itself ended had taken nothing: nobody is told of a crash."""
    asked = list[bool]()
    _kept(tmp_path, monkeypatch, SLOW_TO_START, lambda: asked.append(True))
    assert asked


def test_an_end_that_failed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that could not end in order makes its parent fail, with its status."""
    monkeypatch.setattr(api._Slot, "__init__", _ended_with_70)
    with pytest.raises(HeadraceError, match="status 70"):
        _kept(tmp_path, monkeypatch, SLOW_TO_START, lambda: None)


def _ended_with_70(self: api._Slot, environment: dict[str, str]) -> None:  # noqa: ARG001 - as the class calls it
    self.child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(70)"])
    self.child.wait()
