"""How long a revoked key lives on: two databases, of which one may lag, and a store that is slow or away."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from pipeline.core.caller import Scope
from pipeline.core.errors import Transient
from pipeline.core.retry import Backoff
from pipeline.flows.admin import Admin, KeyTerms
from pipeline.flows.authenticate import Authenticator
from pipeline.flows.remembered import Remembered
from pipeline.store.connect import open_engine, sqlite_url
from pipeline.store.control import SqlControl
from pipeline.store.errors import Disconnected
from pipeline.store.migrate import migrate
from pipeline.store.transactions import Transactions
from tests.fakes.clock import SteppedClock
from tests.web.credentials import House, with_key

PROMISED_SECONDS = 60
QUICK = Backoff(1, 0.01, 0.01)


class Line:
    """The way from one process to one database, which a test may cut, or make slow."""

    def __init__(self, engine: Engine) -> None:
        self.cut = False
        self.slow: Callable[[], None] = lambda: None
        event.listen(engine, "begin", self._begin)

    def _begin(self, _connection: object) -> None:
        self.slow()
        if self.cut:
            raise Disconnected("control store: no connection; does its server run?")


class Replicated(House):
    """A process of the API between a primary and a copy that hears of nothing unless it is told."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        urls = [sqlite_url(folder / name) for name in ("primary", "copy")]
        for url in urls:
            migrate(open_engine(url))
        stores = [SqlControl(Transactions(open_engine(url), self.clock, QUICK)) for url in urls]
        self.offices = [Admin(store, self.clock, "jo@desk", _bytes_in_order()) for store in stores]
        for office in self.offices:  # both know the tenant and its keys
            office.add_tenant("acme", "premium")
            self.keys_made = [
                office.create_key("acme", KeyTerms(frozenset({Scope.READ}), "ci"))[0] for _ in range(3)
            ]
        engines = [open_engine(url) for url in urls]
        self.line = Line(engines[0])
        primary, copy = (Transactions(engine, self.clock, QUICK) for engine in engines)
        self.sql = SqlControl(primary, copy)
        self.authenticator = Authenticator(self.sql, self.clock)

    def status(self, number: int) -> int:
        """Return what a request with a key is answered."""
        return self.ask(with_key(self.keys_made[number].text))[0].status_code


def _bytes_in_order() -> Callable[[int], bytes]:
    made = (bytes([number]) * 32 for number in range(1, 9))
    return lambda _size: next(made)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Replicated]:
    """A process, a primary and a copy."""
    found = Replicated(tmp_path)
    yield found
    found.sql.close()


@pytest.mark.parametrize("cut_after", [0, 5, 14, 30])
def test_a_revoked_key_is_refused_within_a_minute_though_a_copy_still_has_it(
    house: Replicated, cut_after: int
) -> None:
    """Asked every second by this process, whenever it loses the primary: never 200 after a minute, and 503 is not 200."""
    assert house.status(0) == 200
    house.clock.advance(1)
    house.offices[0].revoke_key(house.keys_made[0].id)
    for second in range(2 * PROMISED_SECONDS):
        house.line.cut = second >= cut_after
        status = house.status(0)
        assert status in {200, 401, 503}
        assert second < PROMISED_SECONDS or status != 200
        house.clock.advance(1)
    assert house.status(0) in {401, 503}


def test_a_key_that_this_process_never_saw_is_not_taken_from_a_copy(house: Replicated) -> None:
    """It may have been revoked: nobody can tell, so 503; known ones live on for their time."""
    assert house.status(1) == 200
    house.offices[0].revoke_key(house.keys_made[0].id)
    house.line.cut = True
    assert house.status(0) == 503
    assert house.status(1) == 200
    house.line.cut = False
    house.clock.advance(5)
    assert house.status(0) == 401


def test_a_process_that_starts_without_the_primary_knows_nobody(house: Replicated) -> None:
    """It does not warm up from a copy."""
    house.line.cut = True
    with pytest.raises(Transient):
        house.authenticator.warm()
    assert house.status(0) == 503


def test_a_slow_answer_is_old_when_it_comes(house: Replicated) -> None:
    """An answer counts from when it was asked for: a key that was revoked while it was on its way is not kept for longer."""
    house.line.slow = lambda: house.clock.advance(3)
    began = house.clock.monotonic()
    assert house.status(0) == 200
    took = house.clock.monotonic() - began
    house.line.slow = lambda: None
    house.offices[0].revoke_key(house.keys_made[0].id)
    house.line.cut = True
    found = []
    while house.clock.monotonic() - began < 51:
        found.append(house.status(0))
        house.clock.advance(1)
    assert took >= 9
    assert {found[0], found[-1]} == {200}
    assert house.status(0) == 503


def test_an_older_answer_does_not_replace_a_newer_one() -> None:
    """Of two questions about one name the later one counts, whichever is answered last."""
    names = Remembered[str](SteppedClock())
    names.learned("key", "revoked", 5.0)
    names.learned("key", "good", 2.0)
    known = names.usable("key")
    assert known is not None
    assert known.value == "revoked"
