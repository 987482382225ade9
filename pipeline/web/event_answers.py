"""What `POST /v1/events` says of each event of a request, by index."""

from collections.abc import Iterable, Sequence

import msgspec

from pipeline.core.accept import WRONG_TENANT, Accepted, Refused
from pipeline.sending.batches import Item
from pipeline.sending.coalesce import Ingest

_ENCODE = msgspec.json.Encoder().encode
UNKNOWN = (
    "the stream did not answer in time, so the event may be there: send it again under the same event_id, "
    "a second copy is flagged as a duplicate and not counted"
)


class AcceptedEvent(
    msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag_field="status", tag="accepted"
):
    """The stream has the event, under this id; `event_time` is said where it came without one, and was given this."""

    index: int
    event_id: str
    event_time: str = ""


class RefusedEvent(msgspec.Struct, frozen=True, gc=False, tag_field="status", tag="refused"):
    """The event goes nowhere: `code` is a stable word, `pointer` a JSON pointer to the fault."""

    index: int
    code: str
    pointer: str
    message: str


class RetryEvent(msgspec.Struct, frozen=True, gc=False, tag_field="status", tag="retry"):
    """Nobody knows whether the stream has the event: send it again under this id."""

    index: int
    event_id: str
    message: str


EventAnswer = AcceptedEvent | RefusedEvent | RetryEvent
_DECODE = msgspec.json.Decoder(list[EventAnswer]).decode


class EventsAnswer(msgspec.Struct, frozen=True):
    """What became of a request's events, by index; `receipt` is for `GET /v1/receipts/{id}`."""

    request_id: str
    receipt: str | None
    accepted: int
    refused: int
    retry: int
    events: list[EventAnswer]


class Gathered:
    """The events of a request, as far as they came in: ready for the stream, and answered for as if it takes them.

    Nothing else is kept of them. A large request waits far longer than it is worked on; whatever it holds meanwhile
    leaves the processor's caches, and to come back to it costs a third of the whole.

    Attributes:
        items: what the stream is to take.
        count: how many events there are, with those that are refused.
        refused: how many of them are refused, by code.
        latest: the last one that was accepted.
    """

    __slots__ = ("_answers", "_ingest", "count", "items", "latest", "refused")

    def __init__(self, ingest: Ingest) -> None:
        self._ingest, self._answers = ingest, list[bytes]()
        self.items: list[Item] = []
        self.count = 0
        self.refused: dict[str, int] = {}
        self.latest: Accepted | None = None

    def add(self, verdicts: Sequence[Accepted | Refused]) -> None:
        """Take in the verdicts on the next events."""
        accepted = [one for one in verdicts if type(one) is Accepted]
        answers: list[EventAnswer]
        if len(accepted) == len(verdicts):  # as nearly always: no call for each
            answers = [
                AcceptedEvent(index, one.event_id, one.event_time)
                for index, one in enumerate(accepted, self.count)
            ]
        else:
            answers = [_answer(index, one) for index, one in enumerate(verdicts, self.count)]
            for one in verdicts:
                if type(one) is Refused:
                    self.refused[one.code] = self.refused.get(one.code, 0) + 1
        if accepted:
            self.items += self._ingest.ready(accepted)
            self.latest = accepted[-1]
        self._answers.append(_ENCODE(answers))
        self.count += len(verdicts)

    def add_alone(self, event: Accepted) -> None:
        """Take in the only event of a request."""
        self.items, self.latest, self.count = self._ingest.ready((event,)), event, 1
        self._answers.append(_ENCODE((AcceptedEvent(0, event.event_id, event.event_time),)))

    @property
    def crossed(self) -> bool:
        """True when one of them names another tenant."""
        return WRONG_TENANT in self.refused

    def answers(self) -> msgspec.Raw:
        """Return the answers, if the stream takes all items: JSON of a list of `EventAnswer`."""
        if len(self._answers) == 1:
            return msgspec.Raw(self._answers[0])
        return msgspec.Raw(b"[%b]" % b",".join([some[1:-1] for some in self._answers]))

    def event_ids(self) -> list[str]:
        """Return the ids of what was accepted."""
        return [one.event_id for one in _DECODE(self.answers()) if type(one) is AcceptedEvent]


def _answer(index: int, verdict: Accepted | Refused) -> EventAnswer:
    if type(verdict) is Accepted:
        return AcceptedEvent(index, verdict.event_id, verdict.event_time)
    return RefusedEvent(index, verdict.code, verdict.pointer, verdict.message)  # type: ignore[union-attr]


def with_retries(answers: msgspec.Raw, acknowledged: Iterable[int]) -> list[EventAnswer]:
    """Return answers once more, with `retry` for each item that the stream has not acknowledged."""
    known = iter(acknowledged)
    return [
        RetryEvent(one.index, one.event_id, UNKNOWN)
        if type(one) is AcceptedEvent and not next(known)
        else one
        for one in _DECODE(answers)
    ]


def first_refusal(answers: msgspec.Raw) -> str:
    """Return code and place of the first event that is refused."""
    first = next(one for one in _DECODE(answers) if type(one) is RefusedEvent)
    return f"{first.code} at {first.pointer or 'the whole event'}"
