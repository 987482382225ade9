"""Progress of anything that takes longer than a moment: a live line on a terminal, silence in a pipe."""

import threading
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

REFRESH_SECONDS = 0.2


class Progress:
    """One counted stage, on standard error.

    Args:
        name: what is done.
        total: how many in all, when known.
        unit: of what.
    """

    def __init__(self, name: str, total: int | None = None, unit: str = "") -> None:
        self._stages = Stages()
        self._name, self._done, self._lock = name, 0, threading.Lock()
        self._stages.add(name, total, unit)

    def __enter__(self) -> Self:
        self._stages.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stages.__exit__(kind, value, trace)

    def update(self, done: int) -> None:
        """Show how many are done."""
        self._stages.update(self._name, done)

    def add(self, more: int) -> None:
        """Show that so many more are done; from any thread."""
        with self._lock:
            self._done += more
            self._stages.update(self._name, self._done)

    def stop(self) -> None:
        """Remove the line, for output to take its place; what is done later is not shown."""
        self._stages.__exit__(None, None, None)


class _Stage:
    def __init__(self, total: int | None, unit: str) -> None:
        self.total, self.unit = total, unit
        self.done = 0
        self.note = ""
        self.began: float | None = None
        self.ended: float | None = None

    def seconds(self) -> float:
        """Return how long the stage has run, or ran."""
        if self.began is None:
            return 0.0
        return (self.ended or time.monotonic()) - self.began


class Stages:
    """Several stages, one line each; drawn only on a terminal, at most five times a second."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._stages: dict[str, _Stage] = {}
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._drawn_at = 0.0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def add(self, name: str, total: int | None = None, unit: str = "") -> None:
        """Announce a stage."""
        self._stages[name] = _Stage(total, unit)

    def begin(self, name: str) -> None:
        """Start a stage's time."""
        self._stages[name].began = time.monotonic()
        self._draw(force=True)

    def update(self, name: str, done: int, note: str = "") -> None:
        """Show how many are done, and a word beside it."""
        stage = self._stages[name]
        if stage.began is None:
            stage.began = time.monotonic()
        stage.done, stage.note = done, note
        self._draw()

    def end(self, name: str) -> None:
        """Stop a stage's time."""
        self._stages[name].ended = time.monotonic()
        self._draw(force=True)

    def seconds(self) -> dict[str, float]:
        """Return each stage's time so far."""
        return {name: round(stage.seconds(), 2) for name, stage in self._stages.items()}

    def say(self, line: str) -> None:
        """Print a line above the live ones."""
        self._console.print(line, highlight=False, markup=False)

    def _draw(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if not self._live.is_started or (not force and now - self._drawn_at < REFRESH_SECONDS):
            return
        self._drawn_at = now
        self._live.update(self._table(), refresh=True)

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for name, stage in self._stages.items():
            seconds = stage.seconds()
            mark = "[green]done[/]" if stage.ended else "[cyan]...[/]" if stage.began else ""
            of = f" / {stage.total:,}" if stage.total else ""
            count = f"{stage.done:,}{of} {stage.unit}" if stage.done or stage.total else ""
            rate = f"{stage.done / seconds:,.0f}/s" if stage.done and seconds else ""
            table.add_row(name, mark, count, rate, f"{seconds:.1f} s" if stage.began else "", stage.note)
        return table
