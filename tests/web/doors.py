"""Front doors over fakes: a stream in memory, stepped or real time, a gate that believes what it is told."""

import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from falcon.asgi import Request

from pipeline.config import Settings, load_settings
from pipeline.core.caller import Caller, Denied, Scope
from pipeline.core.plan import DELIVERED
from pipeline.core.rules import Rules
from pipeline.flows.follow import ArrivalReceipts, Follower
from pipeline.flows.rules import FixedRules
from pipeline.ports.clock import SystemClock
from pipeline.ports.ledger import Ledger
from pipeline.ports.stream import OutgoingRecord, PutAnswer, RecordSink
from pipeline.sending import ProducerSettings
from pipeline.sending.coalesce import Ingest
from pipeline.sending.fates import BatchFate
from pipeline.sending.threaded import EventProducer, ProducerOptions
from pipeline.sending.worker import WorkerPorts
from pipeline.web.gate import NOBODY
from pipeline.web.problems import Problem
from pipeline.web.route import Route
from pipeline.wiring.front_door import FrontDoor
from pipeline.wiring.loading import rules
from tests.fakes.facts import FactList
from tests.fakes.ledger import MemoryLedger
from tests.fakes.receipts import MemoryReceipts

STREAM = ("events", "1700000000")
KEY = b"k" * 32


class MemorySink:
    """Takes every record; a test may make it slow, or refuse."""

    FIRST = 49_000_000_000_000_000_000_001  # the number of the first record

    def __init__(self) -> None:
        self.records: list[OutgoingRecord] = []
        self.before: Callable[[], None] = lambda: None
        self._number = self.FIRST - 1

    def put(self, records: Sequence[OutgoingRecord]) -> list[PutAnswer]:
        """Keep the records."""
        self.before()
        self.records += records
        answers = []
        for _ in records:
            self._number += 1
            answers.append(PutAnswer("shardId-000000000000", str(self._number), ""))
        return answers


class OpenGate:
    """Believes `X-Tenant`; without it nobody is let in."""

    nobody = NOBODY

    def __init__(self, **plan: Any) -> None:
        self._plan = replace(DELIVERED[-1], **plan)

    async def admit(self, request: Request, route: Route) -> Caller:  # noqa: ARG002
        """Return the caller that the header names."""
        tenant = request.get_header("X-Tenant")
        if tenant is None:
            raise Denied("missing", "no credential")
        return Caller(tenant, "key:test", frozenset(Scope), self._plan)

    def problem(self, denied: Denied) -> Problem:  # noqa: ARG002
        """Return what a caller is told."""
        return Problem("unauthenticated", "send a credential")

    def catch_up(self) -> None:
        """Begin nothing."""

    async def close(self) -> None:
        """Finish."""


def web_settings(**sections: Mapping[str, Any]) -> Settings:
    """Return settings with two tenants."""
    return load_settings({"events": {"tenants": ["demo", "other"]}, **sections}, environ={})


def make_door(
    sink: RecordSink | None = None,
    settings: Settings | None = None,
    ledger: Ledger | None = None,
    judged_by: Rules | None = None,
    max_buffer_bytes: int = ProducerOptions().max_buffer_bytes,
    **parts: Any,
) -> FrontDoor:
    """Return a front door to a sink; `Ingest.start` is whoever serves'.

    Args:
        sink: the stream; None: one that nobody looks at.
        settings: by default those of `web_settings`.
        ledger: what receipts are followed in.
        judged_by: rules that never change; by default those of the settings.
        max_buffer_bytes: what waits for the stream at most.
        parts: fields of `FrontDoor`, in place of what is made here.
    """
    found, time = settings or web_settings(), parts.pop("clock", SystemClock())
    threads = parts.pop("control_threads", None) or ThreadPoolExecutor(4)

    def opened(told: Callable[[BatchFate], None]) -> EventProducer:
        ports = WorkerPorts(sink or MemorySink(), MemoryReceipts(), time, random.random, FactList(), told)
        batches = ProducerSettings(linger_seconds=found.web.linger_ms / 1_000)
        options = ProducerOptions(max_buffer_bytes=max_buffer_bytes, keep_fates=0)
        return EventProducer("webtest1", STREAM, ports, batches, options)

    made = FrontDoor(
        found,
        time,
        FactList(),
        control_threads=threads,
        ingest=Ingest(opened),
        receipts=ArrivalReceipts(KEY, STREAM, Follower(ledger or MemoryLedger(), STREAM, time, threads)),
        rules=FixedRules(judged_by or rules(found)),
    )
    return replace(made, **parts)
