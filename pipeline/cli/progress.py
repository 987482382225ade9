"""Progress of anything that takes longer than a moment: a live line on a terminal, in a pipe silence, or a line now and then.

A live line is drawn by time alone as well: what has nothing to count yet is seen to run.
"""

import threading
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

REFRESH_SECONDS = 0.2
TELL_SECONDS = 10.0  # between two lines of a stage, where nobody sees a live one
FIRST_SECONDS = 2.0  # until the first line of a stage that has no line for its begin


class Progress:
    """One counted stage, on standard error.

    Args:
        name: what is done.
        total: how many in all, when known.
        unit: of what.
        told: in a pipe say how far it is after two seconds, and then every ten: for what a person waits for there as well.
    """

    def __init__(self, name: str, total: int | None = None, unit: str = "", *, told: bool = False) -> None:
        self._stages = Stages(told=told, edges=False)
        self._name, self._done, self._lock = name, 0, threading.Lock()
        self._stages.add(name, total, unit)

    def __enter__(self) -> Self:
        self._stages.__enter__()
        self._stages.begin(self._name)
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

    def count(self) -> str:
        """Return how many are done, and of how many."""
        of = f" / {self.total:,}" if self.total else ""
        return f"{self.done:,}{of} {self.unit}".rstrip() if self.done or self.total else ""

    def words(self) -> str:
        """Return all of it in one line."""
        return ", ".join(word for word in (self.count(), self.note, f"{self.seconds():.1f} s") if word)


class Stages:
    """Several stages, one line each; drawn only on a terminal, at most five times a second.

    Args:
        told: elsewhere say when a stage begins and ends, and every ten seconds how far it is.
        edges: say so of begin and end; else the first line comes after two seconds.
    """

    def __init__(self, *, told: bool = False, edges: bool = True) -> None:
        self._console = Console(stderr=True)
        self._told = told and not self._console.is_terminal
        self._edges = edges
        self._ended = threading.Event()
        self._stages: dict[str, _Stage] = {}
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._drawn_at = 0.0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        if self._told or self._live.is_started:
            threading.Thread(target=self._go_on, name="progress", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._live.stop()

    def add(self, name: str, total: int | None = None, unit: str = "") -> None:
        """Announce a stage."""
        self._stages[name] = _Stage(total, unit)

    def begin(self, name: str) -> None:
        """Start a stage's time."""
        self._stages[name].began = time.monotonic()
        self._draw(force=True)
        if self._edges:
            self._tell(f"{name}: begins")

    def update(self, name: str, done: int, note: str = "") -> None:
        """Show how many are done, and a word beside it."""
        stage = self._stages[name]
        if stage.began is None:
            stage.began = time.monotonic()
        stage.done, stage.note = done, note
        self._draw()

    def end(self, name: str) -> None:
        """Stop a stage's time."""
        stage = self._stages[name]
        stage.ended = time.monotonic()
        self._draw(force=True)
        if self._edges:
            self._tell(f"{name}: done, {stage.words()}")

    def seconds(self) -> dict[str, float]:
        """Return each stage's time so far."""
        return {name: round(stage.seconds(), 2) for name, stage in self._stages.items()}

    def say(self, line: str) -> None:
        """Print a line above the live ones."""
        self._console.print(line, highlight=False, markup=False)

    def tell(self) -> None:
        """Say of each stage that runs how far it is."""
        for name, stage in list(self._stages.items()):
            if stage.began is not None and stage.ended is None:
                self._tell(f"{name}: {stage.words()}")

    def _tell(self, line: str) -> None:
        if self._told:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _go_on(self) -> None:
        if self._live.is_started:
            while not self._ended.wait(REFRESH_SECONDS):
                self._draw()
            return
        wait = TELL_SECONDS if self._edges else FIRST_SECONDS
        while not self._ended.wait(wait):
            self.tell()
            wait = TELL_SECONDS

    def _draw(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if not self._live.is_started or (not force and now - self._drawn_at < REFRESH_SECONDS):
            return
        self._drawn_at = now
        self._live.update(self._table(), refresh=True)

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for name, stage in list(self._stages.items()):
            seconds = stage.seconds()
            mark = "[green]done[/]" if stage.ended else "[cyan]...[/]" if stage.began else ""
            rate = f"{stage.done / seconds:,.0f}/s" if stage.done and seconds else ""
            table.add_row(
                name, mark, stage.count(), rate, f"{seconds:.1f} s" if stage.began else "", stage.note
            )
        return table
