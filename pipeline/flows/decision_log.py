"""Decisions of the rate-limit service as events of the same pipeline: type `ratelimit.decided`, the caller's tenant.

A decision does not wait for its record: a crash, or a stream that is busy, may lose the record of the last decisions,
never a decision.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from pipeline.core.caller import Caller
from pipeline.core.errors import HeadraceError
from pipeline.facts import DecisionsDropped, FactSink
from pipeline.flows.ratelimits import Check, Checked
from pipeline.ports.clock import Clock

EVENT_TYPE, SCHEMA_VERSION, SOURCE = "ratelimit.decided", 1, "headrace"
MAX_WAITING = 10_000  # records on their way to the stream; further ones are dropped
_TOLD_SECONDS = 10.0

Put = Callable[
    [bytes, str, str], Awaitable[Any]
]  # payload, tenant, entity; raises Transient when there is no room


class DecisionLog:
    """Sends records; lives on one event loop.

    Args:
        put: where events go.
        clock: for the time of a decision.
        facts: told of what was dropped, at most every ten seconds.
    """

    def __init__(self, put: Put, clock: Clock, facts: FactSink) -> None:
        self._put, self._clock, self._facts = put, clock, facts
        self._waiting: set[asyncio.Task[None]] = set()
        self._dropped, self._told_at = 0, -_TOLD_SECONDS

    def record(self, caller: Caller, check: Check, found: Checked) -> None:
        """Send one decision that a caller was told, some time soon."""
        if len(self._waiting) >= MAX_WAITING:
            self._drop()
            return
        tenant = caller.tenant_id
        event = decided_event(tenant, check, found, self._clock.now_us(), secrets.token_hex(16))
        task = asyncio.get_running_loop().create_task(self._send(event, tenant, entity_of(check)))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def drain(self, seconds: float) -> None:
        """Wait until what was taken is sent; the process ends."""
        if self._waiting:
            await asyncio.wait(self._waiting, timeout=seconds)

    async def _send(self, event: bytes, tenant: str, entity: str) -> None:
        try:
            await self._put(event, tenant, entity)
        except HeadraceError:  # no room, or nothing to send to: counted and told
            self._drop()

    def _drop(self) -> None:
        self._dropped += 1
        now = self._clock.monotonic()
        if now - self._told_at >= _TOLD_SECONDS:
            self._told_at, dropped, self._dropped = now, self._dropped, 0
            self._facts(DecisionsDropped(decisions=dropped))


def entity_of(check: Check) -> str:
    """Return the entity that a decision is about."""
    return f"{check.namespace}/{check.key}"


def decided_event(tenant: str, check: Check, found: Checked, now_us: int, event_id: str) -> bytes:
    """Return a decision as an event on the wire."""
    data: dict[str, Any] = {
        "namespace": check.namespace,
        "key": check.key,
        "cost": check.cost,
        "allowed": found.allowed,
        "limit": found.limit,
        "remaining": found.remaining,
        "reset_seconds": found.reset_seconds,
    }
    if check.policy is not None:
        data["policy"] = check.policy
    return msgspec.json.encode(
        {
            "event_id": event_id,
            "tenant_id": tenant,
            "entity_id": entity_of(check),
            "event_type": EVENT_TYPE,
            "schema_version": SCHEMA_VERSION,
            "source": SOURCE,
            "event_time": datetime.fromtimestamp(now_us / 1_000_000, UTC),
            "data": data,
        }
    )
