"""Opens the control store: waits for its server, brings SQLite's file to the tables of today, looks whether PostgreSQL's are."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Engine

from pipeline.core.errors import Transient
from pipeline.core.retry import Backoff
from pipeline.ports.clock import Clock
from pipeline.store.connect import open_engine
from pipeline.store.control import SqlControl
from pipeline.store.migrate import State, migrate, require_current, state_of
from pipeline.store.transactions import Transactions

T = TypeVar("T")
Progress = Callable[[float, str], None]
_LOOK_SECONDS = 1.0
# Of a write, until its outcome is known: a managed PostgreSQL fails over in 30 to 60 s, a command may wait that long.
_PATIENT = Backoff(attempts=40, base_seconds=0.2, cap_seconds=2.0)


def unheard(_seconds: float, _reason: str) -> None:
    """Tell nobody that something is waited for."""


@dataclass(frozen=True)
class Patience:
    """How long a start waits for the server. `progress` is told every second: how long already, and why."""

    seconds: float = 60.0
    progress: Progress = unheard


def open_control(
    url: str, clock: Clock, *, replica_url: str | None = None, patience: Patience | None = None
) -> SqlControl:
    """Return the control store, which answers and has its tables.

    Raises:
        ConfigProblem: a URL is wrong, the server refuses us, or PostgreSQL was not migrated.
        Transient: it does not answer in the time that `patience` has.
    """
    engine = open_engine(url)
    ready = migrate if engine.dialect.name == "sqlite" else require_current
    waited("control store", lambda: ready(engine), clock, patience or Patience())
    replica = Transactions(open_engine(replica_url), clock, _PATIENT, "replica") if replica_url else None
    return SqlControl(Transactions(engine, clock, _PATIENT), replica)


def migrated(url: str, clock: Clock, patience: Patience) -> State:
    """Bring the database to the tables of today; return where it was."""
    engine = open_engine(url)
    return waited("control store", lambda: migrate(engine), clock, patience)


def state(url: str, clock: Clock, patience: Patience) -> State:
    """Return where the database is."""
    engine: Engine = open_engine(url)
    return waited("control store", lambda: state_of(engine), clock, patience)


def waited(what: str, call: Callable[[], T], clock: Clock, patience: Patience) -> T:
    """Return what `call` returns, once the server answers.

    Raises:
        Transient: it did not in time; the message says what it said last.
    """
    began = clock.monotonic()
    while True:
        try:
            return call()
        except Transient as exc:
            passed = clock.monotonic() - began
            if passed >= patience.seconds:
                raise Transient(
                    f"{what}: no answer for {passed:.0f} s, which is as long as is waited (control.wait_seconds); {exc}"
                ) from exc
            patience.progress(passed, str(exc))
            clock.pause(_LOOK_SECONDS)
