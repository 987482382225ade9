"""The inbox, where many events are put at once: all of them or none, and nobody is woken for nothing."""

import pytest

from pipeline.core.errors import ConfigProblem, Transient
from pipeline.sending.batches import EVENT_OVERHEAD_BYTES, Item
from pipeline.sending.inbox import Inbox
from tests.fakes.clock import SteppedClock

_COST = 10 + EVENT_OVERHEAD_BYTES


def items(count: int) -> list[Item]:
    return [Item(0, b"x" * 10)] * count


def test_all_are_taken_or_none() -> None:
    """What does not fit whole is not taken in part; what is too large for the whole memory finds it empty."""
    inbox = Inbox(5 * _COST, SteppedClock())
    assert inbox.put_all(items(3)) == 0
    with pytest.raises(Transient):
        inbox.put_all(items(3))
    assert inbox.next_ticket() == 3
    assert inbox.put_all(items(2)) == 3
    inbox.take()
    inbox.release(5 * _COST)
    assert inbox.put_all(items(9)) == 5


def test_tickets_of_single_and_many_events_are_one_row() -> None:
    """Whoever puts gets numbers that nobody else has."""
    inbox = Inbox(10**6, SteppedClock())
    assert [inbox.put(items(1)[0], 0), inbox.put_all(items(4)), inbox.put(items(1)[0], 0)] == [0, 1, 5]


def test_a_shut_inbox_takes_nothing() -> None:
    """The reason is what it was shut with."""
    inbox = Inbox(10**6, SteppedClock())
    inbox.shut("closed")
    with pytest.raises(ConfigProblem, match="closed"):
        inbox.put_all(items(1))


def test_the_sending_thread_is_woken_only_for_news() -> None:
    """Once for what waits, not at all while it looks in by itself, and again when there is a lot."""
    inbox = Inbox(10**9, SteppedClock())
    inbox.put_all(items(2))
    inbox.put_all(items(2))
    assert inbox.wake.qsize() == 1
    inbox.take()
    inbox.attended = True
    inbox.put_all(items(2))
    inbox.put(items(1)[0], 0)
    assert inbox.wake.qsize() == 1
    inbox.put_all(items(2**20 // _COST + 1))
    assert inbox.wake.qsize() == 2
