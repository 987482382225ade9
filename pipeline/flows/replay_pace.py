"""How far the sending of a replay job runs ahead of its processors.

A processor does a whole chunk at its first message and drops the others unread, so what is sent far ahead is mostly thrown
away. SQS does not mind. A local emulator does: its calls, those of the processors among them, get slower with every
message that waits. So there sending waits while the queue is long, as long as somebody works; nobody is waited for who is not there.
"""

from collections.abc import Callable

from pipeline.ports.clock import Clock
from pipeline.ports.queue import MessageQueue

LOOK_SECONDS = 1.0
_ALONE_LOOKS = 5  # in a row with nothing in anybody's hand, until nobody is waited for any more


class Pace:
    """Holds one sending back.

    Args:
        queue: where it sends to.
        clock: its `idle` is used between two looks.
        max_messages: as many may be in the queue before it waits; None: it never does.
    """

    def __init__(self, queue: MessageQueue, clock: Clock, max_messages: int | None) -> None:
        self._queue, self._clock, self._max_messages = queue, clock, max_messages
        self._alone_looks = 0

    def wait(self, is_done: Callable[[], bool]) -> bool:
        """Wait until more may be sent; return whether it is needed no more, as `is_done` says."""
        while not is_done():
            if self._may_go_on():
                return False
            self._clock.idle(LOOK_SECONDS)
        return True

    def _may_go_on(self) -> bool:
        if self._max_messages is None or self._alone_looks >= _ALONE_LOOKS:
            return True
        if self._queue.depth() < self._max_messages:
            self._alone_looks = 0
            return True
        self._alone_looks = 0 if self._queue.in_hand() else self._alone_looks + 1
        return self._alone_looks >= _ALONE_LOOKS
