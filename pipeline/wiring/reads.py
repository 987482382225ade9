"""Reading over HTTP: who gets which reader, how many read at once, and the key that pages are signed with."""

import asyncio
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pipeline.aws.client import make_client
from pipeline.aws.meter import Meter
from pipeline.aws.sqs import SqsQueue
from pipeline.aws.tables import ask_tables
from pipeline.config import Settings
from pipeline.core.arrival_receipt import ArrivalReceipt
from pipeline.core.caller import Caller
from pipeline.core.errors import NotFound
from pipeline.core.receipt import AckedBatch, Receipt
from pipeline.facts import FactSink
from pipeline.flows.find import FindPorts
from pipeline.flows.freshness import Freshness
from pipeline.flows.quarantine import QuarantinePorts
from pipeline.flows.ready import Probe
from pipeline.flows.replay import ReplayPorts
from pipeline.flows.replay_plan import PlanPorts
from pipeline.flows.sight import TracePorts
from pipeline.flows.tenant_reads import ReadParts, TenantReads
from pipeline.ports.clock import Clock
from pipeline.wiring.reading import READERS, row_readers
from pipeline.wiring.replaying import map_ahead
from pipeline.wiring.signing import signing_key
from pipeline.wiring.stores import Archive, archive, connection, queue_names, stream

THREADS = 8  # reads of one process at once, in threads of their own: ingest never waits for one
_SENDERS = 2  # replay jobs of one process that are being sent; further ones wait, frozen
TENANT_READS = 4  # of these threads one tenant has half at most
TENANT_WAITING = 16  # further requests of a tenant are told that the service is busy
# Reads of one request that stand in the queue to S3: a request of ten thousand keeps nobody waiting.
_AHEAD = 4
_ABSENT = "rules/0"  # no object has this name: asking for it is the cheapest question to a bucket


@dataclass
class Turn:
    """One tenant's share of the threads. Used on the event loop only."""

    running: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(TENANT_READS))
    requests: int = 0


class Reads:
    """Gives out readers. `of` is the only way to what is stored; it takes a caller and nothing else that says whose.

    Attributes:
        key: signs cursors.
        threads: where reads run.
        senders: where messages of replay jobs are sent.
        acked: what a receipt's text acknowledged, for the caller whose it is; NotFound for any other text. None: nobody
            gives receipts here.
    """

    def __init__(
        self, parts: ReadParts, key: bytes, acked: Callable[[Caller, str], Receipt] | None = None
    ) -> None:
        self.key, self.acked = key, acked
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="read")
        self.senders = ThreadPoolExecutor(_SENDERS, thread_name_prefix="send")
        self._parts, self._turns, self._closing = parts, dict[str, Turn](), threading.Event()

    def of(self, caller: Caller, waited_for: Callable[[], bool] = lambda: True) -> TenantReads:
        """Return the reader of a caller."""
        return TenantReads(self._parts, caller, waited_for)

    def sender(self, caller: Caller) -> TenantReads:
        """Return a reader that goes on until this process ends: for sending replay jobs."""
        return self.of(caller, lambda: not self._closing.is_set())

    def enter(self, caller: Caller) -> Turn | None:
        """Return the share of the caller's tenant; None when too many of its requests wait already."""
        turn = self._turns.setdefault(caller.tenant_id, Turn())
        if turn.requests >= TENANT_WAITING:
            return None
        turn.requests += 1
        return turn

    def leave(self, caller: Caller, turn: Turn) -> None:
        """Give a place back."""
        turn.requests -= 1
        if not turn.requests:
            self._turns.pop(caller.tenant_id, None)

    def close(self) -> None:
        """End the threads; replay jobs whose messages are not all sent stay as they are, and can be resumed."""
        self._closing.set()
        for pool in (self.threads, self.senders):
            pool.shutdown(wait=False, cancel_futures=True)


def reads(
    settings: Settings, clock: Clock, facts: FactSink, acked: Callable[[Caller, str], Receipt] | None = None
) -> Reads:
    """Return the reading of one process."""
    return Reads(_parts(settings, archive(settings, facts), clock, facts), signing_key(settings), acked)


def acked_by(
    read: Callable[[str, str], ArrivalReceipt | None], stream_epoch: tuple[str, str]
) -> Callable[[Caller, str], Receipt]:
    """Return what reads the receipts of requests, for `Reads.acked`.

    Args:
        read: gives what a text says to a tenant; None for one that is none of the tenant's.
        stream_epoch: of the stream that the receipts are of.
    """

    def acked(caller: Caller, text: str) -> Receipt:
        found = read(caller.tenant_id, text)
        if found is None:
            raise NotFound("no such receipt")
        batches = tuple(AckedBatch(0, 0, 0, shard, number) for shard, number, _ in found.places)
        return Receipt("http", 0, *stream_epoch, found.arrived_us, found.arrived_us, batches)

    return acked


def probes(settings: Settings, facts: FactSink) -> dict[str, Probe]:
    """Return what a process that serves depends on in AWS, each with a cheap question."""
    stores, source = archive(settings, facts), stream(settings, facts)
    dynamodb = make_client("dynamodb", connection(settings), Meter(), facts=facts)

    def tables() -> None:
        ask_tables(dynamodb, settings.storage.table_prefix)

    def objects() -> None:
        with suppress(NotFound):  # it answered
            stores.objects.tail(_ABSENT, 1)

    queue = _queue(settings, Meter(), facts)
    return {"tables": tables, "objects": objects, "stream": source.shards, "queue": queue.ask}


def _queue(settings: Settings, meter: Meter, facts: FactSink) -> SqsQueue:
    sqs = make_client("sqs", connection(settings), meter, facts=facts)
    return SqsQueue(sqs, *queue_names(settings), settings.replay.visibility_seconds)


def _parts(settings: Settings, stores: Archive, clock: Clock, facts: FactSink) -> ReadParts:
    pool, reader = ThreadPoolExecutor(READERS, thread_name_prefix="find"), row_readers(stores.objects)

    def read(key: str, first_row: int, rows: int, columns: Sequence[str]) -> Any:
        return reader().read(key, first_row, rows, columns)

    def unseen(_count: int) -> None:
        pass

    def each(call: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return map_ahead(pool, call, items, _AHEAD)

    find = FindPorts(
        ledger=stores.ledger,
        manifest=stores.manifest,
        index=stores.index,
        aggregates=stores.aggregates,
        read=read,
        each=each,
        progress=unseen,
    )
    queue = _queue(settings, stores.meter, facts)
    return ReadParts(
        trace=TracePorts(find, stores.objects, stores.receipts, lambda *row: reader().row_group(*row)),
        quarantine=QuarantinePorts(stores.ledger, stores.manifest, stores.objects, clock, facts, unseen),
        plan=PlanPorts(stores.ledger, stores.manifest, stores.index, find.read, each, clock, facts),
        replay=ReplayPorts(stores.jobs, queue, find.read, lambda: secrets.token_hex(8), clock, facts),
        days=stores.days,
        freshness=Freshness(stores.ledger, clock),
    )
