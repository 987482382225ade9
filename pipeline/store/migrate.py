"""Brings a database to the tables of this program, and says where it is.

All steps are one transaction behind one lock: of two processes that start at once the second waits and finds nothing to do,
and a step that fails leaves the database as it was. A database that is ahead of this program is left alone: a migration is
made so that the release before it goes on working.
"""

from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from pipeline.core.errors import ConfigProblem
from pipeline.store.connect import WRITES
from pipeline.store.errors import translated

REVISIONS = ("0001", "0002")  # all, in order; kept here so that a look does not load Alembic
_LOCK = 0x68656164_72616365 >> 1  # PostgreSQL's advisory lock of our migrations: "headrace"
_LOCK_SECONDS = 60

State = Literal["empty", "behind", "current", "ahead"]


def state_of(engine: Engine) -> State:
    """Say where a database is.

    Raises:
        Transient: it does not answer.
    """
    with translated("control store"), engine.connect() as connection:
        try:
            revision = connection.scalar(text("SELECT version_num FROM alembic_version"))
        except (ProgrammingError, OperationalError) as exc:
            if not _has_no_table(exc):
                raise
            return "empty"
    if revision not in REVISIONS:
        return "ahead" if revision else "empty"
    return "current" if revision == REVISIONS[-1] else "behind"


def migrate(engine: Engine) -> State:
    """Bring a database to the tables of today; return where it was. May be repeated, and called by several at once.

    Raises:
        ConfigProblem: another program holds the lock for more than a minute, or the user may not make tables.
        Transient: it does not answer.
    """
    before = state_of(engine)
    if before in {"current", "ahead"}:
        return before
    writing = engine.execution_options(**WRITES)
    with translated("control store"), writing.begin() as connection:
        _lock(connection)
        _run(connection)
    return before


def require_current(engine: Engine) -> None:
    """Refuse a database that nobody has brought to the tables of this program.

    Raises:
        ConfigProblem: it is empty, or behind.
    """
    state = state_of(engine)
    if state in {"empty", "behind"}:
        what = "has no tables yet" if state == "empty" else "has the tables of an older release"
        raise ConfigProblem(f"the control store {what}: run `headrace control migrate`")


def _lock(connection: Connection) -> None:
    """Wait for whoever migrates now; SQLite's transaction is a lock by itself, as it begins by writing."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SET LOCAL statement_timeout = '{_LOCK_SECONDS}s'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        connection.execute(text("SET LOCAL statement_timeout = 0"))


def _run(connection: Connection) -> None:
    from alembic.config import Config  # noqa: PLC0415 - 0.2 s that only a migration needs
    from alembic.runtime.environment import EnvironmentContext  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    script = ScriptDirectory.from_config(config)

    def steps(revision: Any, _context: Any) -> Any:
        return script._upgrade_revs("head", revision)  # noqa: SLF001 - what Alembic's own `upgrade` calls

    with EnvironmentContext(config, script, fn=steps, destination_rev="head") as environment:
        environment.configure(connection=connection)
        environment.run_migrations()


def _has_no_table(exc: DBAPIError) -> bool:
    return getattr(exc.orig, "sqlstate", None) == "42P01" or "no such table" in str(exc.orig)
