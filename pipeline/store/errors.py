"""Foreign errors of the control store, translated in one place; neither SQL nor values nor the URL are in a message."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from pipeline.core.errors import ConfigProblem, HeadraceError, Transient

# SQLSTATE, PostgreSQL's appendix A: five characters, of which two name the class.
_LATER_CLASSES = frozenset(
    {"08", "40", "53", "57"}
)  # connection, rolled back, resources, the operator stepped in
_LATER = frozenset({"55P03", "25006"})  # a lock did not come in time; this server is a stand-by now
_READ_ONLY = "25006"
_SETTING_CLASSES = frozenset({"28", "3D"})  # who asks, and for which database
_FORBIDDEN, _NO_TABLE = "42501", "42P01"
_URL, _SETTING = "control.url", {"replica": "control.replica_url"}  # what is to be mended
_WRONG_LOGIN = ("authentication failed", "no password supplied", "no pg_hba.conf entry", "role ")
_WRONG_OPTION = (
    "invalid connection option",
    "invalid sslmode",
    "invalid port",
    "invalid integer value",
    "invalid channel_binding",
)
# The last: a server that takes TLS alone.
_WRONG_TLS = ("certificate", "does not support SSL", "no encryption")


class Disconnected(Transient):
    """The connection broke, or none could be made: what was under way may have happened, or not."""


@contextmanager
def translated(store: str) -> Iterator[None]:
    """Turn what SQLAlchemy and the drivers raise into our own errors; `store` names it in messages.

    Raises:
        Disconnected, Transient: later it will work.
        ConfigProblem: user, password, database, certificate or rights are wrong, or its tables are not there.
        HeadraceError: anything else.
    """
    try:
        yield
    except DBAPIError as exc:
        # PostgreSQL quotes the row that it refuses (classes 22 and 23): that cause is not carried on into any trace.
        quotes = str(getattr(exc.orig, "sqlstate", None)).startswith(("22", "23"))
        raise _of_driver(exc, store) from (None if quotes else exc)
    except PoolTimeout as exc:
        raise Transient(f"{store}: all connections are in use; try again") from exc
    except SQLAlchemyError as exc:
        raise HeadraceError(f"{store}: unexpected {type(exc).__name__}") from exc


def is_read_only(exc: BaseException) -> bool:
    """True for what a server says that was the primary and is a stand-by now: all connections to it are to be left."""
    cause = exc.__cause__
    return isinstance(cause, DBAPIError) and getattr(cause.orig, "sqlstate", None) == _READ_ONLY


def _of_driver(exc: DBAPIError, store: str) -> HeadraceError:
    sqlstate = getattr(exc.orig, "sqlstate", None)
    first = str(exc.orig).splitlines()[0] if str(exc.orig) else type(exc.orig).__name__
    if sqlstate is None:
        return _without_state(exc, first, store)
    if exc.connection_invalidated or sqlstate.startswith(("08", "57P")):
        return Disconnected(f"{store}: the connection broke ({sqlstate})")
    if sqlstate in _LATER or sqlstate[:2] in _LATER_CLASSES:
        return Transient(f"{store}: did not answer in time, or is busy ({sqlstate}); try again")
    if sqlstate[:2] in _SETTING_CLASSES:
        return ConfigProblem(f"{store}: it refuses us ({sqlstate}); correct {_SETTING.get(store, _URL)}")
    if sqlstate == _FORBIDDEN:
        return ConfigProblem(f"{store}: {first}; grant it to the user of {_SETTING.get(store, _URL)}")
    if sqlstate == _NO_TABLE:
        return ConfigProblem(f"{store} has not the tables of this release: run `headrace control migrate`")
    return HeadraceError(f"{store}: unexpected {type(exc.orig).__name__} ({sqlstate})")


def _without_state(exc: DBAPIError, first: str, store: str) -> HeadraceError:
    """Judge what has no SQLSTATE by its words: SQLite's errors, and a connection that was not made."""
    text = str(exc.orig)
    if "database is locked" in text or "database table is locked" in text:
        return Transient(f"{store}: another process writes for too long; try again")
    if "no such table" in text:
        return ConfigProblem(f"{store} has not the tables of this release: run `headrace control migrate`")
    if any(word in text for word in ("unable to open", "readonly database", "not a database", "malformed")):
        return ConfigProblem(f"{store}: {first}; see {_SETTING.get(store, _URL)} and paths.home")
    if any(words in text for words in _WRONG_TLS):
        return ConfigProblem(
            f"{store}: no trusted connection; see sslmode and sslrootcert in {_SETTING.get(store, _URL)}"
        )
    if any(words in text for words in _WRONG_LOGIN) or ("database " in text and "does not exist" in text):
        return ConfigProblem(
            f"{store}: it refuses the user, the password or the database; correct {_SETTING.get(store, _URL)}"
        )
    if any(words in text for words in _WRONG_OPTION):
        return ConfigProblem(f"{store}: an option of the URL is wrong; correct {_SETTING.get(store, _URL)}")
    if exc.connection_invalidated or type(exc.orig).__module__.startswith("psycopg"):
        return Disconnected(f"{store}: no connection; does its server run?")
    return HeadraceError(f"{store}: unexpected {type(exc.orig).__name__}")
