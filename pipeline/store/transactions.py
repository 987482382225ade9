"""One transaction through a database that may break off: when it is tried again, and when nobody knows.

A read is repeated once on a new connection; one that must not be old is refused by a server that is a stand-by. A write carries a token that its act is stored under: it is repeated, and the
repetition finds by the token that the first try holds, or takes its place; it cannot be there twice. So a fail-over costs
time, and no administrator has to look whether a command worked.
"""

import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from sqlalchemy import Engine, insert, select, text, update
from sqlalchemy.orm import Session

from pipeline.core.errors import HeadraceError, OutcomeUnknown, Transient
from pipeline.core.retry import Backoff
from pipeline.core.tenant import Act
from pipeline.ports.clock import Clock
from pipeline.store.connect import WRITES
from pipeline.store.errors import Disconnected, is_read_only, translated
from pipeline.store.rows import act_values
from pipeline.store.tables import ActRow, RevisionRow

T = TypeVar("T")
_READS = 2  # tries of a read: the second finds another connection
_NAME = "control store"


def in_recovery(session: Session) -> bool:
    """True when a server of PostgreSQL is a stand-by; SQLite's file has none."""
    return session.get_bind().dialect.name == "postgresql" and bool(
        session.scalar(text("SELECT pg_is_in_recovery()"))
    )


class Transactions:
    """Runs transactions on one database.

    Args:
        engine: of the database.
        clock: waits between tries.
        writes: how often, and for how long, a write is tried.
        name: of the database, in messages.
        is_standby: asked before what must not be old.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        writes: Backoff,
        name: str = _NAME,
        is_standby: Callable[[Session], bool] = in_recovery,
    ) -> None:
        self._engine, self._clock, self._writes, self._name = engine, clock, writes, name
        self._is_standby = is_standby

    def read(self, ask: Callable[[Session], T]) -> T:
        """Return what `ask` finds.

        Raises:
            Transient: the database does not answer.
        """
        for attempt in range(1, _READS + 1):
            try:
                with translated(self._name), Session(self._engine) as session, session.begin():
                    return ask(session)
            except Disconnected:
                self._engine.dispose()  # the others will be broken too
                if attempt == _READS:
                    raise
        raise AssertionError

    def current(self, ask: Callable[[Session], T]) -> T:
        """Return what `ask` finds now: not on a stand-by, which may be a primary of yesterday that kept connections lead to.

        Raises:
            Transient: the database does not answer, or is a stand-by.
        """

        def asked(session: Session) -> T:
            if self._is_standby(session):
                raise Disconnected(
                    f"{self._name}: this server is a stand-by, which may lag: control.url must lead to the primary "
                    "(target_session_attrs=read-write)"
                )
            return ask(session)

        return self.read(asked)

    def write(self, change: Callable[[Session], bool | None], act: Act, *, counts: bool = True) -> None:
        """Make a change and store its act, both or neither; repeated until it is known to hold.

        Where `change` returns False there was nothing to change, and nothing is stored. Where it does not count, the number
        of writes stays: nobody needs to read anything anew.

        Raises:
            Transient: the database does not answer, and nothing was done.
            OutcomeUnknown: it broke off at the end of the transaction, and does not answer since.
            HeadraceError: what `change` raises; nothing was done.
        """
        token, waits, ended = secrets.token_hex(16), self._writes.waits(lambda: 1.0), False
        while True:
            try:
                with translated(self._name), Session(self._engine.execution_options(**WRITES)) as session:
                    if self._changed(session, change, act, token, counts=counts):
                        ended = True  # from here on a lost answer says nothing
                        session.commit()
                    return
            except Transient as exc:
                self._forget(exc)
                wait = next(waits, None)
                if wait is None:
                    raise self._given_up(exc, ended=ended) from exc
                self._clock.pause(wait)

    def touch(self, change: Callable[[Session], None]) -> None:
        """Make a change that is no act and may be repeated.

        Raises:
            Transient: the database does not answer.
        """
        for attempt in range(1, _READS + 1):
            try:
                with translated(self._name), Session(self._engine.execution_options(**WRITES)) as session:
                    change(session)
                    session.commit()
                    return
            except Disconnected as exc:
                self._forget(exc)
                if attempt == _READS:
                    raise

    @staticmethod
    def _changed(
        session: Session, change: Callable[[Session], bool | None], act: Act, token: str, *, counts: bool
    ) -> bool:
        """Make the change, without its end; False when there is nothing to do.

        The counter comes first: its row is the lock behind which writes follow each other, so that what is looked up here
        stays true, and a first try that still ends somewhere is waited for before its token is looked for.
        """
        session.execute(update(RevisionRow).values(number=RevisionRow.number + int(counts)))
        if session.scalar(select(ActRow.id).where(ActRow.token == token)) is not None:
            return False
        if change(session) is False:
            return False
        session.flush()
        session.execute(insert(ActRow).values(token=token, **act_values(act)))
        return True

    def close(self) -> None:
        """Close the connections that nobody uses."""
        self._engine.dispose()

    def _forget(self, exc: Transient) -> None:
        """Leave connections that are broken, or that lead to a server that is no primary any more."""
        if isinstance(exc, Disconnected) or is_read_only(exc):
            with suppress(HeadraceError):
                self._engine.dispose()

    def _given_up(self, exc: Transient, *, ended: bool) -> HeadraceError:
        if not ended:
            return exc
        return OutcomeUnknown(
            f"{self._name}: the connection broke while it was writing, and it does not answer since: nobody knows whether "
            "this was done; `headrace acts` shows it once it answers"
        )
