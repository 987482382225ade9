"""A server that dies and comes back: reads and writes go on, and no act is there twice."""

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import Session

from pipeline.core.errors import OutcomeUnknown, Transient
from pipeline.core.retry import Backoff
from pipeline.ports.clock import SystemClock
from pipeline.store.connect import open_engine
from pipeline.store.control import SqlControl
from pipeline.store.migrate import migrate
from pipeline.store.transactions import Transactions
from tests.fakes.clock import SteppedClock
from tests.servers.postgres import PostgresServer
from tests.store.values import ACME, act, key

CLOCK = SystemClock()
PATIENT, QUICK = Backoff(40, 0.2, 1.0), Backoff(2, 0.01, 0.01)


@pytest.fixture
def engine(postgres_url: str) -> Engine:
    """Return a migrated database whose server may be killed."""
    made = open_engine(postgres_url)
    migrate(made)
    return made


def over(engine: Engine, patience: Backoff = PATIENT) -> SqlControl:
    return SqlControl(Transactions(engine, CLOCK, patience))


def test_reads_and_writes_go_on_after_a_fail_over(postgres: PostgresServer, engine: Engine) -> None:
    """All kept connections are dead at once: the next read and the next write do not notice."""
    control = over(engine)
    control.put_tenant(ACME, act(), new=True)
    postgres.crash()
    postgres.start()
    assert control.tenants() == [ACME]
    postgres.crash()
    postgres.start()
    control.put_key(key(), act("key.create"), new=True)
    assert control.key("00ff") == key()


def test_a_write_waits_until_the_server_is_back(postgres: PostgresServer, engine: Engine) -> None:
    """A write that meets a dead server is tried until one answers."""
    control = over(engine)
    control.put_tenant(ACME, act(), new=True)
    postgres.crash()
    back = threading.Timer(1.0, postgres.start)
    back.start()
    control.put_key(key(), act("key.create"), new=True)
    back.join()
    assert len(control.keys()) == 1
    assert control.revision() == 2


def test_writers_through_crashes_have_each_act_once(postgres: PostgresServer, engine: Engine) -> None:
    """A server that is killed again and again under writers loses nothing and doubles nothing."""
    control = over(engine)
    control.put_tenant(ACME, act(), new=True)
    done = list[int]()

    def write(first: int) -> None:
        for number in range(first, first + 40):
            control.put_key(key(f"k{number}"), act("key.create", f"key:k{number}"), new=True)
            done.append(number)

    writers = [threading.Thread(target=write, args=(first,)) for first in (0, 100, 200)]
    for one in writers:
        one.start()
    for crash_at in (15, 50, 85):
        while len(done) < crash_at and any(one.is_alive() for one in writers):
            CLOCK.pause(0.005)
        postgres.crash()
        postgres.start()
    for one in writers:
        one.join(120)
    assert len(done) == 120
    assert len(control.keys()) == 120
    assert control.revision() == len(control.acts(limit=1_000)) == 121


def cut_after_commit(engine: Engine, cut: Callable[[], None]) -> None:
    """Let the next commit hold, and break the connection before its answer is seen."""

    def commit(connection: object) -> None:
        event.remove(engine, "commit", commit)
        connection.exec_driver_sql("COMMIT")  # type: ignore[attr-defined]
        cut()
        connection.exec_driver_sql("SELECT 1")  # type: ignore[attr-defined]

    event.listen(engine, "commit", commit)


def test_a_commit_whose_answer_was_lost_is_found(postgres: PostgresServer, engine: Engine) -> None:
    """The write is read back by its token: it is done once, and not refused as a second one."""
    control = over(engine)

    def cut() -> None:
        postgres.crash()
        postgres.start()

    cut_after_commit(engine, cut)
    control.put_tenant(ACME, act(), new=True)
    assert control.tenants() == [ACME]
    assert control.revision() == len(control.acts()) == 1


def test_what_cannot_be_read_back_is_unknown(postgres: PostgresServer, engine: Engine) -> None:
    """A server that dies over a commit and stays away: nobody may say that it was not done."""
    control = over(engine, QUICK)
    cut_after_commit(engine, postgres.crash)
    try:
        with pytest.raises(OutcomeUnknown, match="headrace acts"):
            control.put_tenant(ACME, act(), new=True)
    finally:
        postgres.start()
    assert control.tenants() == [ACME]


def test_a_server_that_stays_away_is_transient(postgres: PostgresServer, engine: Engine) -> None:
    """Before anything was done, whoever asks hears that it may try again."""
    control = over(engine, QUICK)
    postgres.crash()
    try:
        for call in (
            control.tenants,
            control.revision,
            lambda: control.put_tenant(ACME, act(), new=True),
            lambda: control.keys_used({"x": 1}),
        ):
            with pytest.raises(Transient):
                call()
    finally:
        postgres.start()
    assert control.tenants() == []


def test_a_primary_that_is_a_stand_by_now_is_left(postgres: PostgresServer, engine: Engine) -> None:
    """A server that only reads any more is not written to: the connections are made anew until one leads to a primary."""
    name = engine.url.database
    clock = SteppedClock()

    def pause(seconds: float) -> None:
        clock.advance(seconds)
        with (
            open_engine(postgres.url())
            .execution_options(isolation_level="AUTOCOMMIT")
            .connect() as connection
        ):
            connection.execute(text(f"ALTER DATABASE {name} RESET default_transaction_read_only"))

    clock.pause = pause  # type: ignore[method-assign]
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
    engine.dispose()
    control = SqlControl(Transactions(engine, clock, PATIENT))
    control.put_tenant(ACME, act(), new=True)
    assert control.tenants() == [ACME]


def test_a_statement_that_takes_too_long_is_ended(engine: Engine) -> None:
    """The server itself ends what we wait for no longer: Transient, and the connection is good."""
    transactions = Transactions(engine, CLOCK, QUICK)

    def slow(session: Session) -> None:
        session.execute(text("SET LOCAL statement_timeout = 50"))
        session.execute(text("SELECT pg_sleep(30)"))

    with pytest.raises(Transient, match="57014"):
        transactions.read(slow)
    assert transactions.read(lambda session: session.scalar(text("SELECT 1"))) == 1


def replicated(url: str, behind: str) -> SqlControl:
    primary = Transactions(open_engine(url), CLOCK, QUICK)
    return SqlControl(primary, Transactions(open_engine(behind), CLOCK, QUICK, "replica"))


def test_lists_come_from_a_replica_that_is_not_behind(postgres: PostgresServer, postgres_url: str) -> None:
    """A copy that has every write gives the lists; one that lags is passed over; one that is gone too."""
    behind = postgres_url.rpartition("/")[0] + "/" + _copy_of(postgres, postgres_url)
    control, copy = replicated(postgres_url, behind), over(open_engine(behind))
    control.put_tenant(ACME, act(), new=True)
    assert control.tenants() == [ACME]  # the copy has not heard of it
    copy.put_tenant(replace(ACME, plan="premium"), act(), new=True)
    assert [one.plan for one in control.tenants()] == ["premium"]  # it counts as many writes: it is asked
    found = control.tenant("acme")
    assert found == ACME  # one thing comes from the primary
    gone = replicated(postgres_url, behind.rpartition("/")[0] + "/gone")
    with pytest.raises(Exception, match=r"control\.replica_url"):
        gone.tenants()  # a wrong URL is told, not passed over


def test_a_replica_gives_lists_alone_while_the_primary_is_away(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """During a fail-over lists go on from the copy; writes wait, and so does what callers are judged by."""
    migrate(open_engine(postgres_url))
    over(open_engine(postgres_url)).put_tenant(ACME, act(), new=True)
    away = postgres_url.replace(f":{postgres.port}/", ":1/")
    control = replicated(away, postgres_url)
    assert control.tenants() == [ACME]
    for call in (
        lambda: control.put_key(key(), act(), new=True),
        lambda: control.tenant("acme"),
        lambda: control.key("00ff"),
        lambda: control.client("4k2"),
        control.credentials,
        control.revision,
    ):
        with pytest.raises(Transient):
            call()


def test_a_stand_by_is_not_asked_for_credentials(postgres_url: str) -> None:
    """A server in recovery, as a primary of yesterday is, gives lists, and nothing that callers are judged by."""
    engine = open_engine(postgres_url)
    migrate(engine)
    over(engine).put_tenant(ACME, act(), new=True)
    over(engine).put_key(key(), act("key.create"), new=True)
    with engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA standing"))
        connection.execute(
            text("CREATE FUNCTION standing.pg_is_in_recovery() RETURNS boolean LANGUAGE sql AS 'SELECT true'")
        )
    stood = over(open_engine(f"{postgres_url}?options=-csearch_path%3Dstanding,pg_catalog,public"))
    assert over(engine).key("00ff") == key()
    assert stood.tenants() == [ACME]
    for call in (lambda: stood.key("00ff"), lambda: stood.tenant("acme"), stood.credentials, stood.revision):
        with pytest.raises(Transient, match="stand-by"):
            call()


def _copy_of(postgres: PostgresServer, url: str) -> str:
    """Make an equal database on the same server, and return its name."""
    migrate(open_engine(url))
    name = url.rpartition("/")[2] + "_copy"
    with open_engine(postgres.url()).execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    migrate(open_engine(url.rpartition("/")[0] + "/" + name))
    return name
