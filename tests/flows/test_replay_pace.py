"""How far sending runs ahead of processors."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from pipeline.core.replay import Selection
from pipeline.flows import replay
from pipeline.flows.replay import freeze, resume
from pipeline.flows.replay_pace import LOOK_SECONDS, Pace
from tests.fakes.clock import SteppedClock
from tests.fakes.replay import MemoryQueue
from tests.flows.replaying import Yard, made


def _never() -> bool:
    return False


def _full(clock: SteppedClock) -> MemoryQueue:
    queue = MemoryQueue(clock)
    queue.send(["one", "two", "three"])
    return queue


def test_a_long_queue_is_waited_for_while_somebody_works() -> None:
    """Until it is short again; its messages come back by themselves when their time has run out."""
    clock = SteppedClock()
    queue = _full(clock)
    (first, *_) = queue.receive(0)
    looks = 0

    def look() -> bool:
        nonlocal looks
        looks += 1
        if looks == 20:
            queue.delete([first.receipt])
        return False

    began = clock.monotonic()
    assert Pace(queue, clock, 3).wait(look) is False
    assert (looks, clock.monotonic() - began) == (20, 19 * LOOK_SECONDS)


def test_nobody_is_waited_for_who_is_not_there() -> None:
    """Five looks, once; then all is sent for whoever comes later."""
    clock = SteppedClock()
    pace = Pace(_full(clock), clock, 3)
    began = clock.monotonic()
    assert pace.wait(_never) is False
    assert clock.monotonic() - began == 4 * LOOK_SECONDS
    assert pace.wait(_never) is False
    assert clock.monotonic() - began == 4 * LOOK_SECONDS


@pytest.mark.parametrize(("most", "waiting"), [(None, 3), (4, 3)])
def test_a_short_queue_holds_nobody_back(most: int | None, waiting: int) -> None:
    """Nor does any queue where no bound is set, as on SQS."""
    clock = SteppedClock()
    queue = _full(clock)
    queue.receive(0)
    began = clock.monotonic()
    assert Pace(queue, clock, most).wait(_never) is False
    assert (clock.monotonic(), queue.depth()) == (began, waiting)
    assert Pace(queue, clock, 1).wait(lambda: True) is True


def test_a_job_is_sent_no_further_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a processor has a chunk in hand the queue stays short; the rest of what it finishes is not sent."""
    monkeypatch.setattr(replay, "SEND_MESSAGES", 2)
    yard = Yard()
    yard.load(*[made(number) for number in range(60)])
    depths: list[int] = []
    plain, send = yard.clock.pause, yard.queue.send

    def send_and_take(bodies: Sequence[str]) -> None:
        send(bodies)
        yard.queue.receive(0)  # somebody has them in hand

    def work(seconds: float) -> None:
        depths.append(yard.queue.depth())
        with monkeypatch.context() as inner:
            inner.setattr(yard.clock, "pause", plain)
            yard.clock.advance(200 + seconds)  # what is in hand is visible again
            yard.processor().run(drain=True)

    monkeypatch.setattr(yard.queue, "send", send_and_take)
    monkeypatch.setattr(yard.clock, "pause", work)
    ports = replace(yard.replay_ports(), max_ahead_messages=4)
    plan = yard.plan(Selection("acme", event_type="door.opened"), granularity="event")
    job = resume(freeze(plan, ports).id, ports)
    assert (job.state, job.done_events) == ("done", 24)
    assert set(depths) == {4}
    assert job.sent_messages < job.messages
