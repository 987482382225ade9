"""The one place that sends a request to AWS again, within a budget; every further try is told as a fact.

boto3's own retries are off: they count nowhere, and multiply with those of whoever calls. What is repeated here is what
`translated` calls Transient or OutcomeUnknown, so there is one table of errors. A call whose budget is spent fails with
an error that says so (`spent`), and `flows.retrying.again` then does not begin anew: it repeats only what no single
request shows, such as a transaction that met another one, or a body that broke off while it was read.
"""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.aws.errors import mark_spent, may_be_repeated
from pipeline.core.retry import Backoff
from pipeline.facts import CallRetried, FactSink

BASE_SECONDS, CAP_SECONDS = 0.1, 5.0  # of the waits: twelve tries last 16 s on average, 31 s at most
_STATE = "headrace_tries"  # in botocore's context of one call


@dataclass
class _Tries:
    began: float
    waits: Iterator[float]


class Retries:
    """Repeats the failed requests of the clients it watches; safe from any thread.

    Args:
        max_attempts: tries of one request, the first included.
        budget_seconds: no further try begins later than this after the first.
        facts: where every further try is told.
        chance: returns 0 <= x < 1, for jitter.
        monotonic: seconds that never run backwards.
    """

    def __init__(
        self,
        max_attempts: int,
        budget_seconds: float,
        facts: FactSink,
        *,
        chance: Callable[[], float] = random.random,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backoff = Backoff(max_attempts, BASE_SECONDS, CAP_SECONDS)
        self._budget_seconds, self._facts = budget_seconds, facts
        self._chance, self._monotonic = chance, monotonic

    def watch(self, client: Any) -> None:
        """Repeat the failed requests of a client from now on."""
        events, service = client.meta.events, client.meta.service_model.service_id.hyphenize()
        events.register(f"before-call.{service}", self._begin)
        events.register(f"needs-retry.{service}", self._decide)

    def _begin(self, params: dict[str, Any], **_: Any) -> None:
        params["context"][_STATE] = _Tries(self._monotonic(), self._backoff.waits(self._chance))

    def _decide(
        self,
        response: tuple[Any, dict[str, Any]] | None,
        caught_exception: Exception | None,
        operation: Any,
        attempts: int,
        request_dict: dict[str, Any],
        **_: Any,
    ) -> float | None:
        """Return how long to wait before the next try, or None when there is none (botocore's event `needs-retry`)."""
        failure = _failure(response, caught_exception, operation.name)
        if failure is None or not may_be_repeated(failure):
            return None
        tries: _Tries = request_dict["context"][_STATE]
        wait = next(tries.waits, None)
        if wait is None or self._monotonic() - tries.began + wait > self._budget_seconds:
            mark_spent(failure)
            return None
        service = operation.service_model.service_id.hyphenize()
        word = (
            failure.response["Error"]["Code"] if isinstance(failure, ClientError) else type(failure).__name__
        )
        self._facts(CallRetried(call=f"{service}.{operation.name}", attempt=attempts, error=word))
        return wait


def _failure(
    response: tuple[Any, dict[str, Any]] | None, caught: Exception | None, operation: str
) -> BotoCoreError | ClientError | None:
    if isinstance(caught, BotoCoreError):
        return caught
    if response is not None and response[0].status_code >= 300 and "Error" in response[1]:
        return ClientError(response[1], operation)  # type: ignore[arg-type]  # it shares the answer with botocore's own
    return None
