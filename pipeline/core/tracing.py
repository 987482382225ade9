"""Traces as values: the context that travels with a request and its events, spans that are over, and which requests get one.

The context is W3C's `traceparent` (https://www.w3.org/TR/trace-context/). Of what a stranger sends only the ids and the
flag "sampled" are believed, and never more than they can cost: `Sampler` bounds how many are.
"""

import re
from collections.abc import Mapping

import msgspec

from pipeline.core.allowance import Allowance

# Of version 00, as in schemas/envelope.json. Ids of zeros alone are none, and ignored by whoever reads them.
TRACEPARENT_PATTERN = "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"
_GIVEN = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?P<trace>(?!0{32})[0-9a-f]{32})-(?P<span>(?!0{16})[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
    r"(?P<more>-.*)?"
)
_SAMPLED = 0x01
_LONGEST = 512  # characters of a header that are looked at


class TraceContext(msgspec.Struct, frozen=True, gc=False):
    """Where a trace is: its id, the span that goes on in others, and whether anybody keeps it."""

    trace_id: str
    span_id: str
    sampled: bool

    @property
    def text(self) -> str:
        """Return it as `traceparent`."""
        return f"00-{self.trace_id}-{self.span_id}-{_SAMPLED if self.sampled else 0:02x}"


def parse_traceparent(text: str) -> TraceContext | None:
    """Return what a header or an event says, also of a later version of the form; None: it is malformed."""
    found = _GIVEN.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None or (found["more"] is not None and text.startswith("00")):
        return None
    return TraceContext(found["trace"], found["span"], bool(int(found["flags"], 16) & _SAMPLED))


class FinishedSpan(msgspec.Struct, frozen=True):
    """One piece of work that is over.

    Attributes:
        name: a word of the code, or the template of a route: never what somebody sent.
        parent: what it is part of; its trace is the span's.
        start_us, end_us: by the wall clock.
        attributes: words and numbers; never a payload.
        span_id: where others know it as their parent; "": whoever takes the span makes one.
        trace_id: of a span without parent.
        failed: the work did not come to its end.
        serves: it answers a request.
    """

    name: str
    parent: TraceContext | None
    start_us: int
    end_us: int
    attributes: Mapping[str, str | int]
    span_id: str = ""
    trace_id: str = ""
    failed: bool = False
    serves: bool = False


class TracedEvent(msgspec.Struct, frozen=True):
    """One event of a sampled request, on its way into a segment."""

    parent: TraceContext
    tenant_id: str
    event_id: str
    entity_id: str
    event_type: str
    event_time_us: int
    arrived_us: int

    def archived(self, segment: str, key: str, now_us: int) -> FinishedSpan:
        """Return the span of its way: from the stream into a data file of a segment that is committed."""
        attributes: dict[str, str | int] = {
            "tenant_id": self.tenant_id,
            "event_id": self.event_id,
            "entity_id": self.entity_id,
            "segment": segment,
            "data_file": key,
        }
        return FinishedSpan(
            "archive event", self.parent, self.arrived_us, max(now_us, self.arrived_us), attributes
        )


class Sampler:
    """Says which requests are traced: a share of all, and those whose caller traces them, bounded by the second.

    Args:
        share: of requests without a caller's word, 0 to 1.
        most_per_second: of all that are traced; the caller's word counts for no more.
    """

    def __init__(self, share: float, most_per_second: float) -> None:
        self._share, self._allowance = share, Allowance(most_per_second)

    def traces(self, parent: TraceContext | None, chance: float, now: float) -> bool:
        """Decide about one request.

        Args:
            parent: its caller's context, if it has one.
            chance: a number from 0 up to 1, drawn for it.
            now: seconds of a clock that never goes back.
        """
        wanted = parent.sampled if parent is not None else chance < self._share
        return wanted and self._allowance.take(now)
