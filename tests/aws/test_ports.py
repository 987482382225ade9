"""Behaviour of the ports `Objects`, `Manifest` and `Receipts`, the same in every world."""

from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from pipeline.core.errors import NotFound
from pipeline.core.manifest import DataFile, TenantRows
from pipeline.core.receipt import AckedBatch, Receipt
from pipeline.core.staging import digest_of
from pipeline.ports.objects import Tail
from tests.aws.backends import World

TENANTS = (TenantRows("acme", 0, 2, 1), TenantRows("globex", 2, 1, 0))
FILE = DataFile("door#2024-03-10", "open#0001#000000000001", "events/x.parquet", 3, 1, 999, -5, 7, TENANTS)
RECEIPT = Receipt("abcd", 0, "events", "7", 5, 9, (AckedBatch(1, 0, 5, "shardId-000000000001", "4" * 56),))


# Objects -------------------------------------------------------------------------------------------------


def test_an_object_is_written_once(place: World) -> None:
    """The first put writes; every later one writes nothing and is told the digest that is there."""
    objects = place.objects()
    assert objects.put_if_absent("a/b", b"first", "d1") is None
    assert objects.put_if_absent("a/b", b"first", "d1") == "d1"
    assert objects.put_if_absent("a/b", b"second", "d2") == "d1"
    assert objects.get("a/b") == b"first"


@pytest.mark.parametrize(
    "body", [b"", b"\x00\xff" * 10, memoryview(b"..view..")[2:-2], b"x" * 6_000_000], ids=len
)
def test_bodies(place: World, body: bytes | memoryview) -> None:
    """Any bytes come back, also nothing, a view into something, and several megabytes."""
    objects = place.objects()
    assert objects.put_if_absent("key", body, digest_of(body)) is None
    assert objects.get("key") == bytes(body)
    assert [one.size for one in objects.list("")] == [len(body)]


def test_parts_of_an_object(place: World) -> None:
    """The end and any part are read alone, and are cut where the object ends."""
    objects = place.objects()
    objects.put_if_absent("key", b"0123456789", "d")
    assert objects.tail("key", 3) == Tail(b"789", 10)
    assert objects.tail("key", 99) == Tail(b"0123456789", 10)
    assert objects.part("key", 2, 3) == b"234"
    assert objects.part("key", 8, 9) == b"89"
    objects.put_if_absent("empty", b"", "d")
    assert objects.tail("empty", 3) == Tail(b"", 0)
    for read in (lambda: objects.tail("gone", 1), lambda: objects.part("gone", 0, 1)):
        with pytest.raises(NotFound, match="gone"):
            read()


def test_a_missing_object(place: World) -> None:
    """Reading what is not there is NotFound, not an empty answer."""
    with pytest.raises(NotFound, match="gone"):
        place.objects().get("events/gone")


def test_an_object_of_somebody_else(place: World) -> None:
    """Without a digest of ours an object answers with an empty one, which equals no digest."""
    objects = place.objects()
    objects.put_if_absent("k", b"x", "")
    assert objects.put_if_absent("k", b"x", digest_of(b"x")) == ""


def test_a_listing_is_in_key_order_under_its_prefix(place: World) -> None:
    """Everything under a prefix, ordered by key as bytes, nothing else; an empty prefix lists all."""
    objects = place.objects()
    keys = [
        "events/event_type=b/dt=2024-03-10/0001-000000000001.parquet",
        "events/event_type=a/dt=2024-03-10/x",
        "eventsx",
        "e",
    ]
    for key in keys:
        objects.put_if_absent(key, key.encode(), "d")
    assert [one.key for one in objects.list("events/")] == [keys[1], keys[0]]
    assert [(one.key, one.size) for one in objects.list("")] == [(key, len(key)) for key in sorted(keys)]
    assert list(objects.list("nothing/")) == []


def test_a_listing_has_no_end_at_a_thousand(place: World) -> None:
    """More objects than S3 names in one page are all listed."""
    objects = place.objects()
    keys = [f"k{number:04d}" for number in range(1_003)]
    with ThreadPoolExecutor(4 if place.name == "ministack" else 1) as pool:  # moto's patches know one thread
        list(pool.map(lambda key: objects.put_if_absent(key, b"", "d"), keys))
    assert [one.key for one in objects.list("k")] == keys


def test_an_etag_changes_with_the_bytes(place: World) -> None:
    """The listing's checksum tells different bytes of one size apart, and has no quotes."""
    objects = place.objects()
    objects.put_if_absent("a", b"1", digest_of(b"1"))
    objects.put_if_absent("b", b"2", digest_of(b"2"))
    first, second = objects.list("")
    assert first.etag != second.etag
    assert '"' not in first.etag


def test_one_of_many_writers_wins(place: World) -> None:
    """Of writers that put one key at the same time exactly one writes; all others see its digest."""
    if place.name == "moto":
        pytest.skip("moto's patches know one thread")
    objects = place.objects()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: objects.put_if_absent("k", b"%d" % n, f"d{n}"), range(8)))
    assert answers.count(None) == 1
    assert set(answers) == {None, f"d{answers.index(None)}"}
    assert objects.get("k") == b"%d" % answers.index(None)


# Manifest ------------------------------------------------------------------------------------------------


def _file(partition: str, ordinal: int, rows: int = 1) -> DataFile:
    return msgspec.structs.replace(FILE, partition=partition, name=f"open#0001#{ordinal:012d}", rows=rows)


def test_entries_are_found_by_partition(place: World) -> None:
    """Files of a partition come by name, partitions once each and sorted, all files by both."""
    manifest = place.manifest()
    entries = [
        _file("door#2024-03-11", 3),
        _file("door#2024-03-10", 12),
        _file("door#2024-03-10", 2),
        _file("bell#2024-03-10", 1),
    ]
    manifest.put_all(entries)
    assert manifest.partitions() == ["bell#2024-03-10", "door#2024-03-10", "door#2024-03-11"]
    assert manifest.files("door#2024-03-10") == [entries[2], entries[1]]
    assert manifest.files("door#1999-01-01") == []
    assert manifest.all_files() == [entries[3], entries[2], entries[1], entries[0]]


def test_an_empty_manifest(place: World) -> None:
    """Nothing there, and nothing to write: no error."""
    manifest = place.manifest()
    manifest.put_all([])
    assert (manifest.partitions(), manifest.all_files(), manifest.files("door#2024-03-10")) == ([], [], [])


def test_entries_may_be_written_again(place: World) -> None:
    """A repeated write changes nothing, also by another process that has never seen the partition."""
    manifest = place.manifest()
    for _ in range(2):
        manifest.put_all([FILE])
    assert manifest.all_files() == [FILE]
    assert manifest.partitions() == [FILE.partition]


def test_many_entries_in_one_write(place: World) -> None:
    """More entries than one BatchWriteItem takes are all written."""
    manifest = place.manifest()
    entries = [_file(f"door#2024-03-{day:02d}", ordinal) for day in range(1, 31) for ordinal in range(1, 4)]
    manifest.put_all(entries)
    assert manifest.all_files() == entries
    assert len(manifest.partitions()) == 30


@pytest.mark.parametrize("asked", [0, 1, 12, 60], ids="{} partitions".format)
def test_files_of_several_partitions(place: World, asked: int) -> None:
    """However many are asked for: the files of these, by partition and name, each once; those without any do no harm."""
    manifest = place.manifest()
    days = [f"door#2024-{month:02d}-{day:02d}" for month in (1, 2) for day in range(1, 31)]
    entries = [_file(day, ordinal) for day in days for ordinal in (1, 2)]
    manifest.put_all(entries)
    wanted = days[60 - asked :]
    assert manifest.files(*reversed(wanted), *wanted[:1], "door#1999-01-01") == entries[120 - 2 * asked :]


def test_the_files_of_one_segment(place: World) -> None:
    """A segment's files of all types, days and tiers, its quarantine too; none of a neighbour whose name is alike."""
    manifest = place.manifest()
    wanted = [
        msgspec.structs.replace(FILE, partition=partition, name=f"{tier}#0001#000000000012")
        for partition, tier in (
            ("_quarantine#2024-03-10", "quarantine"),
            ("bell#2024-03-10", "open"),
            ("door#2024-03-10", "late"),
            ("door#2024-03-10", "open"),
        )
    ]
    others = [
        _file("door#2024-03-10", 2),
        msgspec.structs.replace(FILE, name="open#0002#000000000012"),
        *(_file(f"door#2023-{month:02d}-{day:02d}", 1) for month in (1, 2) for day in range(1, 29)),
    ]
    manifest.put_all([*wanted, *others])
    assert manifest.of_segment("0001", 12) == wanted
    assert manifest.of_segment("0003", 12) == []


# Receipts ------------------------------------------------------------------------------------------------


def test_receipts_by_producer_and_number(place: World) -> None:
    """Receipts come by producer, then by number as a number; repeating one changes nothing."""
    receipts = place.receipts()
    found = [
        msgspec.structs.replace(RECEIPT, producer=name, number=number)
        for name in ("aaaa", "bbbb")
        for number in (2, 10)
    ]
    for one in [*reversed(found), found[0]]:
        receipts.put(one)
    assert list(receipts.all()) == found
    assert list(receipts.of("bbbb")) == found[2:]
    assert list(receipts.of("bbb")) == []


def test_a_full_receipt(place: World) -> None:
    """A receipt of two thousand batches fits into an item and comes back whole."""
    receipts = place.receipts()
    batches = tuple(
        AckedBatch(n % 64, n, 2_000, "shardId-000000000001", str(10**55 + n * 7919)) for n in range(2_000)
    )
    full = msgspec.structs.replace(RECEIPT, batches=batches, closed=True)
    receipts.put(full)
    assert list(receipts.all()) == [full]
    assert list(place.receipts().all()) == []
