"""Calling the outside again: one loop for every repeatable call of the flows."""

import random
from collections.abc import Callable
from typing import TypeVar

from pipeline.core.errors import OutcomeUnknown, Transient
from pipeline.core.retry import Backoff
from pipeline.facts import CallRetried, FactSink
from pipeline.ports.clock import Clock

T = TypeVar("T")


def again(
    name: str, call: Callable[[], T], *, clock: Clock, facts: FactSink, budget: Backoff | None = None
) -> T:
    """Return what `call` returns, trying again on Transient and OutcomeUnknown.

    Only for calls that may be repeated. When the budget is spent, here or below, where single requests are repeated,
    the last error leaves, and with it the process: the ledger makes the restart exact.
    """
    waits = (budget or Backoff()).waits(random.random)
    attempt = 1
    while True:
        try:
            return call()
        except (Transient, OutcomeUnknown) as exc:
            wait = None if exc.spent else next(waits, None)
            if wait is None:
                raise
            facts(CallRetried(call=name, attempt=attempt, error=f"{type(exc).__name__}: {exc}"))
            clock.pause(wait)
            attempt += 1
