"""What an answer to `POST /v1/events` means for the events that were sent: pure, and wary of whoever answers.

    202, 207, 400, 503 with `events`   each event by its index     -> Settled
    401                                a token may be renewed      -> Renew
    413                                send it in parts            -> Split
    429                                later, as long as it takes  -> Again, calm
    408, 409 in_flight, 425, 5xx, an answer that is none of this API's, no answer   -> Again
    3xx, any other 4xx                 nothing was taken           -> Refuse

Sources: RFC 9110 (Retry-After), RFC 9457, docs/http.md.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

import msgspec

MAX_WAIT_SECONDS = 3_600.0  # of a Retry-After: then it is asked again, whatever was said
_SHOWN = 500  # characters of a server's text
_SETTLING = frozenset({202, 207, 400, 503})
_LATER = frozenset({408, 425})  # nothing was taken; the same request may be sent again
_OK, _REDIRECT, _BAD, _FAULT = 200, 300, 400, 500
_DENIED, _CONFLICT, _TOO_LARGE, _TOO_MANY, _BUSY = 401, 409, 413, 429, 503


@dataclass(frozen=True)
class Answer:
    """What came back. `headers` has names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Lost:
    """No answer came; `delivered` when the request may have arrived nevertheless."""

    why: str
    delivered: bool = True


@dataclass(frozen=True)
class Barred:
    """The credential cannot be used at all, so nothing was sent."""

    why: str


Outcome = Answer | Lost | Barred


@dataclass(frozen=True)
class RefusedAt:
    """One event that the server refused."""

    index: int
    code: str
    pointer: str
    message: str


@dataclass(frozen=True)
class Settled:
    """The server answered for each event; those of `retry` are to be sent again under their ids, after a while."""

    accepted: list[int]
    refused: list[RefusedAt]
    retry: list[int]
    receipt: str = ""
    wait_seconds: float | None = None


@dataclass(frozen=True)
class Again:
    """Send the same request again. `calm`: the server is well and said when, so patience is not used up."""

    why: str
    wait_seconds: float | None = None
    calm: bool = False
    maybe: bool = True  # the stream may have the events
    pause: bool = False  # it concerns every request, not this one alone


@dataclass(frozen=True)
class Renew:
    """The credential was refused."""

    refusal: "Refuse"


@dataclass(frozen=True)
class Split:
    """It was too large; one event alone is refused."""

    refusal: "Refuse"


@dataclass(frozen=True)
class Refuse:
    """Nothing of the request was taken, and sending it again does not help."""

    code: str
    why: str
    status: int


Verdict = Settled | Again | Renew | Split | Refuse


class _Event(msgspec.Struct, gc=False):
    index: int
    status: Literal["accepted", "refused", "retry"]
    code: str = ""
    pointer: str = ""
    message: str = ""


class _Events(msgspec.Struct, gc=False):
    events: list[_Event]
    receipt: str | None = None


class _Problem(msgspec.Struct, gc=False):
    code: str = ""
    title: str = ""
    detail: str = ""


_EVENTS = msgspec.json.Decoder(_Events).decode
_PROBLEM = msgspec.json.Decoder(_Problem).decode
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def verdict(outcome: Outcome, count: int, now: float) -> Verdict:
    """Say what an outcome means for a request of `count` events; `now` is Unix time, for dates in Retry-After."""
    if isinstance(outcome, Lost):
        return Again(outcome.why, maybe=outcome.delivered)
    if isinstance(outcome, Barred):
        return Refuse("unauthenticated", outcome.why, _DENIED)
    if outcome.status in _SETTLING:
        settled = _settled(outcome, count, now)
        if settled is not None:
            return settled
    return _whole(outcome, now)


def _settled(answer: Answer, count: int, now: float) -> Settled | None:
    """Return each event's own answer, or nothing where the body does not have exactly one for each."""
    try:
        found = _EVENTS(answer.body)
    except _UNREADABLE:
        return None
    if len(found.events) != count or {one.index for one in found.events} != set(range(count)):
        return None
    settled = Settled([], [], [], found.receipt or "", retry_after(answer, now))
    for one in found.events:
        if one.status == "accepted":
            settled.accepted.append(one.index)
        elif one.status == "retry":
            settled.retry.append(one.index)
        else:
            settled.refused.append(RefusedAt(one.index, one.code, one.pointer, shown(one.message)))
    return settled


def _whole(answer: Answer, now: float) -> Verdict:
    refusal, status = _reason(answer), answer.status
    wait = retry_after(answer, now)
    if status == _TOO_MANY:
        return Again(refusal.why, wait, calm=True, maybe=False, pause=True)
    if status == _BUSY:
        return Again(refusal.why, wait, maybe=False, pause=wait is not None)
    if status in _LATER or (status == _CONFLICT and refusal.code == "in_flight"):
        return Again(refusal.why, wait, maybe=status == _CONFLICT)
    if status >= _FAULT or status < _OK:
        return Again(refusal.why, wait)
    if status < _REDIRECT:
        kind = answer.headers.get("content-type", "none")
        return Again(f"HTTP {status}, but no answer of headrace's API (content type {shown(kind)})")
    if status == _DENIED:
        return Renew(refusal)
    return Split(refusal) if status == _TOO_LARGE else refusal


def _reason(answer: Answer) -> Refuse:
    """Return why, in the server's words where it has some."""
    if _REDIRECT <= answer.status < _BAD:
        place = shown(answer.headers.get("location", "nowhere"))
        why = f"HTTP {answer.status}: moved to {place}; redirects are not followed with a credential: give that URL if it is right"
        return Refuse("redirected", why, answer.status)
    problem = _Problem()
    if "json" in answer.headers.get("content-type", ""):
        with suppress(*_UNREADABLE):
            problem = _PROBLEM(answer.body)
    said = problem.detail or problem.title
    why = (
        f"HTTP {answer.status}" + (f" {problem.code}" if problem.code else "") + (f": {said}" if said else "")
    )
    return Refuse(shown(problem.code) or f"http_{answer.status}", shown(why), answer.status)


def retry_after(answer: Answer, now: float) -> float | None:
    """Return the seconds to wait that an answer names, as a number or a date; None when it names none."""
    text = answer.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MAX_WAIT_SECONDS)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds = (moment - datetime.fromtimestamp(now, UTC)).total_seconds()
    return min(max(seconds, 0.0), MAX_WAIT_SECONDS)


def shown(text: str) -> str:
    """Return a server's text, shortened, without what a terminal would obey."""
    text = "".join(one if one.isprintable() else " " for one in text[: _SHOWN + 1])
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
