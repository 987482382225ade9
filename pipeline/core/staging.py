"""A segment's effects in one object: what a redo writes, without stream, code or window.

Layout: magic, 8-byte header length, MessagePack header (where the objects are; manifest entries, index items and
aggregates whole), then the objects' bytes end to end. The SHA-256 of the whole is
in the object's name, so a torn or foreign object can never be applied.
"""

import hashlib

import msgspec

from pipeline.core.aggregate import Aggregate
from pipeline.core.errors import Corrupt
from pipeline.core.index import IndexItem
from pipeline.core.manifest import DataFile

_MAGIC = b"hrseg2\0\0"
_LAYOUT_1 = b"hrseg1\0\0"


class StagedObject(msgspec.Struct, frozen=True):
    """One object to write: key, content and the digest stored with it."""

    key: str
    body: bytes | memoryview
    digest: str


class Effects(msgspec.Struct, frozen=True):
    """Everything that deciding a segment makes true."""

    lineage: str
    ordinal: int
    objects: tuple[StagedObject, ...]
    entries: tuple[DataFile, ...]
    index: tuple[IndexItem, ...] = ()
    aggregates: tuple[Aggregate, ...] = ()


class _Place(msgspec.Struct, frozen=True):
    key: str
    length: int
    digest: str


class _Header(msgspec.Struct, frozen=True):
    lineage: str
    ordinal: int
    objects: list[_Place]
    entries: tuple[DataFile, ...]
    index: tuple[IndexItem, ...]
    aggregates: tuple[Aggregate, ...]


def digest_of(body: bytes | memoryview) -> str:
    """Return the digest stored beside an object: 32 hex digits of its SHA-256."""
    return hashlib.sha256(body).hexdigest()[:32]


def stage(effects: Effects) -> bytes:
    """Encode effects."""
    places = [_Place(one.key, len(one.body), one.digest) for one in effects.objects]
    header = msgspec.msgpack.encode(
        _Header(effects.lineage, effects.ordinal, places, effects.entries, effects.index, effects.aggregates)
    )
    bodies = (one.body for one in effects.objects)
    return b"".join((_MAGIC, len(header).to_bytes(8, "little"), header, *bodies))


def unstage(staged: bytes, digest: str) -> Effects:
    """Decode effects; bodies are views into `staged`.

    Raises:
        Corrupt: the bytes are not what `digest` says.
    """
    if staged.startswith(_LAYOUT_1):
        raise Corrupt(
            f"staging object {digest} is of layout 1, which was never released: start anew with an empty home or bucket"
        )
    if digest_of(staged) != digest or not staged.startswith(_MAGIC):
        raise Corrupt(f"staging object {digest}: its bytes do not match the digest in its name")
    length = int.from_bytes(staged[8:16], "little")
    header = msgspec.msgpack.decode(memoryview(staged)[16 : 16 + length], type=_Header)
    view, at, objects = memoryview(staged), 16 + length, []
    for place in header.objects:
        objects.append(StagedObject(place.key, view[at : at + place.length], place.digest))
        at += place.length
    return Effects(
        header.lineage, header.ordinal, tuple(objects), header.entries, header.index, header.aggregates
    )
