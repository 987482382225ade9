"""Ports that keep nothing, so that a bench measures the loader alone."""

from collections.abc import Iterator, Sequence

from pipeline.core.aggregate import Aggregate, AggregateKey
from pipeline.core.errors import NotFound
from pipeline.core.gap import Reading
from pipeline.core.index import IndexItem
from pipeline.core.manifest import DataFile
from pipeline.core.segment import Lineage, Position, SealState, Segment, redrive_lineage
from pipeline.ports.ledger import Opening, PlanAnswer
from pipeline.ports.objects import ObjectInfo, Tail


class NullObjects:
    """Takes every object."""

    def put_if_absent(self, key: str, body: bytes | memoryview, digest: str) -> str | None:
        del key, body, digest
        return None

    def get(self, key: str) -> bytes:
        raise NotFound(key)

    def tail(self, key: str, length: int) -> Tail:
        del length
        raise NotFound(key)

    def part(self, key: str, start: int, length: int) -> bytes:
        del start, length
        raise NotFound(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        del prefix
        return iter(())


class NullManifest:
    """Takes every entry."""

    def put_all(self, entries: Sequence[DataFile]) -> None:
        del entries

    def partitions(self) -> list[str]:
        return []

    def files(self, *partitions: str) -> list[DataFile]:
        del partitions
        return []

    def of_segment(self, lineage: str, ordinal: int) -> list[DataFile]:
        del lineage, ordinal
        return []

    def all_files(self) -> list[DataFile]:
        return []


class NullIndex:
    """Takes every item."""

    def put_all(self, items: Sequence[IndexItem]) -> None:
        del items

    def find(self, partitions: Sequence[str], first_dt: str, last_dt: str) -> list[IndexItem]:
        del partitions, first_dt, last_dt
        return []

    def all_items(self) -> Iterator[IndexItem]:
        return iter(())


class NullAggregates:
    """Takes every item."""

    def read(self, keys: Sequence[AggregateKey]) -> dict[AggregateKey, Aggregate]:
        del keys
        return {}

    def put_newer(self, items: Sequence[Aggregate]) -> None:
        del items

    def find(self, partition: str, first_dt: str, last_dt: str) -> list[Aggregate]:
        del partition, first_dt, last_dt
        return []

    def all_items(self) -> Iterator[Aggregate]:
        return iter(())


class NullLedger:
    """Accepts every plan."""

    def register(self, stream: str, epoch: str, shard_id: str, parents: tuple[str, ...]) -> Lineage:
        return Lineage(f"{stream}-{epoch}-{shard_id}", "0001", stream, shard_id, parents)

    def register_redrive(self, source: Lineage) -> Lineage:
        return redrive_lineage(source, "0002")

    def lineages(self) -> list[Lineage]:
        return []

    def open(self, lineage: str) -> Opening:
        del lineage
        return Opening(None, SealState())

    def seal_state(self) -> SealState:
        return SealState()

    def plan(self, segment: Segment) -> PlanAnswer:
        del segment
        return PlanAnswer.HOLDS

    def commit(self, segment: Segment) -> bool:
        return segment is not None

    def segments(self, lineage: str) -> list[Segment]:
        del lineage
        return []

    def segment(self, lineage: str, ordinal: int) -> Segment | None:
        del lineage, ordinal
        return None

    def started(self, lineage: str, at: Position | None, now_us: int, start: str) -> Reading:
        del lineage, at, start
        return Reading(begun_us=now_us, starts=1)

    def stopped(self, lineage: str) -> None:
        del lineage

    def reading(self, lineage: str) -> Reading:
        del lineage
        return Reading()

    def note_read(self, lineage: str, until_us: int) -> None:
        del lineage, until_us

    def recent(self, lineage: str, since_us: int) -> list[Segment]:
        del lineage, since_us
        return []
