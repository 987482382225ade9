"""Requests with a key: done once, whatever dies between two of their steps."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from pipeline.core.idempotency import LIFETIME_SECONDS, StoredAnswer, fingerprint
from pipeline.flows.idempotency import Idempotency, InFlight, Reused, Started
from tests.fakes.clock import SteppedClock
from tests.fakes.idempotency import MAX_ANSWER_BYTES, MemoryRequests

LOCK_SECONDS = 35.0
BODY = b'[{"n":1},{"n":2},{"n":3}]'
PRINT = fingerprint("POST", "/v1/events", "application/json", BODY)
OTHER = fingerprint("POST", "/v1/events", "application/json", b"[]")
EVENTS = 3


class Died(BaseException):
    """The process ended here."""


@dataclass
class Machine:
    """Processes over one table and one stream; each effect may be its last, before it or just after it."""

    clock: SteppedClock = field(default_factory=SteppedClock)
    table: MemoryRequests = field(default_factory=MemoryRequests)
    stream: list[str] = field(default_factory=list)
    dies_at: int = -1
    effects: int = 0
    owners: Iterator[int] = field(default_factory=itertools.count)
    answer_bytes: int = 0

    def effect(self, do: Callable[[], object]) -> object:
        for when in ("before", "after"):
            if self.effects == self.dies_at:
                raise Died(when)
            self.effects += 1
            if when == "before":
                done = do()
        return done

    def flow(self) -> Idempotency:
        return Idempotency(self.table, self.clock, lambda: f"owner {next(self.owners)}", LOCK_SECONDS)

    def serve(self, key: str = "k", print_: str = PRINT) -> object:
        """One request: begin, send three events, complete, answer."""
        flow = self.flow()
        begun = self.effect(lambda: flow.begin("acme", key, print_))
        if not isinstance(begun, Started):
            return begun
        ids = [begun.event_id(index) for index in range(EVENTS)]
        for one in ids:
            self.effect(lambda one=one: self.stream.append(one))  # type: ignore[misc]
        answer = StoredAnswer(202, {}, "application/json", ",".join(ids).encode() + b" " * self.answer_bytes)
        self.effect(lambda: flow.complete(begun, answer))
        return answer


def _whole() -> tuple[Machine, object]:
    machine = Machine()
    return machine, machine.serve()


CRASHES = range(_whole()[0].effects)


@pytest.mark.parametrize("dies_at", CRASHES)
@pytest.mark.parametrize("again_at", [None, 3, 5])
def test_a_crash_at_any_step(dies_at: int, again_at: int | None) -> None:
    """The request sent again until it is answered: three ids are in the stream, and every answer names them."""
    machine = Machine(dies_at=dies_at)
    with pytest.raises(Died):
        machine.serve()
    answers = []
    for at in (again_at, None):
        machine.clock.advance(LOCK_SECONDS)
        machine.dies_at, machine.effects = -1 if at is None else at, 0
        try:
            answers.append(machine.serve())
        except Died:
            continue
    answers.append(machine.serve())
    assert len(set(machine.stream)) == EVENTS
    assert all(isinstance(one, StoredAnswer) for one in answers)
    assert {one.body for one in answers if isinstance(one, StoredAnswer)} == {
        ",".join(dict.fromkeys(machine.stream)).encode()
    }


def test_the_crash_points_are_all_there() -> None:
    """Claim, three events and the answer, each before and after."""
    assert len(CRASHES) == 2 * (1 + EVENTS + 1)


def test_the_same_request_again() -> None:
    """It is answered as before, and nothing is sent."""
    machine, first = _whole()
    assert machine.serve() == first
    assert len(machine.stream) == EVENTS


def test_another_body() -> None:
    """The key is taken, while the first request is at work and afterwards."""
    machine = Machine()
    assert isinstance(machine.flow().begin("acme", "k", PRINT), Started)
    assert machine.flow().begin("acme", "k", OTHER) == Reused()
    machine.clock.advance(LOCK_SECONDS)
    machine.serve()
    assert machine.serve(print_=OTHER) == Reused()


def test_two_at_once() -> None:
    """The second is told to wait as long again as the first has taken, at most until that one's time is up."""
    machine = Machine()
    assert isinstance(machine.flow().begin("acme", "k", PRINT), Started)
    waits = []
    while isinstance(found := machine.flow().begin("acme", "k", PRINT), InFlight):
        waits.append(found.retry_after_seconds)
        machine.clock.advance(found.retry_after_seconds)
    assert waits == [1, 1, 2, 4, 8, 16, 3]
    assert sum(waits) == LOCK_SECONDS


def test_a_slow_attempt_that_lost_its_lock() -> None:
    """It has the same ids, and the one that took over stores the answer."""
    machine = Machine()
    slow = machine.flow().begin("acme", "k", PRINT)
    machine.clock.advance(LOCK_SECONDS)
    quick = machine.flow().begin("acme", "k", PRINT)
    assert isinstance(slow, Started)
    assert isinstance(quick, Started)
    assert (slow.again, quick.again) == (False, True)
    assert slow.event_id(0) == quick.event_id(0)
    assert slow.begun_us == quick.begun_us
    assert not machine.flow().complete(slow, StoredAnswer(500, {}, "", b"slow"))
    assert machine.flow().complete(quick, StoredAnswer(202, {}, "", b"quick"))
    assert machine.flow().begin("acme", "k", PRINT) == StoredAnswer(202, {}, "", b"quick")


def test_given_up_before_anything_was_done() -> None:
    """The key is as new: also for another body."""
    machine = Machine()
    begun = machine.flow().begin("acme", "k", PRINT)
    assert isinstance(begun, Started)
    machine.flow().abandon(begun, nothing_done=True)
    assert isinstance(machine.flow().begin("acme", "k", OTHER), Started)


def test_given_up_half_way() -> None:
    """The same request may come at once, with the ids it had; another one may not."""
    machine = Machine()
    begun = machine.flow().begin("acme", "k", PRINT)
    assert isinstance(begun, Started)
    machine.clock.advance(1)
    machine.flow().abandon(begun, nothing_done=False)
    assert machine.flow().begin("acme", "k", OTHER) == Reused()
    again = machine.flow().begin("acme", "k", PRINT)
    assert isinstance(again, Started)
    assert again.event_id(2) == begun.event_id(2)
    machine.flow().abandon(again, nothing_done=True)  # this attempt did nothing, the one before it may have
    assert machine.flow().begin("acme", "k", OTHER) == Reused()


def test_an_answer_that_is_too_large() -> None:
    """It is not kept: the request is done again, under the same ids, and answered the same."""
    machine = Machine(answer_bytes=MAX_ANSWER_BYTES)
    assert machine.serve() == machine.serve()
    assert len(machine.stream) == 2 * EVENTS
    assert len(set(machine.stream)) == EVENTS


def test_a_day_later() -> None:
    """The same key is another request, with ids of its own: yesterday's events are no reason to drop today's."""
    machine, first = _whole()
    machine.clock.advance(LIFETIME_SECONDS - 1)
    assert machine.serve() == first
    machine.clock.advance(1)
    assert machine.serve() != first
    assert len(set(machine.stream)) == 2 * EVENTS
