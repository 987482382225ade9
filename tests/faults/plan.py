"""When the proxy misbehaves, and how: by a seed, the same for the n-th call of an operation whatever the threads do."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

from tests.faults.partial import PARTS, Part
from tests.faults.wire import Answer, Request, failures, json_error, throttles, xml_error


@dataclass(frozen=True)
class Fault:
    """One misbehaviour.

    Attributes:
        name: what the proxy's log calls it.
        delay_seconds: to wait first.
        forwards: whether the server sees the request.
        answer: instead of the server's.
        cut_bytes: so many bytes of the answer are sent, then the connection is reset; 0: the answer is dropped.
        part: the call is done in part.
    """

    name: str
    delay_seconds: float = 0.0
    forwards: bool = True
    answer: Answer | None = None
    cut_bytes: int | None = None
    part: Part | None = None


Plan = Callable[[Request], Fault | None]


def calm(_request: Request) -> Fault | None:
    """Misbehave never."""
    return None


class Script:
    """Misbehaves in the given order, in calls of one operation or of any; None is a call that goes well."""

    def __init__(self, faults: Iterable[Fault | None], operation: str = "") -> None:
        self._faults, self._operation = iter(faults), operation

    def __call__(self, request: Request) -> Fault | None:
        """Return the next fault, when its operation is called."""
        return next(self._faults, None) if self._operation in ("", request.operation) else None


ANSWER_IS_LOST = ("drop", "cut", "fail after")  # the server did its work, and nobody is told


class Seeded:
    """Misbehaves in a share of all calls.

    Args:
        seed: draws which calls, and how.
        share: of the calls, 0 to 1.
        answers_kept: operations whose answers are never lost: repeating them gives another answer.
        whole: operations that are never done in part.
    """

    def __init__(
        self,
        seed: int,
        share: float = 0.15,
        answers_kept: Iterable[str] = (),
        whole: Iterable[str] = (),
    ) -> None:
        self._seed, self._share = seed, share
        self._answers_kept, self._whole = frozenset(answers_kept), frozenset(whole)
        self._calls: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Fault | None:
        """Draw the fault of one call."""
        with self._lock:
            number = self._calls[request.operation]
            self._calls[request.operation] += 1
        chance = random.Random(f"{self._seed} {request.operation} {number}")
        if chance.random() >= self._share:
            return None
        kinds: list[str | Fault] = ["delay", "throttle", "fail", "reset"]
        kinds += () if request.operation in self._answers_kept else ANSWER_IS_LOST
        own = own_faults(request, chance)
        kinds += [one for one in own if one.part is None or request.operation not in self._whole] * 2
        kind = chance.choice(kinds)
        return kind if isinstance(kind, Fault) else make(kind, request, chance)


def own_faults(request: Request, chance: Random) -> list[Fault]:
    """Return what only this operation can do: partial results, conflicts, an iterator that has run out."""
    found: list[Fault] = []
    if request.operation in PARTS:
        part = PARTS[request.operation](request, chance)
        found.append(Fault("partial" if part.request else "refused", part=part))
    elif request.operation == "kinesis.GetRecords":
        found.append(Fault("expired", forwards=False, answer=json_error("ExpiredIteratorException")))
    elif request.operation == "s3.PutObject":
        answer = xml_error("ConditionalRequestConflict", 409)
        found.append(Fault("conflict", forwards=False, answer=answer))
    elif request.operation == "dynamodb.TransactWriteItems":
        reasons = [{"Code": "None"} for _ in request.arguments["TransactItems"]]
        reasons[chance.randrange(len(reasons))] = {
            "Code": chance.choice(["TransactionConflict", "ThrottlingError"])
        }
        answer = json_error("TransactionCanceledException", CancellationReasons=reasons)
        found.append(Fault("cancelled", forwards=False, answer=answer))
    return found


def make(name: str, request: Request, chance: Random) -> Fault:
    """Return a fault by its name."""
    if name == "delay":
        return Fault(name, delay_seconds=chance.uniform(0.0, 0.05))
    if name == "throttle":
        return Fault(name, forwards=False, answer=chance.choice(throttles(request)))
    if name == "fail":
        return Fault(name, forwards=False, answer=chance.choice(failures(request)))
    if name == "fail after":
        return Fault(name, answer=chance.choice(failures(request)))
    if name == "reset":
        return Fault(name, forwards=False, cut_bytes=0)
    if name == "drop":
        return Fault(name, cut_bytes=0)
    assert name == "cut"
    return Fault(name, cut_bytes=chance.randint(1, 400))
