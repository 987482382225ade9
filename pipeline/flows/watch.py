"""Watches the requests of one process: counts each, writes lines of some, tells spans of the traced.

Everything here happens on one event loop, costs a few microseconds a request, and waits for nothing. Counts are told as
facts once a second (`take`); nothing in them grows with what clients send: routes, codes and statuses are closed sets, and
of tenants the first ones have a label.
"""

import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import random
from typing import Literal

from pipeline.core.accept import Accepted
from pipeline.core.allowance import Allowance
from pipeline.core.histogram import Timing
from pipeline.core.request_line import RequestLine, correlation_of
from pipeline.core.tracing import FinishedSpan, Sampler, TraceContext, parse_traceparent
from pipeline.facts import (
    EventsAcknowledged,
    Fact,
    LinesWithheld,
    RequestsAnswered,
    RequestsRefused,
    TenantServed,
)
from pipeline.flows.request_ids import new_request_id
from pipeline.ports.clock import Clock
from pipeline.ports.request_log import RequestLog, unwritten
from pipeline.ports.spans import SpanSink

OTHER = "_other"  # stands for all tenants beyond the first ones; no tenant's name begins with an underscore
NO_ROUTE = "none"
_CLASSES = 6  # by the first digit of a status
_REFUSED, _FAILED, _TOO_MANY, _INTERNAL = 400, 500, 429, 500
_MICROSECONDS = 1_000_000


@dataclass(frozen=True)
class WatchOptions:
    """What of the requests is written and told.

    Attributes:
        trace_share: of the requests that are traced, where their callers do not say.
        traces_per_second: at most, whoever asks for them.
        log_share: of the requests that went well and get a line.
        lines_per_second: of each kind - well, refused, failed - at most.
        tenants: that have a label of their own.
    """

    trace_share: float = 0.0
    traces_per_second: float = 100.0
    log_share: float = 0.0
    lines_per_second: float = 10.0
    tenants: int = 50


class Seen:
    """What is known of one request while it is answered; handlers note what they learn.

    Attributes:
        traceparent: that its events carry on; "" where it is not traced.
        tenant, credential: once they are known.
        events: that the stream acknowledged.
        event: the one event that it brought.
    """

    __slots__ = (
        "began",
        "credential",
        "event",
        "events",
        "parent",
        "request_id",
        "span_id",
        "tenant",
        "trace_id",
        "traceparent",
    )

    def __init__(self, request_id: str = "", trace_id: str = "", began: float = 0.0) -> None:
        self.request_id, self.trace_id, self.began = request_id, trace_id, began
        self.parent: TraceContext | None = None
        self.span_id = self.traceparent = self.tenant = self.credential = ""
        self.events = 0
        self.event: Accepted | None = None


class RouteCount:
    """Requests of one route, by the class of their status."""

    __slots__ = ("name", "timings")

    def __init__(self, name: str) -> None:
        self.name = name
        self.timings: list[Timing | None] = [None] * _CLASSES


class _TenantCount:
    __slots__ = ("errors", "events", "refused", "requests", "throttled")

    def __init__(self) -> None:
        self.requests = self.events = self.refused = self.throttled = self.errors = 0


class RequestWatch:
    """Sees each request begin and end.

    Args:
        clock: for how long it took; its wall clock for spans.
        options: what is written and told.
        line: takes lines of the log.
        spans: takes spans; None: nothing is traced.
        chance: draws a number from 0 up to 1.
    """

    def __init__(
        self,
        clock: Clock,
        options: WatchOptions | None = None,
        line: RequestLog = unwritten,
        spans: SpanSink | None = None,
        chance: Callable[[], float] = random,
    ) -> None:
        self.now = clock.monotonic  # the moment, in seconds
        self._now_us, self._chance = clock.now_us, chance
        self._options = found = options or WatchOptions()
        self._line, self._spans = line, spans
        self._sampler = Sampler(found.trace_share, found.traces_per_second)
        self._lines = [Allowance(found.lines_per_second) for _ in range(_CLASSES)]
        self._routes: dict[str, RouteCount] = {}
        self._tenants: dict[str, _TenantCount] = {}
        self._codes = Counter[str]()
        self._withheld, self._lag, self._lagged = 0, Timing(), False

    def route(self, name: str) -> RouteCount:
        """Return where requests of a route are counted; ask once, when the route is made."""
        return self._routes.setdefault(name, RouteCount(name))

    def begin(self, traceparents: Sequence[str] = ()) -> Seen:
        """Return a new request; `traceparents` are its headers of that name: only one alone is believed."""
        request_id = new_request_id()
        seen = Seen(request_id, request_id, self.now())
        if len(traceparents) == 1:
            seen.parent = parse_traceparent(traceparents[0])
            if seen.parent is not None:
                seen.trace_id = seen.parent.trace_id
        if self._spans is not None and self._sampler.traces(seen.parent, self._chance(), seen.began):
            seen.span_id = secrets.token_hex(8)
            seen.traceparent = TraceContext(seen.trace_id, seen.span_id, sampled=True).text
        return seen

    def acknowledged(self, began: float) -> None:
        """Note that the stream has the events which were given to it at a moment of the monotonic clock."""
        self._lag.add(self.now() - began)
        self._lagged = True

    def end(self, seen: Seen, route: RouteCount, status: int, code: str = "", size_bytes: int = 0) -> None:
        """Note a request's answer.

        Args:
            seen: the request.
            route: which counts it.
            status: of the answer.
            code: of the problem; "" where it went well.
            size_bytes: of its body, as it arrived.
        """
        seconds, kind = self.now() - seen.began, status // 100
        timing = route.timings[kind]
        if timing is None:
            timing = route.timings[kind] = Timing()
        timing.add(seconds)
        if seen.tenant:
            self._count_tenant(seen, status)
        if code:
            self._codes[code] += 1
        if status >= _REFUSED or self._chance() < self._options.log_share:
            self._write(seen, route.name, status, code, seconds, size_bytes)
        if seen.span_id:
            self._tell_span(seen, route.name, status, code, seconds)

    def _count_tenant(self, seen: Seen, status: int) -> None:
        tenants = self._tenants
        count = tenants.get(seen.tenant)
        if count is None:
            known = len(tenants) - (OTHER in tenants)
            name = seen.tenant if known < self._options.tenants else OTHER
            count = tenants.setdefault(name, _TenantCount())
        count.requests += 1
        count.events += seen.events
        if status >= _REFUSED:
            count.refused += status < _FAILED
            count.throttled += status == _TOO_MANY
            count.errors += status >= _FAILED

    def _write(self, seen: Seen, route: str, status: int, code: str, seconds: float, size_bytes: int) -> None:
        refused = status >= _REFUSED
        if not self._lines[status // 100].take(self.now()):
            self._withheld += refused
            return
        event = seen.event
        level: Literal["INFO", "WARN", "ERROR"] = "WARN" if status >= _FAILED else "INFO"
        self._line(
            RequestLine(
                level="ERROR" if status == _INTERNAL else level,
                request=seen.request_id,
                trace=seen.trace_id,
                route=route,
                status=status,
                milliseconds=round(seconds * 1_000, 3),
                bytes=size_bytes,
                tenant=seen.tenant,
                credential=seen.credential,
                code=code,
                events=seen.events,
                event_id=event.event_id if event else None,
                entity_id=event.entity_id if event else None,
                correlation_id=correlation_of(event.payload) if event else None,
                share=1.0 if refused else self._options.log_share,
            )
        )

    def _tell_span(self, seen: Seen, route: str, status: int, code: str, seconds: float) -> None:
        if self._spans is None:
            return
        end_us = self._now_us()
        attributes: dict[str, str | int] = {
            "request_id": seen.request_id,
            "endpoint": route,
            "status": status,
            "events": seen.events,
        }
        attributes |= {name: text for name, text in (("tenant_id", seen.tenant), ("code", code)) if text}
        self._spans(
            FinishedSpan(
                name=route,
                parent=seen.parent,
                start_us=end_us - round(seconds * _MICROSECONDS),
                end_us=end_us,
                attributes=attributes,
                span_id=seen.span_id,
                trace_id=seen.trace_id,
                failed=status >= _FAILED,
                serves=True,
            )
        )

    def take(self) -> list[Fact]:
        """Return what moved since it was last taken."""
        told: list[Fact] = []
        for route in self._routes.values():
            for kind, timing in enumerate(route.timings):
                if timing is not None and (taken := timing.take()).count:
                    errors = taken.count if kind * 100 >= _FAILED else 0
                    told.append(RequestsAnswered(route.name, f"{kind}xx", taken.count, errors, taken))
        told += [RequestsRefused(code, requests) for code, requests in self._codes.items()]
        self._codes.clear()
        for tenant, one in self._tenants.items():
            if one.requests:
                told.append(
                    TenantServed(tenant, one.requests, one.events, one.refused, one.throttled, one.errors)
                )
        self._tenants = {tenant: _TenantCount() for tenant in self._tenants}  # who has a label keeps it
        if self._lagged:
            told.append(EventsAcknowledged(self._lag.take()))
        if self._withheld:
            told.append(LinesWithheld(self._withheld))
        self._withheld, self._lagged = 0, False
        return told
