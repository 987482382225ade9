"""Ports `Stream`, `RecordSink` and `StreamCheck` on Kinesis.

Limits: https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html
"""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from graphlib import TopologicalSorter
from typing import Any

from botocore.exceptions import ClientError

from pipeline.aws.errors import error_code, translated
from pipeline.core.days import HOUR_US
from pipeline.core.errors import NotFound, StoreUnusable
from pipeline.core.event import Record
from pipeline.core.segment import Position
from pipeline.ports.stream import (
    Batch,
    OutgoingRecord,
    PutAnswer,
    ShardInfo,
    ShardReader,
    Successor,
)

_MAX_GET_RECORDS = 10_000  # Kinesis limit
_READ_BYTES = (
    4 * 2**20
)  # asked for per read; Kinesis gives 10 MiB at most, and every MiB here is held three times
_FIRST_LIMIT = 100  # records, before anything is known of their size
NEW_STREAM_HOURS = 24  # how long a new stream keeps a record
_BEHIND_MS = 1  # where nothing was read: not known, and not 0
_REFUSED = "InvalidArgumentException"  # of GetShardIterator: no such sequence number in this shard
_EXPIRED = "ExpiredIteratorException"
_CHANGING = "ResourceInUseException"  # of ListShards: the stream is being made or deleted
_translated = partial(translated, absent=NotFound)  # a stream may be deleted, and made anew, while it is read


class KinesisStream:
    """One stream of one creation."""

    def __init__(self, client: Any, name: str) -> None:
        self._kinesis, self._name = client, name
        self._epoch = self._created()

    def _created(self) -> str:
        return _epoch(_summary(self._kinesis, self._name))

    @property
    def name(self) -> str:
        """Return the stream's name."""
        return self._name

    @property
    def epoch(self) -> str:
        """Return the creation time in milliseconds: a recreated stream is another one."""
        return self._epoch

    def check_epoch(self) -> None:
        """Ask whether this is the stream still: calls know it by its name alone.

        Raises:
            NotFound: the stream was deleted, or deleted and made anew.
        """
        if self._created() != self._epoch:
            raise NotFound(f"stream {self._name} was made anew; start again to read the new one")

    def check(self) -> "KinesisCheck":
        """Return what says whether the name still stands for this stream, by the same client."""
        return KinesisCheck(self._kinesis, self._name, self._epoch)

    def shards(self) -> list[ShardInfo]:
        """Return all shards that still hold data, parents before children.

        Raises:
            NotFound: the stream was deleted, or deleted and made anew: its shards are other lineages now.
        """
        self.check_epoch()
        return _parents_first(_listed(self._kinesis, self._name))

    def reader(self, shard_id: str, after: Position | None) -> ShardReader:
        """Open a shard after a position, or at TRIM_HORIZON; see the port."""
        return _Reader(self, self._kinesis, shard_id, after)

    def retention_us(self) -> int:
        """Return for how long the stream keeps a record, as it is set now."""
        hours: int = _summary(self._kinesis, self._name)["RetentionPeriodHours"]
        return hours * HOUR_US


class _Reader:
    def __init__(self, stream: KinesisStream, client: Any, shard_id: str, after: Position | None) -> None:
        self._whole, self._kinesis, self._stream, self._shard_id = stream, client, stream.name, shard_id
        self._after = after.sequence_number if after else None
        self._iterator: str | None = None
        self._ended = self._trimmed = False
        self._limit = _FIRST_LIMIT

    def read(self) -> Batch:
        """Return the next records; an expired iterator is opened again where it stood."""
        if self._ended:
            return Batch([], 0, ended=True, trimmed=self._trimmed)
        try:
            with _translated(f"read {self._stream}/{self._shard_id}"):
                iterator = self._iterator or self._open()
                answer = self._kinesis.get_records(ShardIterator=iterator, Limit=self._limit)
        except ClientError as exc:
            return self._instead(exc)
        except NotFound:
            if any(one.shard_id == self._shard_id for one in self._whole.shards()):
                raise
            self._ended = self._trimmed = True  # the shard has expired, with all that was in it
            return Batch([], 0, ended=True, trimmed=True)
        records = [_record(one) for one in answer["Records"]]
        self._iterator = answer.get("NextShardIterator")
        self._ended = self._iterator is None
        if records:
            self._after = records[-1].sequence_number
            mean = sum(len(record.data) for record in records) / len(records)
            self._limit = max(1, min(_MAX_GET_RECORDS, int(_READ_BYTES / (mean + 64))))
        batch = Batch(records, int(answer.get("MillisBehindLatest", 0)), self._ended, self._trimmed)
        if records or not batch.behind_ms:
            self._trimmed = False
        return batch

    def _instead(self, exc: ClientError) -> Batch:
        """Return what is answered to an error after which reading goes on: an iterator or a position that is void."""
        code = error_code(exc)
        if code == _REFUSED and self._iterator is None and self._after is not None:
            self._after, self._trimmed = None, True
        elif code == _EXPIRED:
            self._iterator = None
        else:
            raise exc
        return Batch([], _BEHIND_MS, ended=False)

    def _open(self) -> str:
        where: dict[str, Any] = {"ShardIteratorType": "TRIM_HORIZON"}
        if self._after is not None:
            where = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": self._after}
        answer = self._kinesis.get_shard_iterator(StreamName=self._stream, ShardId=self._shard_id, **where)
        # Afterwards: if the stream is the same still, the iterator is of it. Or else another stream's records would be read
        # as this one's, and by whoever loads that stream a second time.
        self._whole.check_epoch()
        return str(answer["ShardIterator"])


class KinesisSink:
    """Where producers put records. Its client must not retry by itself: see the port."""

    def __init__(self, client: Any, stream: str) -> None:
        self._kinesis, self._stream = client, stream

    def put(self, records: Sequence[OutgoingRecord]) -> list[PutAnswer]:
        """Put records; one answer per record, in order."""
        entries = [
            {"Data": one.data, "PartitionKey": one.partition_key, "ExplicitHashKey": one.explicit_hash_key}
            for one in records
        ]
        with _translated(f"put to {self._stream}"):
            answer = self._kinesis.put_records(StreamName=self._stream, Records=entries)
        return [
            PutAnswer(one.get("ShardId", ""), one.get("SequenceNumber", ""), one.get("ErrorCode", ""))
            for one in answer["Records"]
        ]


class KinesisCheck:
    """Whether a name still stands for the stream of one creation."""

    def __init__(self, client: Any, stream: str, epoch: str) -> None:
        self._kinesis, self._stream, self._epoch = client, stream, epoch

    def successor(self) -> Successor | None:
        """Return the stream that is in the old one's place now; see the port."""
        try:
            summary = _summary(self._kinesis, self._stream)
        except NotFound:  # nobody can put to it: whoever does hears it
            return None
        epoch = _epoch(summary)
        if epoch == self._epoch:
            return None
        # While it is made it takes no records.
        return Successor(epoch, {} if summary["StreamStatus"] == "CREATING" else self._starts())

    def _starts(self) -> dict[str, int] | None:
        try:
            shards = _listed(self._kinesis, self._stream)
        except (NotFound, StoreUnusable):  # gone as well, or closed to this role
            return None
        except ClientError as exc:
            if error_code(exc) != _CHANGING:
                raise
            return None
        return {one["ShardId"]: int(one["SequenceNumberRange"]["StartingSequenceNumber"]) for one in shards}


def create_stream(client: Any, name: str, shards: int, retention_hours: int) -> None:
    """Create a stream if it is missing, and wait until it is active."""
    try:
        KinesisStream(client, name)
    except NotFound:
        with _translated(f"create stream {name}"):
            client.create_stream(StreamName=name, ShardCount=shards)
            client.get_waiter("stream_exists").wait(
                StreamName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
            )
            if retention_hours > NEW_STREAM_HOURS:
                client.increase_stream_retention_period(StreamName=name, RetentionPeriodHours=retention_hours)


def _summary(client: Any, name: str) -> dict[str, Any]:
    with _translated(f"stream {name}"):
        found: dict[str, Any] = client.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
    return found


def _epoch(summary: dict[str, Any]) -> str:
    created: datetime = summary["StreamCreationTimestamp"]
    return str(round(created.timestamp() * 1000))


def _listed(client: Any, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    ask: dict[str, Any] = {"StreamName": name}
    with _translated(f"list shards of {name}"):
        while True:
            page = client.list_shards(**ask)
            found += page["Shards"]
            if not page.get("NextToken"):
                return found
            ask = {"NextToken": page["NextToken"]}


def _parents_first(shards: Sequence[dict[str, Any]]) -> list[ShardInfo]:
    """Return shards by generation, then by starting sequence number; parents are named also when they are gone.

    Sequence numbers alone do not tell: a shard that is split within the second of its own birth may have the number of
    its children.
    """
    infos: dict[str, ShardInfo] = {}
    for shard in sorted(shards, key=lambda one: int(one["SequenceNumberRange"]["StartingSequenceNumber"])):
        parents = (shard.get("ParentShardId"), shard.get("AdjacentParentShardId"))
        infos[shard["ShardId"]] = ShardInfo(shard["ShardId"], tuple(str(one) for one in parents if one))
    order = TopologicalSorter({name: set(info.parents) & infos.keys() for name, info in infos.items()})
    return [infos[name] for name in order.static_order()]


def _record(found: dict[str, Any]) -> Record:
    arrived: datetime = found["ApproximateArrivalTimestamp"]
    return Record(
        sequence_number=found["SequenceNumber"],
        partition_key=found["PartitionKey"],
        data=found["Data"],
        arrived_us=round(arrived.timestamp() * 1_000_000),
    )
