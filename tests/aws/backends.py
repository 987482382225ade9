"""The worlds the behaviour suites run in: memory, moto (in process), ministack (a real server) ...

... ministack behind a proxy that breaks calls by a seed, and AWS' own DynamoDB Local for what lies in tables.
"""

import importlib.util
import itertools
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from moto import mock_aws

from pipeline.aws.aggregates import DynamoAggregates
from pipeline.aws.client import Connection, make_client
from pipeline.aws.entity_days import DynamoEntityDays
from pipeline.aws.idempotency import DynamoRequests
from pipeline.aws.index import DynamoIndex
from pipeline.aws.jobs import DynamoJobs
from pipeline.aws.kinesis import KinesisSink, KinesisStream, create_stream
from pipeline.aws.ledger import DynamoLedger
from pipeline.aws.limits import DynamoLimits
from pipeline.aws.manifest import DynamoManifest, DynamoReceipts
from pipeline.aws.meter import Meter
from pipeline.aws.s3 import S3Objects, create_bucket
from pipeline.aws.sqs import SqsQueue, create_queues
from pipeline.aws.tables import create_tables
from pipeline.laptop import emulator
from pipeline.laptop.home import Home
from pipeline.ports.aggregates import Aggregates
from pipeline.ports.clock import SystemClock
from pipeline.ports.entity_days import EntityDays
from pipeline.ports.idempotency import Requests
from pipeline.ports.index import EntityIndex
from pipeline.ports.jobs import ReplayJobs
from pipeline.ports.ledger import Ledger
from pipeline.ports.limits import Decisions, LimitStore, Policies
from pipeline.ports.manifest import Manifest
from pipeline.ports.objects import Objects
from pipeline.ports.queue import MessageQueue
from pipeline.ports.receipts import Receipts
from pipeline.ports.stream import RecordSink, Stream
from tests.fakes.clock import SteppedClock
from tests.fakes.facts import FactList
from tests.fakes.idempotency import MemoryRequests
from tests.fakes.index import MemoryAggregates, MemoryIndex
from tests.fakes.ledger import MemoryLedger
from tests.fakes.limits import MemoryDecisions, MemoryLimits, MemoryPolicies
from tests.fakes.manifest import MemoryManifest
from tests.fakes.objects import MemoryObjects
from tests.fakes.receipts import MemoryReceipts
from tests.fakes.replay import MemoryEntityDays, MemoryJobs, MemoryQueue
from tests.fakes.stream import MemoryStream
from tests.faults.patience import patient
from tests.faults.plan import Seeded
from tests.faults.proxy import FaultProxy, fault_proxy
from tests.servers import dynamodb_local
from tests.servers.install import NotHere

REGION = "us-east-1"
P = TypeVar("P")
_NUMBERS = itertools.count(1)


class World(ABC):
    """Makes fresh, empty ports; `name` tells the world."""

    name: str

    @abstractmethod
    def objects(self) -> Objects:
        """Return an empty bucket."""

    @abstractmethod
    def manifest(self) -> Manifest:
        """Return an empty manifest."""

    @abstractmethod
    def index(self) -> EntityIndex:
        """Return an empty entity index."""

    @abstractmethod
    def aggregates(self) -> Aggregates:
        """Return empty aggregates."""

    @abstractmethod
    def receipts(self) -> Receipts:
        """Return an empty table of receipts."""

    @abstractmethod
    def ledger(self) -> Ledger:
        """Return an empty ledger."""

    @abstractmethod
    def raise_seal(self, ledger: Ledger, day: str) -> None:
        """Raise the seal of a ledger by one version, as the sealer will."""

    @abstractmethod
    def jobs(self) -> ReplayJobs:
        """Return an empty table of replay jobs."""

    @abstractmethod
    def days(self) -> EntityDays:
        """Return an empty table of results."""

    @abstractmethod
    def requests(self) -> Requests:
        """Return an empty table of requests."""

    @abstractmethod
    def limits(self) -> LimitStore:
        """Return an empty table of limits."""

    @abstractmethod
    def policies(self) -> Policies:
        """Return no policies."""

    @abstractmethod
    def decisions(self) -> Decisions:
        """Return no decisions."""

    @abstractmethod
    def queue(self, visibility_seconds: int = 120) -> MessageQueue:
        """Return an empty queue."""

    @abstractmethod
    def buried(self, queue: MessageQueue) -> list[tuple[str, str]]:
        """Return what was put into a queue's dead-letter queue: bodies and reasons."""

    @abstractmethod
    def stream(self, shards: int) -> tuple[Stream, RecordSink]:
        """Return an empty stream and a sink to it."""


class Memory(World):
    """The fakes of the flows' tests."""

    name = "memory"

    def objects(self) -> Objects:
        """Return an empty bucket."""
        return MemoryObjects()

    def manifest(self) -> Manifest:
        """Return an empty manifest."""
        return MemoryManifest()

    def index(self) -> EntityIndex:
        """Return an empty entity index."""
        return MemoryIndex()

    def aggregates(self) -> Aggregates:
        """Return empty aggregates."""
        return MemoryAggregates()

    def receipts(self) -> Receipts:
        """Return an empty table of receipts."""
        return MemoryReceipts()

    def ledger(self) -> Ledger:
        """Return an empty ledger."""
        return MemoryLedger()

    def jobs(self) -> ReplayJobs:
        """Return an empty table of replay jobs."""
        return MemoryJobs()

    def days(self) -> EntityDays:
        """Return an empty table of results."""
        return MemoryEntityDays()

    def requests(self) -> Requests:
        """Return an empty table of requests."""
        return MemoryRequests()

    def limits(self) -> LimitStore:
        """Return an empty table of limits."""
        return MemoryLimits()

    def policies(self) -> Policies:
        """Return no policies."""
        return MemoryPolicies()

    def decisions(self) -> Decisions:
        """Return no decisions."""
        return MemoryDecisions()

    def queue(self, visibility_seconds: int = 120) -> MessageQueue:
        """Return an empty queue."""
        return MemoryQueue(SystemClock(), visibility_seconds)

    def buried(self, queue: MessageQueue) -> list[tuple[str, str]]:
        """Return what was buried."""
        assert isinstance(queue, MemoryQueue)
        return queue.buried

    def raise_seal(self, ledger: Ledger, day: str) -> None:
        """Raise the seal."""
        assert isinstance(ledger, MemoryLedger)
        ledger.raise_seal(day)

    def stream(self, shards: int) -> tuple[Stream, RecordSink]:
        """Return an empty stream."""
        stream = MemoryStream(SteppedClock(), shards=shards)
        return stream, stream


class Aws(World):
    """The adapters over whatever answers at `endpoint_url`."""

    def __init__(self, name: str, endpoint_url: str | None, max_attempts: int = 2) -> None:
        self.name = name
        where = Connection(REGION, endpoint_url, "headrace", "headrace", max_attempts=max_attempts)
        self.meter, self.facts = Meter(), FactList()
        self.s3, self.dynamodb, self.kinesis, self.sqs = (
            make_client(service, where, self.meter, facts=self.facts)
            for service in ("s3", "dynamodb", "kinesis", "sqs")
        )

    def objects(self) -> Objects:
        """Return an empty bucket."""
        bucket = f"bucket-{next(_NUMBERS)}"
        create_bucket(self.s3, bucket, REGION)
        return S3Objects(self.s3, bucket)

    def tables(self) -> str:
        """Make empty tables; return their prefix."""
        prefix = f"t{next(_NUMBERS)}-"
        create_tables(self.dynamodb, prefix)
        return prefix

    def manifest(self) -> Manifest:
        """Return an empty manifest."""
        return DynamoManifest(self.dynamodb, self.tables())

    def index(self) -> EntityIndex:
        """Return an empty entity index."""
        return DynamoIndex(self.dynamodb, self.tables())

    def aggregates(self) -> Aggregates:
        """Return empty aggregates."""
        return DynamoAggregates(self.dynamodb, self.tables())

    def receipts(self) -> Receipts:
        """Return an empty table of receipts."""
        return DynamoReceipts(self.dynamodb, self.tables())

    def ledger(self) -> Ledger:
        """Return an empty ledger."""
        return DynamoLedger(self.dynamodb, self.tables())

    def jobs(self) -> ReplayJobs:
        """Return an empty table of replay jobs."""
        return DynamoJobs(self.dynamodb, self.tables())

    def days(self) -> EntityDays:
        """Return an empty table of results."""
        return DynamoEntityDays(self.dynamodb, self.tables())

    def requests(self) -> Requests:
        """Return an empty table of requests."""
        return DynamoRequests(self.dynamodb, self.tables())

    def limits(self) -> LimitStore:
        """Return an empty table of limits."""
        return DynamoLimits(self.dynamodb, self.tables())

    def policies(self) -> Policies:
        """Return no policies."""
        return DynamoLimits(self.dynamodb, self.tables())

    def decisions(self) -> Decisions:
        """Return no decisions."""
        return DynamoLimits(self.dynamodb, self.tables())

    def queue(self, visibility_seconds: int = 120) -> MessageQueue:
        """Return an empty queue."""
        name = f"queue-{next(_NUMBERS)}"
        dead = f"{name}-dead"
        create_queues(self.sqs, name, dead, visibility_seconds=visibility_seconds, max_attempts=5)
        return SqsQueue(self.sqs, name, dead, visibility_seconds)

    def buried(self, queue: MessageQueue) -> list[tuple[str, str]]:
        """Return what was buried."""
        assert isinstance(queue, SqsQueue)
        answer = self.sqs.receive_message(
            QueueUrl=queue._dead_url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        )
        return [
            (one["Body"], one["MessageAttributes"]["reason"]["StringValue"])
            for one in answer.get("Messages", [])
        ]

    def raise_seal(self, ledger: Ledger, day: str) -> None:
        """Raise the seal."""
        assert isinstance(ledger, DynamoLedger)
        self.dynamodb.update_item(
            TableName=ledger._state,
            Key={"name": {"S": "seal"}},
            UpdateExpression="ADD version :one SET sealing_to = :day",
            ExpressionAttributeValues={":one": {"N": "1"}, ":day": {"S": day}},
        )

    def stream(self, shards: int) -> tuple[Stream, RecordSink]:
        """Return an empty stream."""
        name = f"stream-{next(_NUMBERS)}"
        create_stream(self.kinesis, name, shards, 24)
        return KinesisStream(self.kinesis, name), KinesisSink(self.kinesis, name)


class Faulty(Aws):
    """The adapters over ministack, through a proxy that breaks calls, called as patiently as the flows call them.

    Tables, buckets and queues are made without the proxy.
    """

    def __init__(self, endpoint_url: str, proxy: FaultProxy) -> None:
        super().__init__("ministack", endpoint_url)
        self.proxy, self.through = proxy, Aws("ministack", proxy.url, max_attempts=12)

    def _faulty(self, port: P) -> P:
        for service in ("s3", "dynamodb", "kinesis", "sqs"):
            if hasattr(port, f"_{service}"):
                setattr(port, f"_{service}", getattr(self.through, service))
        return patient(port, self.facts)

    def objects(self) -> Objects:
        """Return an empty bucket."""
        return self._faulty(super().objects())

    def manifest(self) -> Manifest:
        """Return an empty manifest."""
        return self._faulty(super().manifest())

    def index(self) -> EntityIndex:
        """Return an empty entity index."""
        return self._faulty(super().index())

    def aggregates(self) -> Aggregates:
        """Return empty aggregates."""
        return self._faulty(super().aggregates())

    def receipts(self) -> Receipts:
        """Return an empty table of receipts."""
        return self._faulty(super().receipts())

    def ledger(self) -> Ledger:
        """Return an empty ledger."""
        return self._faulty(super().ledger())

    def jobs(self) -> ReplayJobs:
        """Return an empty table of replay jobs."""
        return self._faulty(super().jobs())

    def days(self) -> EntityDays:
        """Return an empty table of results."""
        return self._faulty(super().days())

    def requests(self) -> Requests:
        """Return an empty table of requests."""
        return self._faulty(super().requests())

    def limits(self) -> LimitStore:
        """Return an empty table of limits; its adapter listens to the client that it is given."""
        return self._faulty(DynamoLimits(self.through.dynamodb, self.tables()))

    def policies(self) -> Policies:
        """Return no policies."""
        return self._faulty(super().policies())

    def decisions(self) -> Decisions:
        """Return no decisions."""
        return self._faulty(super().decisions())

    def queue(self, visibility_seconds: int = 120) -> MessageQueue:
        """Return an empty queue."""
        return self._faulty(super().queue(visibility_seconds))

    def stream(self, shards: int) -> tuple[Stream, RecordSink]:
        """Return an empty stream."""
        stream, sink = super().stream(shards)
        return self._faulty(stream), self._faulty(sink)


class Tables(Aws):
    """The adapters over a server that has tables alone."""

    def objects(self) -> Objects:
        """Skip."""
        pytest.skip(TABLES_ALONE)

    def queue(self, visibility_seconds: int = 120) -> MessageQueue:
        """Skip."""
        del visibility_seconds
        pytest.skip(TABLES_ALONE)

    def stream(self, shards: int) -> tuple[Stream, RecordSink]:
        """Skip."""
        del shards
        pytest.skip(TABLES_ALONE)


@contextmanager
def ministack(folder: Path) -> Iterator[str]:
    """Run the emulator as the product does, on a free loopback port; give its endpoint."""
    if importlib.util.find_spec("ministack") is None:
        pytest.skip("ministack is not installed: pip install 'headrace[local]'")
    home = Home(folder)
    for path in (home.run, home.state, home.objects, home.emulator_log.parent):
        path.mkdir(parents=True)
    port = emulator.free_port()
    child: subprocess.Popen[bytes] = emulator.start_emulator(home, port, dies_with_parent=False)
    try:
        emulator.wait_healthy(child, home, port, 0)
        yield emulator.endpoint_url(port)
    finally:
        child.kill()
        child.wait()


@contextmanager
def world(name: str, folder: Path) -> Iterator[World]:
    """Open a world by name."""
    if name == "memory":
        yield Memory()
    elif name == "moto":
        with mock_aws():
            yield Aws(name, None)
    elif name == DYNAMODB_LOCAL:
        try:
            yield Tables(name, dynamodb_local.endpoint())
        except NotHere as why:
            pytest.skip(f"no second opinion of DynamoDB Local: {why}")
    elif name.startswith("faulty"):
        plan = Seeded(int(name.split()[1]), answers_kept=ONE_ANSWER, whole=["kinesis.PutRecords"])
        with ministack(folder) as endpoint, fault_proxy(endpoint, plan) as proxy:
            yield Faulty(endpoint, proxy)
    else:
        with ministack(folder) as endpoint:
            yield Aws(name, endpoint)


DYNAMODB_LOCAL = "DynamoDB Local"
TABLES_ALONE = "DynamoDB Local has tables alone"
# Whoever repeats one of these after its answer was lost is told something else than the first time: what then holds is
# asked in test_lost_answers.py, one by one.
ONE_ANSWER = (
    "dynamodb.TransactWriteItems",
    "dynamodb.UpdateItem",
    "kinesis.PutRecords",
    "s3.PutObject",
    "sqs.ReceiveMessage",
    "sqs.SendMessage",
    "sqs.SendMessageBatch",
)
WORLDS: list[Any] = [
    "memory",
    "moto",
    *(pytest.param(name, marks=pytest.mark.stack) for name in ("ministack", "faulty 1", "faulty 2")),
    DYNAMODB_LOCAL,
]
