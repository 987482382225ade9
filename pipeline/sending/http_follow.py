"""Follow the receipts of requests until every read finds their events: what to ask, and what the answers mean, without I/O."""

from collections.abc import Callable, Container, Generator
from urllib.parse import quote

import msgspec

from pipeline.core.errors import ConfigProblem, EventsLost, Transient
from pipeline.sending.fates import Report
from pipeline.sending.http_answer import Answer, Lost, Outcome, retry_after, shown
from pipeline.sending.http_credential import Ask

_LONGEST_SECONDS = 20.0  # of one question; the server answers then in any case
_PAUSE_SECONDS = 0.25  # between two questions about one receipt
_OK, _BAD, _DENIED, _FAULT, _LATER = 200, 400, 401, 500, frozenset({408, 425, 429})
_FINAL = frozenset({"queryable", "lost"})

Following = Generator[Ask | float, Outcome | None, bool]


class _State(msgspec.Struct):
    state: str = ""


def following(url: str, report: Report, seconds: float, now: Callable[[], float]) -> Following:
    """Yield requests, to be answered with their outcome, and pauses in seconds; return whether all are queryable in time.

    A receipt whose events are lost is waited for no longer; the others are followed all the same, before it is told.

    Raises:
        EventsLost: some may be lost, whatever became of the others.
        ConfigProblem: a receipt is not this caller's, or the credential does not let it read; or events have no receipt.
        Transient: the last answer in time was a failure.
    """
    end, problem, lost = now() + seconds, "", set[str]()
    for receipt in report.receipts:
        renewed = False
        while True:
            left = max(0.0, end - now())
            query = f"wait=queryable&timeout={min(left, _LONGEST_SECONDS):.3f}"
            outcome = yield Ask("GET", f"{url}/v1/receipts/{quote(receipt, safe='')}?{query}")
            state = _state(outcome)
            if state == "lost":
                lost.add(receipt)
            if state in _FINAL:
                break
            problem, wait = _meaning(outcome, renewed=renewed)
            renewed = isinstance(outcome, Answer) and outcome.status == _DENIED
            if now() + wait >= end:
                _tell(lost, report)
                if problem:
                    raise Transient(f"the receipts cannot be followed: {problem}")
                return False
            yield wait
    _tell(lost, report)
    _refuse_unknown(report)
    return True


def _refuse_unknown(report: Report) -> None:
    """Refuse to say that events are queryable which came without a receipt."""
    events = sum(len(one.tickets) for one in report.batches if one.kind == "acknowledged" and not one.receipt)
    if events:
        raise ConfigProblem(
            f"{events} acknowledged events have no receipt that could be followed: their requests reached too many shards, "
            "send smaller batches (max_batch_events)"
        )


def _tell(lost: Container[str], report: Report) -> None:
    """Raise with the tickets of what is lost, if anything is."""
    tickets = [ticket for batch in report.batches if batch.receipt in lost for ticket in batch.tickets]
    if tickets:
        raise EventsLost(tickets)


def _state(outcome: Outcome | None) -> str:
    """Return what an answer says; "" where it says nothing."""
    if not isinstance(outcome, Answer) or outcome.status != _OK:
        return ""
    try:
        return msgspec.json.decode(outcome.body, type=_State).state
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""


def _meaning(outcome: Outcome | None, *, renewed: bool) -> tuple[str, float]:
    """Return what is wrong, if anything, and how long to wait."""
    if isinstance(outcome, Lost):
        return outcome.why, 1.0
    if not isinstance(outcome, Answer):
        raise ConfigProblem("no credential" if outcome is None else outcome.why)
    if outcome.status == _OK:
        return "", _PAUSE_SECONDS
    said = f"HTTP {outcome.status} {shown(outcome.body[:200].decode(errors='replace'))}"
    if outcome.status >= _FAULT or outcome.status in _LATER:
        return said, min(max(retry_after(outcome, 0.0) or 1.0, _PAUSE_SECONDS), _LONGEST_SECONDS)
    if outcome.status == _DENIED and not renewed:
        return said, 0.0
    raise ConfigProblem(
        f"a receipt was refused: {said}; it is good for its tenant's credentials with the scope ingest"
    )
