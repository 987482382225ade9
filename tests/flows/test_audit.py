"""The audit: a balanced archive stays balanced, and planted damage is named."""

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from pipeline.core.decode import Decoded, Decoder
from pipeline.core.encode import write_parquet
from pipeline.core.errors import NotFound
from pipeline.core.segment import Lineage, Position, Segment
from pipeline.flows.load import Loader
from tests.core.kit import event, wire
from tests.fakes.objects import MemoryObjects
from tests.flows.deployment import Deployment


def _loaded(count: int = 60, shards: int = 1) -> Deployment:
    house = Deployment(shards=shards)
    house.produce(count)
    house.load()
    return house


def test_a_whole_archive_balances() -> None:
    """Accepted, duplicate and refused events of two producers over two shards add up, per shard and day."""
    house = Deployment(shards=2)
    house.produce(40, "prod1")
    producer = house.producer("prod2")
    for number in range(10):
        producer.put("acme", "door-1", wire(event(event_id=f"e{number}", entity_id="door-1")))
        producer.put("acme", "door-2", b"rubbish")
    producer.close()
    house.load()
    report = house.audit()
    assert report.balanced, report.differences
    total = report.total()
    assert (total.received, total.quarantined) == (60, 10)
    assert total.archived + total.duplicates == 50
    assert total.duplicates >= 2  # those of entity door-1, which the other producer sent too
    assert {day for _, day in report.lines} == {"2024-03-10"}
    assert all(line.difference == 0 for line in report.lines.values())
    assert (report.unreceipted, report.in_flight, report.sent_twice) == (0, 0, 0)


def test_an_empty_deployment_balances() -> None:
    """Nothing is nothing."""
    report = Deployment().audit()
    assert report.balanced
    assert report.total().received == 0


def _delete_file(house: Deployment) -> None:
    del house.objects.stored[house.data_key()]


def _stray_file(house: Deployment) -> None:
    key = house.data_key()
    house.put_object(key.replace("0001-", "0001-9"), house.objects.get(key))


def _stray_file_of_the_next_segment(house: Deployment) -> None:
    key, newest = house.data_key(), max(ordinal for _, ordinal in house.ledger.rows)
    house.put_object(key.replace("000000000001", f"{newest + 1:012d}"), house.objects.get(key))


def _garbled_file(house: Deployment) -> None:
    key = house.data_key()
    house.put_object(key, b"\0" * len(house.objects.get(key)))


def _grown_file(house: Deployment) -> None:
    house.put_object(house.data_key(), _rewritten(house, lambda table: table, codec="none"))


def _row_lost(house: Deployment) -> None:
    house.put_object(house.data_key(), _rewritten(house, lambda table: table.slice(1)))


def _row_repeated(house: Deployment) -> None:
    """Put a row in the place of its neighbour of the same record: every count stays what it was."""

    def change(table: Any) -> Any:
        numbers = table["sequence_number"].to_pylist()
        second = next(at for at in range(1, len(numbers)) if numbers[at] == numbers[at - 1])
        return table.take([second if at == second - 1 else at for at in range(len(numbers))])

    house.put_object(house.data_key(), _rewritten(house, change))


def _rewritten(house: Deployment, change: Callable[[Any], Any], codec: str = "zstd") -> bytes:
    table = change(pq.read_table(io.BytesIO(house.objects.get(house.data_key()))))
    if codec == "zstd":
        return write_parquet(table, {})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression=codec)
    return buffer.getvalue()


def _segment_forgotten(house: Deployment) -> None:
    del house.ledger.rows["0001", max(ordinal for _, ordinal in house.ledger.rows)]


def _change_ids(house: Deployment) -> None:
    key = house.data_key("ids/")
    house.put_object(key, house.objects.stored[key].body[:-16])


def _flip_a_byte(house: Deployment) -> None:
    key = house.data_key()
    body = bytearray(house.objects.stored[key].body)
    at = bytes(body).rfind(b"parquet-cpp")
    body[at] ^= (
        1  # the writer's name in the footer: readable as before, of equal size, and not what was written
    )
    house.put_object(key, bytes(body))


def _entry_moved(house: Deployment) -> None:
    key = min(house.manifest.entries)
    entry = house.manifest.entries.pop(key)
    moved = msgspec.structs.replace(entry, partition="door#1999-01-01")
    house.manifest.entries[moved.partition, moved.name] = moved


def _entry_doubled(house: Deployment) -> None:
    entry = house.manifest.entries[min(house.manifest.entries)]
    again = msgspec.structs.replace(entry, name=entry.name.replace("#0001#", "#0009#"))
    house.manifest.entries[again.partition, again.name] = again


def _gap(segment: Segment) -> Segment:
    return replace(segment, start=Position("1", 0))


DAMAGE: dict[str, tuple[Callable[[Deployment], Any], list[str]]] = {
    "deleted file": (_delete_file, ["batch_differs", "batch_lost", "file_missing", "segment_altered"]),
    "stray file": (_stray_file, ["batch_differs", "file_stray", "row_repeated", "segment_unknown"]),
    "stray file, next ordinal": (
        _stray_file_of_the_next_segment,
        ["batch_differs", "file_stray", "row_repeated", "segment_unknown"],
    ),
    "garbled file": (_garbled_file, ["batch_differs", "batch_lost", "file_unreadable", "segment_altered"]),
    "rewritten file": (_grown_file, ["file_altered", "segment_altered"]),
    "row lost in a file": (_row_lost, ["batch_differs", "count_altered", "segment_altered"]),
    "row repeated": (_row_repeated, ["file_altered", "row_repeated", "segment_altered"]),
    "manifest: rows": (lambda house: house.alter_entry(rows=1), ["count_altered"]),
    "manifest: duplicates": (lambda house: house.alter_entry(duplicates=1), ["count_altered"]),
    "manifest: bytes": (lambda house: house.alter_entry(bytes=1), ["file_altered"]),
    "ledger: rows": (lambda house: house.alter_counts(2, rows=1), ["ids_altered", "segment_altered"]),
    "ledger: duplicates": (lambda house: house.alter_counts(2, duplicates=1), ["segment_altered"]),
    "ledger: quarantined": (lambda house: house.alter_counts(2, quarantined=1), ["segment_altered"]),
    "ledger: units": (lambda house: house.alter_counts(2, units=1), ["segment_altered"]),
    "ledger: files": (lambda house: house.alter_counts(2, files=1), ["segment_altered"]),
    "file of equal size": (_flip_a_byte, ["file_altered"]),
    "manifest: moved": (_entry_moved, ["manifest_misplaced"]),
    "manifest: doubled": (_entry_doubled, ["manifest_misplaced", "manifest_doubled"]),
    "ids cut": (_change_ids, ["ids_altered"]),
    "ids deleted": (lambda house: house.objects.stored.pop(house.data_key("ids/")), ["ids_altered"]),
    "ledger: start": (lambda house: house.alter_segment(2, _gap), ["ledger_broken"]),
    "ledger: row deleted": (
        lambda house: house.ledger.rows.pop(("0001", 2)),
        ["ledger_broken", "segment_unknown"],
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named(name: str) -> None:
    """One planted fault gives exactly the differences of its kind, and the audit does not balance."""
    house = _loaded()
    assert house.audit().balanced, house.audit().differences
    plant, kinds = DAMAGE[name]
    plant(house)
    assert set(house.kinds()) <= set(kinds)
    assert house.kinds()
    named = {
        "deleted file": "file_missing",
        "stray file": "file_stray",
        "stray file, next ordinal": "file_stray",
        "row repeated": "row_repeated",
    }
    assert named.get(name, kinds[-1]) in house.kinds()
    assert not house.audit().balanced


def test_a_missing_receipt_is_named() -> None:
    """A hole in a producer's receipts is seen, and its batches count as unreceipted, not as lost."""
    house = Deployment()
    producer = house.producer()
    for number in range(3):
        producer.put("acme", "door-1", wire(event(event_id=f"e{number}")))
        house.clock.advance(60)
        producer.flush()
    producer.close()
    house.load()
    assert house.audit().balanced
    del house.receipts.stored["prod1", 1]
    report = house.audit()
    assert sorted(one.kind for one in report.differences) == ["batch_unacknowledged", "receipt_missing"]
    assert report.unreceipted == 1


def test_what_is_not_loaded_yet_is_on_its_way() -> None:
    """Events beyond the last committed segment are in flight: no difference, and not balanced either."""
    house = _loaded()
    house.produce(5, "prod2", first=100)
    report = house.audit()
    assert (report.differences, report.in_flight, report.balanced) == ([], 5, False)
    assert report.in_flight_since_us == house.receipts.stored["prod2", 0].acked_from_us
    house.load()
    assert house.audit().balanced


def test_a_lost_batch_is_named() -> None:
    """A loader that loses a whole Kinesis record is found out by the receipt alone: its own books agree."""
    house = Deployment()
    house.produce(60)
    lost = house.stream.by_id["shardId-000000000000"].records[3]
    house.load(only=lambda record: record is not lost)
    found = house.audit().differences
    assert [(one.kind, one.subject) for one in found] == [
        ("batch_lost", f"shardId-000000000000/{lost.sequence_number}")
    ]


class _Leaky(Decoder):
    """Drops every thousandth row without a word."""

    seen = 0

    def decode(self, records: Any, first_index: int, into: Decoded) -> int:
        """Decode, and lose."""
        found = Decoded()
        units = super().decode(records, first_index, found)
        for row in found.rows:
            self.seen += 1
            if self.seen % 1_000:
                into.rows.append(row)
            else:
                units -= 1
        into.refusals += found.refusals
        return units


class _WithLeak(Deployment):
    """Its loaders have a leaky decoder."""

    def loader(self, lineage: Lineage) -> Loader:
        """Return a new loader."""
        loader = super().loader(lineage)
        loader._decoder = _Leaky(self.rules)
        loader._clear()
        return loader


def test_a_decoder_that_drops_every_thousandth_event() -> None:
    """Two events lost out of 2,500 are two batches that differ, though loader and ledger count alike."""
    house = _WithLeak(max_rows=500)
    house.produce(2_500)
    house.load()
    report = house.audit()
    assert [one.kind for one in report.differences] == ["batch_differs"] * 2
    assert report.total().difference == 2


def test_a_batch_sent_twice_is_no_difference() -> None:
    """A batch stored twice after a lost response: its copies are duplicates, received counts them, and it is told."""
    house = Deployment()
    house.produce(5)
    [first, *_] = house.stream.by_id["shardId-000000000000"].records
    house.stream.append("shardId-000000000000", first.data, first.partition_key)
    house.load()
    report = house.audit()
    assert report.balanced, report.differences
    assert report.sent_twice == 1
    assert report.total().duplicates == report.unreceipted > 0


def test_plain_producers_balance() -> None:
    """Records without a receipt are received as decoded units; one that cannot be decoded is one unit."""
    house = Deployment()
    for data in (wire(event(event_id="plain")), b"rubbish"):
        house.stream.append("shardId-000000000000", data, "key")
    house.load()
    report = house.audit()
    assert report.balanced
    assert (report.total().received, report.total().quarantined) == (2, 1)
    assert (report.plain, report.unreceipted) == (2, 0)


def test_loading_while_the_audit_runs() -> None:
    """Several segments decided, written and committed after the ledger was read are on their way, not differences."""
    house = _loaded()
    house.produce(50, "prod2", first=100)
    house.on_list = house.load
    report = house.audit()
    assert report.differences == []
    assert report.in_flight == 50
    house.on_list = lambda: None
    assert house.audit().balanced


def test_a_shard_that_appears_while_the_audit_runs() -> None:
    """A lineage registered after the ledger was read is on its way as well."""
    house = _loaded()

    def arrive() -> None:
        house.on_list = lambda: None
        house.stream.split("shardId-000000000000")
        house.produce(20, "prod2", first=100)
        house.load()

    house.on_list = arrive
    assert house.audit().differences == []
    assert house.audit().balanced


@pytest.mark.parametrize("stop_after", ["objects", "manifest"])
def test_a_planned_segment_is_on_its_way(stop_after: str) -> None:
    """Files of a segment that is planned and not yet committed are no difference, however many are written."""
    house = _loaded(20)
    house.produce(10, "prod2", first=100)
    house.load()
    key = max(house.ledger.rows)
    house.ledger.rows[key] = replace(house.ledger.rows[key], state="planned")
    if stop_after == "objects":
        house.manifest.entries = {
            name: one for name, one in house.manifest.entries.items() if f"{key[1]:012d}" not in one.key
        }
    report = house.audit()
    assert report.differences == []
    assert report.in_flight > 0


class _Vanishing(MemoryObjects):
    """An object that is gone as soon as somebody reads it."""

    gone = ""

    def get(self, key: str) -> bytes:
        """Read an object."""
        if key == self.gone:
            raise NotFound(key)
        return super().get(key)


def test_a_file_that_vanishes_while_it_is_read_is_named() -> None:
    """Listed and gone when it is fetched: unreadable, not a crash."""
    house = Deployment()
    house.objects = store = _Vanishing()
    house.produce(10)
    house.load()
    store.gone = house.data_key()
    assert "file_unreadable" in house.kinds()
