"""What KCL's fetcher does: it reads ahead of the record processor, which is handed batches that are old by then."""

from collections import deque
from random import Random

from pipeline.ports.clock import Clock
from pipeline.ports.stream import Batch, ShardReader

MOST_AHEAD = 3  # batches, as KCL's polling has it


class FetchedAhead:
    """Port `ShardReader`, whose batches were fetched some time ago: how many are held the seed chooses.

    Args:
        inner: of the shard; it ends only once.
        clock: of the worker.
        asked_now: the guard is off: what is handed over is taken for what the stream has now.
    """

    def __init__(self, inner: ShardReader, clock: Clock, random: Random, *, asked_now: bool) -> None:
        self._inner, self._clock, self._random, self._asked_now = inner, clock, random, asked_now
        self._held: deque[Batch] = deque()
        self._ended = False
        self._answered_us: deque[int] = deque(maxlen=MOST_AHEAD + 1)

    def read(self) -> Batch:
        """Hand over the oldest batch, after fetching some more."""
        while not self._held or (len(self._held) < MOST_AHEAD and self._random.random() < 0.6):
            if self._ended:
                break
            batch = self._inner.read()
            self._ended = batch.ended
            self._held.append(batch)
        return self._held.popleft()

    def answered(self) -> None:
        """Note that the last batch was dealt with, as `consumers/kcl.py` does."""
        self._answered_us.append(self._clock.now_us())

    @property
    def asked_us(self) -> int | None:
        """Return a moment before the last batch was fetched; None while there is none for certain."""
        if self._asked_now:
            return self._clock.now_us()
        full = len(self._answered_us) == self._answered_us.maxlen
        return self._answered_us[0] if full else None
