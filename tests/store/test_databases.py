"""Databases as they come: empty, half known, away, behind a proxy that tells nothing; several starts at once."""

import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from socket import socket

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from pipeline import store as package
from pipeline.config import load_settings
from pipeline.core.errors import ConfigProblem, Transient
from pipeline.ports.clock import SystemClock
from pipeline.store.connect import open_engine, sqlite_url
from pipeline.store.control import SqlControl
from pipeline.store.migrate import REVISIONS, migrate, require_current, state_of
from pipeline.store.migrate import _run as real_run
from pipeline.store.open import Patience, open_control, state
from pipeline.store.tables import Base
from pipeline.wiring.control import control, control_url, has_control
from tests.fakes.clock import SteppedClock
from tests.servers.postgres import PASSWORDS, PostgresServer
from tests.store.several import together
from tests.store.values import ACME, act, client, key, publication

CLOCK = SystemClock()


def test_the_migrations_make_the_tables_of_the_models(url: str) -> None:
    """What the migrations have made and what the program reads are the same tables, columns and indexes."""
    with open_engine(url).connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), Base.metadata)
    assert differences == []


def test_the_list_of_revisions_is_that_of_the_files() -> None:
    """The revisions that a look goes by are those that Alembic finds, in its order."""
    config = Config()
    config.set_main_option("script_location", str(Path(package.__file__).parent / "migrations"))
    script = ScriptDirectory.from_config(config)
    assert [one.revision for one in reversed(list(script.walk_revisions()))] == list(REVISIONS)


def test_a_migration_may_be_repeated(empty_url: str) -> None:
    """From empty it makes everything; again it does nothing and loses nothing."""
    engine = open_engine(empty_url)
    assert state_of(engine) == "empty"
    assert migrate(engine) == "empty"
    before = open_control(empty_url, CLOCK)
    before.put_tenant(ACME, act(), new=True)
    assert migrate(engine) == state_of(engine) == "current"
    assert before.tenants() == [ACME]
    assert len(before.plans()) == 3


def test_a_migration_that_fails_leaves_nothing(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All steps are one transaction: a failure in the middle is as if it had not begun."""
    engine = open_engine(empty_url)
    monkeypatch.setattr("pipeline.store.migrate._run", _half_a_run)
    with pytest.raises(RuntimeError):
        migrate(engine)
    monkeypatch.undo()
    assert migrate(engine) == "empty"
    assert len(open_control(empty_url, CLOCK).plans()) == 3


def _half_a_run(connection: Connection) -> None:
    real_run(connection)
    raise RuntimeError


def test_what_was_published_before_gets_its_owner(url: str) -> None:
    """The tenant whose key or client published it; the deployment, where a person did."""
    before, engine = open_control(url, CLOCK), open_engine(url)
    before.put_tenant(ACME, act(), new=True)
    before.put_key(key("00ff"), act(), new=True)
    before.put_client(client("4k2"), act(), new=True)
    for version, who in enumerate(("key:00ff", "client:4k2", "jo@desk", "key:gone"), 1):
        before.publish(replace(publication(version), published_by=who), act())
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE publications DROP COLUMN owner"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    assert migrate(engine) == "behind"
    assert [one.owner for one in open_control(url, CLOCK).publications()] == ["acme", "acme", "", ""]


def test_a_database_of_a_newer_release_is_left_alone(url: str) -> None:
    """A release that is rolled back goes on with the tables of the next one."""
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert migrate(engine) == "ahead"
    assert len(open_control(url, CLOCK).plans()) == 3


def test_postgres_is_migrated_by_command_alone(postgres_url: str) -> None:
    """A start does not change a shared database: it names the command that does."""
    with pytest.raises(ConfigProblem, match="headrace control migrate"):
        open_control(postgres_url, CLOCK)
    assert state(postgres_url, CLOCK, Patience()) == "empty"


def test_starts_at_once_do_not_collide(empty_url: str) -> None:
    """Of processes that find an empty database one makes the tables, and all can use them."""
    answers = together("start", empty_url, ["a", "b", "c"])
    assert set(answers) <= {"empty", "current"}
    assert "empty" in answers
    assert len(open_control(empty_url, CLOCK).plans()) == 3


def test_processes_write_at_once(control: SqlControl, url: str) -> None:
    """Three processes write into one database, SQLite's file included; each act is there, and counted."""
    names = ["a", "b", "c"]
    for name in names:
        control.put_tenant(replace(ACME, name=name), act(), new=True)
    together("write", url, names)
    assert len(control.keys()) == 45
    assert control.revision() == len(control.acts(limit=1_000)) == 48


def test_a_start_waits_for_its_server_and_says_so() -> None:
    """It tells each second what it waits for, and gives up with the setting that says how long."""
    clock, told = SteppedClock(), list[float]()
    with socket() as silent:
        silent.bind(("127.0.0.1", 0))  # nobody else can take the port, and nobody listens there
        url = f"postgresql://jo:{PASSWORDS[1]}@127.0.0.1:{silent.getsockname()[1]}/x"
        with pytest.raises(Transient, match=r"control\.wait_seconds") as refused:
            open_control(url, clock, patience=Patience(5.0, lambda seconds, _reason: told.append(seconds)))
    assert told == [0, 1, 2, 3, 4]
    assert not any(word in str(refused.value) for word in PASSWORDS)


def test_a_server_that_comes_later_is_found(postgres: PostgresServer, postgres_url: str) -> None:
    """A start goes on as soon as its server answers."""
    migrate(open_engine(postgres_url))
    postgres.crash()
    told = list[str]()

    def progress(_seconds: float, reason: str) -> None:
        if not told:
            postgres.start()
        told.append(reason)

    assert len(open_control(postgres_url, CLOCK, patience=Patience(30.0, progress)).plans()) == 3
    assert told


@pytest.mark.parametrize(
    "change",
    [
        lambda url: url.replace(PASSWORDS[1], "wrong-one"),
        lambda url: url.replace("headrace:", "nobody:"),
        lambda url: url.rpartition("/")[0] + "/nowhere",
        lambda url: url + "?sslmode=require",
        lambda url: url + "?sslmode=nonsense",
        lambda url: url + "?no_such_option=1",
    ],
)
def test_a_server_that_refuses_us_is_a_setting_to_mend(
    postgres_url: str, change: Callable[[str], str]
) -> None:
    """Wrong user, password, database or TLS is said at once, by the setting's name, without the password."""
    with pytest.raises(ConfigProblem, match=r"control\.url") as refused:
        open_control(change(postgres_url), CLOCK, patience=Patience(30.0))
    assert _hides_secrets(refused.value)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "nonsense",
        "mysql://u:s3cret%2Fp%40ss@h/d",
        "postgresql://u:s3cret/p@ss@h:port/d",
        "http://u:s3cret/p@ss@h",
    ],
)
def test_a_wrong_url_is_refused_without_its_password(wrong: str) -> None:
    """The message says what a URL looks like, and nothing of this one."""
    with pytest.raises(ConfigProblem, match=r"control\.url") as refused:
        open_engine(wrong)
    assert _hides_secrets(refused.value)


def _hides_secrets(exc: BaseException) -> bool:
    chain: list[BaseException] = [exc]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    texts = [text for one in chain for text in (str(one), repr(one))]
    return not any(word in text for word in (*PASSWORDS, "wrong-one") for text in texts)


def test_what_is_stored_is_not_in_errors(control: SqlControl) -> None:
    """A statement that fails says neither its values nor its SQL."""
    control.put_tenant(ACME, act(), new=True)
    broken = key(label="x" * 10)
    object.__setattr__(broken, "secret_hash", None)
    with pytest.raises(Exception, match="control store") as refused:
        control.put_key(broken, act("key.create"), new=True)
    assert "INSERT" not in str(refused.value)
    assert "xxxx" not in repr(refused.value.__cause__)


def test_the_file_in_the_home_is_made_when_it_is_needed(tmp_path: Path) -> None:
    """Looking makes no file; the first use makes one that only its owner can read."""
    settings = load_settings({"paths": {"home": tmp_path / "home"}}, {})
    assert not has_control(settings)
    made = control(settings)
    assert has_control(settings)
    assert made.tenants() == []
    file = tmp_path / "home" / "control.sqlite"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert control_url(settings) == sqlite_url(file)
    made.close()


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    """A file of something else is left as it is, and the setting is named."""
    (tmp_path / "control.sqlite").write_bytes(b"something else, and long enough to be no header" * 100)
    with pytest.raises(ConfigProblem, match=r"control\.url"):
        control(load_settings({"paths": {"home": tmp_path}}, {}))


def test_tenants_need_their_plan_in_sqlite_too(tmp_path: Path) -> None:
    """Foreign keys are enforced, also for somebody with a shell."""
    engine = open_engine(sqlite_url(tmp_path / "c.sqlite"))
    migrate(engine)
    require_current(engine)
    with pytest.raises(Exception, match="FOREIGN KEY"), engine.begin() as connection:
        connection.execute(text("INSERT INTO tenants VALUES ('x', 'none', 'active', 0)"))
