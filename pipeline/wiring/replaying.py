"""What replay is made of."""

import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pipeline.aws.client import make_client
from pipeline.aws.entity_days import DynamoEntityDays
from pipeline.aws.jobs import DynamoJobs
from pipeline.aws.meter import Meter
from pipeline.aws.sqs import SqsQueue
from pipeline.config import Settings
from pipeline.facts import FactSink
from pipeline.flows.process import ProcessLimits, ProcessPorts
from pipeline.flows.replay import ReplayPorts
from pipeline.flows.replay_plan import PlanPorts
from pipeline.ports.clock import Clock
from pipeline.ports.spans import SpanSink, nowhere
from pipeline.wiring.reading import READERS, row_readers
from pipeline.wiring.stores import archive, connection, queue_names

_EMULATOR_MESSAGES = 10_000  # ten messages take it 0.05 s to hand out then, and 0.6 s at 140,000
_AHEAD = 4  # data files read ahead of a processor


@dataclass(frozen=True)
class ReplayParts:
    """What replay is made of: planning, starting, processing, and the stores they share."""

    plan: PlanPorts
    start: ReplayPorts
    process: ProcessPorts
    limits: ProcessLimits
    jobs: DynamoJobs
    days: DynamoEntityDays
    queue: SqsQueue
    meter: Meter


def replay_parts(
    settings: Settings,
    clock: Clock,
    facts: FactSink,
    stopping: Callable[[], bool] = lambda: False,
    spans: SpanSink = nowhere,
) -> ReplayParts:
    """Return the parts of replay; `stopping` turns true when the process is asked to stop."""
    stores, visibility = archive(settings, facts), settings.replay.visibility_seconds
    jobs, days = stores.jobs, stores.days
    sqs = make_client("sqs", connection(settings), stores.meter, facts=facts)
    queue = SqsQueue(sqs, *queue_names(settings), visibility)
    pool = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
    reader = row_readers(stores.objects)

    def read(key: str, first_row: int, rows: int, columns: Sequence[str]) -> Any:
        return reader().read(key, first_row, rows, columns)

    def ahead(call: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return map_ahead(pool, call, items, _AHEAD)

    return ReplayParts(
        plan=PlanPorts(stores.ledger, stores.manifest, stores.index, read, pool.map, clock, facts),
        start=ReplayPorts(
            jobs, queue, read, lambda: secrets.token_hex(3), clock, facts, _max_ahead_messages(settings)
        ),
        process=ProcessPorts(queue, jobs, days, read, ahead, clock, facts, stopping, spans),
        limits=ProcessLimits(settings.replay.max_attempts, visibility),
        jobs=jobs,
        days=days,
        queue=queue,
        meter=stores.meter,
    )


def _max_ahead_messages(settings: Settings) -> int | None:
    """Return how far sending may run ahead: only an emulator slows with what waits in it."""
    return None if settings.aws.endpoint_url is None else _EMULATOR_MESSAGES


def map_ahead(
    pool: ThreadPoolExecutor, call: Callable[[Any], Any], items: Iterable[Any], width: int
) -> Iterator[Any]:
    """Map in order, at most `width` results ahead of whoever takes them: their memory is bounded."""
    futures: deque[Future[Any]] = deque()
    for item in items:
        futures.append(pool.submit(call, item))
        if len(futures) >= width:
            yield futures.popleft().result()
    while futures:
        yield futures.popleft().result()
