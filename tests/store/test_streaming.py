"""The control store on a real pair: a primary and its streaming replica, which lags, outlives it and takes its place."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import create_engine, event, text

from pipeline.core.errors import Transient
from pipeline.core.retry import Backoff
from pipeline.machine.processes import wait_until
from pipeline.ports.clock import SystemClock
from pipeline.store.connect import open_engine
from pipeline.store.control import SqlControl
from pipeline.store.open import Patience, migrated
from pipeline.store.transactions import Transactions
from tests.servers.postgres import PostgresServer, binaries
from tests.store.conftest import MISSING
from tests.store.values import ACME, AT_US, act, key

CLOCK = SystemClock()
SECONDS = 30.0
QUICK, PATIENT = Backoff(2, 0.01, 0.01), Backoff(40, 0.2, 1.0)


@dataclass(frozen=True)
class Pair:
    """A primary, and the replica that follows it."""

    primary: PostgresServer
    replica: PostgresServer

    def url(self, attributes: str) -> str:
        """Return the URL of both, of which one with these attributes is wanted."""
        hosts = "&".join(f"host=127.0.0.1:{one.port}" for one in (self.primary, self.replica))
        user = self.primary.url().partition("@")[0]
        return f"{user}@/postgres?{hosts}&target_session_attrs={attributes}"

    def on_replica(self, statement: str) -> object:
        """Run a statement on the replica alone."""
        engine = create_engine(
            self.replica.url().replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT"
        )
        with engine.connect() as connection:
            found = connection.execute(text(statement)).scalar()
        engine.dispose()
        return found

    def follows(self, number: int) -> bool:
        """True when the replica has so many writes."""
        return bool(self.on_replica("SELECT number FROM revision") == number)


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A pair of its own for each test: each leaves it otherwise."""
    tools = binaries()
    if tools is None or not (tools / "pg_basebackup").exists():
        pytest.skip(MISSING)
    pytest.importorskip("psycopg")
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        folders = [Path(name) / one for one in ("primary", "replica")]
        for folder in (Path(name), *folders):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755)
        primary = PostgresServer(folders[0], tools)
        migrated(primary.url(), CLOCK, Patience(20.0))
        replica = PostgresServer(folders[1], tools, primary)
        yield Pair(primary, replica)
        replica.stop()
        primary.stop()


@dataclass
class Opened:
    """The control store as a process has it, and how often each of its databases was asked."""

    control: SqlControl
    asked: dict[str, int]


def _opened(pair: Pair, writes: Backoff = PATIENT) -> Opened:
    asked, engines = {"primary": 0, "replica": 0}, {}
    for name, attributes in {"primary": "read-write", "replica": "prefer-standby"}.items():
        engines[name] = open_engine(pair.url(attributes))
        event.listen(engines[name], "begin", _counting(asked, name))
    replica = Transactions(engines["replica"], CLOCK, writes, "replica")
    return Opened(SqlControl(Transactions(engines["primary"], CLOCK, writes), replica), asked)


def _counting(asked: dict[str, int], name: str) -> Callable[[object], None]:
    def count(_connection: object) -> None:
        asked[name] += 1

    return count


def test_lists_come_from_a_replica_that_follows(pair: Pair) -> None:
    """What the primary took is listed by the replica once it has it; one thing is looked up at the primary."""
    opened = _opened(pair)
    control, asked = opened.control, opened.asked
    control.put_tenant(ACME, act(), new=True)
    assert wait_until(lambda: pair.follows(control.revision()), SECONDS)
    before = dict(asked)
    assert control.tenants() == [ACME]
    assert (asked["replica"] - before["replica"], asked["primary"] - before["primary"]) == (
        1,
        1,
    )  # its revision
    assert control.tenant("acme") == ACME
    assert asked["replica"] - before["replica"] == 1


def test_what_is_revoked_while_the_replica_stands_still_is_revoked(pair: Pair) -> None:
    """A replica whose replay is paused is passed over, for one key and for the list; it is asked again once it has caught up."""
    opened = _opened(pair)
    control = opened.control
    control.put_tenant(ACME, act(), new=True)
    control.put_key(key(), act("key.create"), new=True)
    assert wait_until(lambda: pair.follows(control.revision()), SECONDS)
    pair.on_replica("SELECT pg_wal_replay_pause()")
    assert wait_until(lambda: pair.on_replica("SELECT pg_get_wal_replay_pause_state()") == "paused", SECONDS)
    revoked = key(revoked_us=AT_US + 1)
    control.put_key(revoked, act("key.revoke"), new=False)
    assert not pair.follows(control.revision())
    assert (control.key("00ff"), control.keys()) == (revoked, [revoked])
    # What is told of a key while the replica stands still *and* the primary is away is judged by how old the copy may be,
    # by the caller's rule of staleness; that rule has its own tests.
    pair.on_replica("SELECT pg_wal_replay_resume()")
    assert wait_until(lambda: pair.follows(control.revision()), SECONDS)
    assert control.keys() == [revoked]


def test_a_replica_that_is_promoted_takes_over(pair: Pair) -> None:
    """The primary is killed: lists go on, callers are not judged by a copy, writes say that they may be tried again; promoted, the replica takes them, no restart."""
    control, hasty = _opened(pair).control, _opened(pair, QUICK).control
    control.put_tenant(ACME, act(), new=True)
    control.put_key(key(), act("key.create"), new=True)
    assert wait_until(lambda: pair.follows(control.revision()), SECONDS)
    pair.primary.crash()
    for one in (control, hasty):
        assert one.tenants() == [ACME]
    with pytest.raises(Transient):  # a copy may lag behind a revocation
        hasty.key("00ff")
    with pytest.raises(Transient):
        hasty.put_tenant(replace(ACME, name="late"), act(), new=True)
    assert pair.on_replica("SELECT pg_promote()") is True
    for number, one in enumerate((control, hasty)):
        one.put_tenant(replace(ACME, name=f"new{number}"), act(), new=True)
        assert len(one.tenants()) == 2 + number
    assert control.revision() == len(control.acts()) == 4
