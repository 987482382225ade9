"""Opens the database of the control store: how connections are made, kept, checked and limited in time."""

import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import QueuePool

from pipeline.core.errors import ConfigProblem

WRITES = {"headrace_writes": True}  # execution options of a connection whose transaction writes
_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "sqlite": "sqlite"}
_CONNECTIONS, _MORE = 5, 5  # of one process: kept, and for a rush
_CONNECT_SECONDS = 5
_STATEMENT_MS = 5_000  # our statements touch a few rows: what takes longer waits for a lock or a dead disk
_IDLE_IN_TRANSACTION_MS = 10_000
_RECYCLE_SECONDS = 1_800  # a connection is made anew, so that a moved server is found
_BUSY_MS = 10_000  # SQLite: how long a writer waits for another
# A server that vanished is noticed: probes after 10 s of silence, and sent bytes unanswered for 10 s end a connection.
_ALIVE = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite file."""
    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


def open_engine(url: str) -> Engine:
    """Return the engine of a URL; no connection is made yet.

    Raises:
        ConfigProblem: it is no URL, or of another kind of database, or psycopg is not installed. The message does not
            repeat it: there is a password in it.
    """
    place = _parsed(url)
    if place.get_backend_name() == "sqlite":
        return _sqlite(place)
    arguments = {"connect_timeout": _CONNECT_SECONDS, "application_name": "headrace", **_ALIVE}
    given = {
        name: value for name, value in arguments.items() if name not in place.query
    }  # the URL has the last word
    try:
        engine = create_engine(
            place,
            pool_size=_CONNECTIONS,
            max_overflow=_MORE,
            pool_timeout=_CONNECT_SECONDS,
            pool_recycle=_RECYCLE_SECONDS,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args={
                **given,
                "prepare_threshold": None,
            },  # poolers hand a statement to another connection
        )
    except ModuleNotFoundError as exc:
        raise ConfigProblem("control.url names PostgreSQL: pip install 'headrace[postgres]'") from exc
    event.listen(engine, "connect", _limit)
    return engine


def _parsed(url: str) -> URL:
    try:
        place = make_url(url)
        return place.set(drivername=_DRIVERS[place.drivername.partition("+")[0]])
    except (ArgumentError, NoSuchModuleError, KeyError, ValueError):
        raise ConfigProblem(
            "control.url: must be postgresql://USER:PASSWORD@HOST:PORT/NAME, as any letter of the password that a URL "
            "does not take is written (@ is %40), or sqlite:////PATH"
        ) from None  # the foreign message may quote it


def _limit(connection: Any, _record: object) -> None:
    """Set the limits of a new connection to PostgreSQL."""
    before, connection.autocommit = connection.autocommit, True
    connection.execute(
        f"SET statement_timeout = {_STATEMENT_MS}; SET lock_timeout = {_STATEMENT_MS}; "
        f"SET idle_in_transaction_session_timeout = {_IDLE_IN_TRANSACTION_MS}"
    )
    connection.autocommit = before


def _sqlite(place: URL) -> Engine:
    engine = create_engine(
        place,
        poolclass=QueuePool,
        pool_size=_CONNECTIONS,
        max_overflow=_MORE,
        hide_parameters=True,
        connect_args={"timeout": _BUSY_MS / 1_000, "check_same_thread": False},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = (
        None  # we say BEGIN ourselves: Python's way does so too late for DDL and locks
    )
    for pragma in (f"busy_timeout = {_BUSY_MS}", "foreign_keys = ON", "synchronous = FULL"):
        connection.execute(f"PRAGMA {pragma}")
    # Readers and a writer at once. It stays in the file, and while another process switches it on this says "locked" at once.
    with suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA journal_mode = WAL")


def _begin_sqlite(connection: Connection) -> None:
    """Begin; a transaction that will write waits for its turn here, as it could not later."""
    writes = connection.get_execution_options().get("headrace_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
