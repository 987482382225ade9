"""A stream that is split and merged while a producer writes: kinesis-local reshards as AWS does, ministack keeps the rest."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline import wiring
from pipeline.aws.client import make_client
from pipeline.aws.meter import Meter
from pipeline.core.segment import Lineage, Segment
from pipeline.machine.processes import wait_until
from pipeline.sending import Producer
from tests.aws.backends import ministack
from tests.core.kit import event, wire
from tests.e2e.yard import PATIENCE, Worker, Yard, assert_nothing_lost_or_doubled
from tests.faults.proxy import FaultProxy, fault_proxy
from tests.servers import kinesis_local
from tests.servers.install import NotHere

pytestmark = [pytest.mark.stack, pytest.mark.slow]
BATCH = 20


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[FaultProxy]:
    """A proxy that sends Kinesis' calls to kinesis-local and all others to ministack."""
    try:
        with (
            kinesis_local.running(tmp_path / "kinesis.log") as kinesis,
            ministack(tmp_path / "stack") as rest,
            fault_proxy(rest, routes={"kinesis": kinesis}) as found,
        ):
            yield found
    except NotHere as why:
        pytest.skip(f"no resharding without kinesis-local: {why}")


class Resharding:
    """A stream that is resharded, and who reads and writes it."""

    def __init__(self, yard: Yard) -> None:
        self._yard, self._stream = yard, yard.settings.stream.name
        self._kinesis: Any = make_client("kinesis", wiring.connection(yard.settings), Meter())
        self.producer: Producer = yard.producer()
        self._numbers = itertools.count()
        self.copies = 0

    def write(self) -> None:
        """Put some events of all entities."""
        for _ in range(2):
            self._yard.put(self.producer, itertools.islice(self._numbers, BATCH))

    def repeat(self, *numbers: int) -> None:
        """Put events again that were put before."""
        for number in numbers:
            entity, dt = self._yard.produced.ids[f"e{number}"]
            again = event(
                event_id=f"e{number}", entity_id=entity, event_time=f"{dt}T11:00:00Z", data={"n": number}
            )
            self.producer.put("acme", entity, wire(again))
            self.copies += 1
        self.producer.flush()

    def open_shards(self) -> list[dict[str, Any]]:
        """Return the shards that take records, by hash key."""
        shards: list[dict[str, Any]] = self._kinesis.list_shards(StreamName=self._stream)["Shards"]
        left = [one for one in shards if "EndingSequenceNumber" not in one["SequenceNumberRange"]]
        return sorted(left, key=lambda one: int(one["HashKeyRange"]["StartingHashKey"]))

    def split(self, shard: dict[str, Any]) -> None:
        """Split a shard in the middle of its keys."""
        keys = shard["HashKeyRange"]
        middle = (int(keys["StartingHashKey"]) + int(keys["EndingHashKey"])) // 2
        self._kinesis.split_shard(
            StreamName=self._stream, ShardToSplit=shard["ShardId"], NewStartingHashKey=str(middle)
        )
        self._active()

    def merge(self, one: dict[str, Any], other: dict[str, Any]) -> None:
        """Merge two neighbours."""
        self._kinesis.merge_shards(
            StreamName=self._stream, ShardToMerge=one["ShardId"], AdjacentShardToMerge=other["ShardId"]
        )
        self._active()

    def _active(self) -> None:
        def active() -> bool:
            found = self._kinesis.describe_stream_summary(StreamName=self._stream)
            return bool(found["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE")

        assert wait_until(active, PATIENCE)


def test_a_stream_is_split_and_merged(tmp_path: Path, proxy: FaultProxy) -> None:
    """To grandchildren and back, the reader killed in between: rows exact, parents first, copies flagged, no gap."""
    yard = Yard(tmp_path, proxy, shards=1, HEADRACE_STREAM__SLOTS="8")
    wiring.provision(yard.settings)
    stream = Resharding(yard)
    reader = Worker("reader", ("consumers.reader",), yard)
    stream.write()
    reader.begin()
    yard.wait_committed()

    [root] = stream.open_shards()
    stream.split(root)
    stream.write()
    low, high = stream.open_shards()
    stream.split(low)
    stream.write()
    stream.repeat(
        0, 1, 2, 41, 42
    )  # first seen in the root or in a child, now put to children and grandchildren
    lowest, lower, _ = stream.open_shards()
    reader.kill()
    reader.begin()
    stream.merge(lowest, lower)
    stream.write()
    stream.repeat(3, 4, 81, 82)
    [merged, _] = stream.open_shards()
    stream.merge(merged, high)
    stream.write()
    stream.repeat(5, 83, 121)
    stream.producer.close()

    yard.wait_committed(stream.copies)
    assert reader.end() == 0
    assert_nothing_lost_or_doubled(yard, copies=True)
    _assert_parents_first(reader, yard)
    _assert_lineages(yard, generations=5, shards=7)
    flagged = sum(one.counts.duplicates for one in yard.segments())
    assert flagged == stream.copies


def _assert_lineages(yard: Yard, *, generations: int, shards: int) -> None:
    """Every shard has segments without a gap, and nothing of it was decided before its parents had ended."""
    lineages: dict[str, Lineage] = {one.short: one for one in yard.stores.ledger.lineages()}
    segments: dict[str, list[Segment]] = {name: yard.stores.ledger.segments(name) for name in lineages}
    assert len(lineages) == shards
    assert max(_depth(name, lineages) for name in lineages) == generations
    for name, found in segments.items():
        assert [one.ordinal for one in found] == list(range(1, len(found) + 1))
        assert {one.state for one in found} == {"committed"}
        assert all(after.start == before.end for before, after in itertools.pairwise(found))
        for parent in lineages[name].parents:
            assert segments[parent][-1].shard_end
    assert sum(one[-1].shard_end for one in segments.values()) == shards - 1  # the last one is open


def _assert_parents_first(reader: Worker, yard: Yard) -> None:
    """No shard was opened before its parents had ended, over all lives of the reader."""
    parents = {one.short: one.parents for one in yard.stores.ledger.lineages()}
    ended: set[str] = set()
    opened: set[str] = set()
    for line in map(orjson.loads, reader.log.read_bytes().splitlines()):
        if line["fact"] == "ShardEnded":
            ended.add(line["lineage"])
        elif line["fact"] == "LoaderOpened":
            assert set(parents[line["lineage"]]) <= ended
            opened.add(line["lineage"])
    assert opened == set(parents)


def _depth(name: str, lineages: dict[str, Lineage]) -> int:
    return 1 + max((_depth(parent, lineages) for parent in lineages[name].parents), default=0)
