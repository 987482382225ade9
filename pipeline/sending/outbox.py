"""The heart of both producers: batches go out one after the other per slot, within a budget of patience.

It never waits and never loops: `attempt` makes one call and says how long to pause. Who drives it (a program's own
thread in `producer`, a sending thread in `worker`) decides what waiting means.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from pipeline.core.errors import OutcomeUnknown, Transient
from pipeline.core.receipt import AckedBatch
from pipeline.core.retry import Backoff
from pipeline.ports.stream import RecordSink
from pipeline.sending.lanes import Lanes, Ready


class Acked(NamedTuple):
    """One batch that the stream has, and what the receipt will say of it."""

    ready: Ready
    batch: AckedBatch


class Outbox:
    """Ready batches, and the calls that send them. Used by one thread.

    Args:
        stream_name: for messages.
        sink: where records go. Must not retry by itself.
        backoff: the budget of attempts without progress.
        random: returns 0 <= x < 1, for jitter.
        acknowledged: told after each call what the stream has now; the batches are still in their lanes.
        guard: surrounds what follows a call, where another thread looks at the lanes; never the call itself.
    """

    def __init__(
        self,
        stream_name: str,
        sink: RecordSink,
        backoff: Backoff,
        random: Callable[[], float],
        acknowledged: Callable[[Sequence[Acked]], None],
        guard: AbstractContextManager[object] | None = None,
    ) -> None:
        self._stream_name, self._sink, self._backoff, self._random = stream_name, sink, backoff, random
        self._acknowledged, self._guard = acknowledged, guard or nullcontext()
        self._waits: Iterator[float] | None = None
        self.lanes = Lanes()

    def attempt(self) -> float:
        """Make one call, and return the seconds to wait before the next one: 0 after progress.

        Raises:
            Transient: the budget is spent; all is still here, and a further call begins with a new budget.
            Corrupt: a batch on disk is damaged.
        """
        if self._waits is None:
            self._waits = self._backoff.waits(self._random)
        why = ""
        chosen = self.lanes.call()
        acked: list[Acked] = []
        try:
            answers = self._sink.put([ready.outgoing() for ready in chosen])
        except (Transient, OutcomeUnknown) as exc:
            why = f": {exc}"  # if they were stored all the same, the loader flags the copies
        else:
            for ready, answer in zip(chosen, answers, strict=True):
                if answer.error:
                    why = f": {answer.error}"
                    continue
                label = ready.label
                batch = AckedBatch(
                    label.slot, label.number, label.events, answer.shard_id, answer.sequence_number
                )
                acked.append(Acked(ready, batch))
        if acked:
            with self._guard:
                self._acknowledged(acked)
                for one in acked:
                    self.lanes.done(one.ready)
            self._waits = None
            return 0.0
        wait = next(self._waits, None)
        if wait is None:
            self._waits = None
            raise Transient(
                f"stream {self._stream_name} took nothing in {self._backoff.attempts} attempts{why}"
            )
        return wait
