"""Copies of objects on disk: fetched once, whole or not at all, bounded."""

import os
from pathlib import Path

import msgspec
import pytest

from pipeline.core.errors import ConfigProblem, Corrupt
from pipeline.core.keys import staging_key
from pipeline.core.manifest import DataFile
from pipeline.core.staging import Effects, StagedObject, digest_of, stage
from pipeline.machine.object_cache import FETCH_THREADS, IN_USE_SECONDS, ObjectCache
from pipeline.ports.objects import ObjectInfo
from tests.fakes.files import Archive, CountingObjects
from tests.fakes.objects import Stored

START = 1_000_000.0


def stored(objects: CountingObjects, name: str, size: int = 100) -> DataFile:
    key = f"events/event_type=a/dt=2024-01-01/{name}-000000000001.parquet"
    objects.put_if_absent(key, name.encode()[:1] * size, "")
    return DataFile("a#2024-01-01", f"open#{name}", key, 1, 0, size, 0, 0, ())


def test_a_copy_lies_under_its_key_and_is_fetched_once(tmp_path: Path) -> None:
    """Twice asked, once fetched, by as many caches as share the directory."""
    objects = CountingObjects()
    files = [stored(objects, f"{number}") for number in range(3 * FETCH_THREADS)]
    for _ in range(2):
        paths = ObjectCache(objects, tmp_path).fetch(files)
    assert sorted(objects.gets) == sorted(file.key for file in files)
    assert paths[files[0].key] == tmp_path / files[0].key
    assert paths[files[0].key].read_bytes() == b"0" * 100


def test_a_copy_of_another_size_is_fetched_again(tmp_path: Path) -> None:
    """A torn or foreign file under the same key is not served."""
    objects = CountingObjects()
    file = stored(objects, "x")
    path = ObjectCache(objects, tmp_path).fetch([file])[file.key]
    path.write_bytes(b"torn")
    ObjectCache(objects, tmp_path).fetch([file])
    assert path.read_bytes() == b"x" * 100


def test_an_object_of_another_size_than_the_manifest_says_is_named(tmp_path: Path) -> None:
    """Nothing is kept of an object that is not what the manifest names."""
    objects = CountingObjects()
    file = stored(objects, "x", 100)
    objects.stored[file.key] = objects.stored[file.key]._replace(body=b"short")
    with pytest.raises(
        Corrupt, match=r"x-000000000001\.parquet has 5 bytes, the manifest says 100.*headrace audit"
    ):
        ObjectCache(objects, tmp_path).fetch([file])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_longest_unused_copies_make_room(tmp_path: Path) -> None:
    """Over the bound the oldest use goes first; a use of a copy counts as new."""
    objects, now = CountingObjects(), [START]
    cache = ObjectCache(objects, tmp_path, max_bytes=300, now=lambda: now[0])
    old = [stored(objects, name) for name in "abc"]
    for file in old:
        paths = cache.fetch([file])
        os.utime(paths[file.key], (now[0], now[0]))
        now[0] += 10
    now[0] += 2 * IN_USE_SECONDS
    cache.fetch(old[:1])
    now[0] += 2 * IN_USE_SECONDS
    cache.fetch([stored(objects, "d")])
    assert sorted(path.stem[0] for path in tmp_path.rglob("*.parquet")) == ["a", "c", "d"]


def test_copies_in_use_stay_whatever_the_bound(tmp_path: Path) -> None:
    """What was asked for within the hour may be open in another process."""
    objects = CountingObjects()
    cache = ObjectCache(objects, tmp_path, max_bytes=150, now=lambda: START)
    for name in "abc":
        file = stored(objects, name)
        os.utime(cache.fetch([file])[file.key], (START, START))
    assert len(list(tmp_path.rglob("*.parquet"))) == 3


def test_a_directory_that_cannot_be_written_is_a_setting(tmp_path: Path) -> None:
    """The message names the path and the remedy."""
    objects = CountingObjects()
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(ConfigProblem, match=r"cannot keep a copy: .*paths\.home"):
        ObjectCache(objects, tmp_path / "cache").fetch([stored(objects, "x")])


@pytest.mark.parametrize(
    "key",
    [
        "events/../../evil.parquet",
        "/etc/evil.parquet",
        "events/event_type=../dt=2024-01-01/1-000000000001.parquet",
    ],
)
def test_a_key_that_leads_elsewhere_is_no_path(tmp_path: Path, key: str) -> None:
    """A key that no loader makes is refused, and for the audit read without a copy: nothing is written outside."""
    objects = CountingObjects()
    objects.put_if_absent(key, b"evil", "d")
    cache = ObjectCache(objects, tmp_path / "cache")
    with pytest.raises(Corrupt, match="no key of a data file"):
        cache.fetch([DataFile("a#2024-01-01", "open#x", key, 1, 0, 4, 0, 0, ())])
    assert cache.verified(ObjectInfo(key, 4, "etag")) == b"evil"
    assert not list(tmp_path.rglob("*evil*"))


def test_many_files_of_a_segment_come_out_of_its_staging_object(tmp_path: Path) -> None:
    """While it is kept, one read brings them all; what it holds in other bytes is read from the bucket."""
    archive = Archive()
    files = [archive.add("ride.begun", f"2024-03-{day:02}", 1, [{}], []) for day in range(1, 26)]
    bodies = {file.key: archive.objects.stored[file.key].body for file in files}
    files = [msgspec.structs.replace(file, digest=digest_of(bodies[file.key])) for file in files]
    staged_bodies = bodies | {files[0].key: b"other bytes"}
    objects = tuple(StagedObject(key, body, digest_of(body)) for key, body in staged_bodies.items())
    staged = stage(Effects("a1", 1, objects, tuple(files)))
    archive.objects.stored[staging_key("a1", 1, digest_of(staged))] = Stored(staged, "")
    archive.objects.stored[staging_key("a1", 1, "0" * 32)] = Stored(b"torn", "")
    paths = ObjectCache(archive.objects, tmp_path).fetch(files)
    assert {key: path.read_bytes() for key, path in paths.items()} == bodies
    assert [key for key in archive.objects.gets if not key.startswith("staging/")] == [files[0].key]
