"""Staging objects and rules: what is stored under its own digest."""

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.aggregate import Aggregate
from pipeline.core.errors import ConfigProblem, Corrupt
from pipeline.core.event import Limits
from pipeline.core.index import IndexItem
from pipeline.core.manifest import DataFile, TenantRows
from pipeline.core.rules import make_rules
from pipeline.core.staging import Effects, StagedObject, digest_of, stage, unstage
from pipeline.core.window import encode_ids, fingerprints
from tests.core.kit import DOOR, ENVELOPE, rules_for
from tests.golden.compare import matches_golden

TENANTS = (TenantRows("acme", 0, 2, 1), TenantRows("globex", 2, 1, 0))
ENTRY = DataFile("door#2024-03-10", "open#0001#000000000001", "events/x.parquet", 3, 1, 9, -5, 7, TENANTS)
ITEM = IndexItem("acme#0123", "2024-03-10#open#0001#000000000001", b"\x00\xff")
TOTAL = Aggregate("acme#door", "2024-03-10#open#0001", 1, 2, 1, 0, (0, 2) + (0,) * 22, {"gate": 2})
OBJECTS = st.lists(st.tuples(st.text(max_size=30), st.binary(max_size=50)), max_size=5)


def _objects(pairs: Sequence[tuple[str, bytes]]) -> tuple[StagedObject, ...]:
    return tuple(StagedObject(key, body, digest_of(body)) for key, body in pairs)


@given(OBJECTS, st.integers(1, 10**12), st.booleans())
@settings(max_examples=100)
def test_round_trip(objects: list[tuple[str, bytes]], ordinal: int, entry: bool) -> None:
    """Objects, entries and the segment's name come back; each object carries the digest stored with it."""
    rest = ((ENTRY,), (ITEM,), (TOTAL,)) if entry else ((), (), ())
    effects = Effects("0001", ordinal, _objects(objects), *rest)
    staged = stage(effects)
    found = unstage(staged, digest_of(staged))
    assert [bytes(one.body) for one in found.objects] == [body for _, body in objects]
    assert msgspec.structs.replace(found, objects=()) == msgspec.structs.replace(effects, objects=())
    assert [(one.key, one.digest) for one in found.objects] == [
        (one.key, one.digest) for one in effects.objects
    ]


def test_any_flipped_byte_is_corrupt() -> None:
    """A staging object that differs from its digest in one byte, or in length, is never applied."""
    staged = stage(Effects("0001", 1, _objects([("a", b"alpha"), ("b", b"")]), (ENTRY,), (ITEM,), (TOTAL,)))
    digest = digest_of(staged)
    for place in range(len(staged)):
        broken = bytearray(staged)
        broken[place] ^= 0x20
        with pytest.raises(Corrupt, match=digest):
            unstage(bytes(broken), digest)
    for broken_length in (staged[:-1], staged + b"\0", b""):
        with pytest.raises(Corrupt):
            unstage(broken_length, digest)
    with pytest.raises(Corrupt):
        unstage(staged, digest_of(b"another"))


def test_foreign_bytes_under_their_own_digest_are_corrupt() -> None:
    """Right digest, wrong content: not a staging object."""
    with pytest.raises(Corrupt):
        unstage(b"PAR1 something", digest_of(b"PAR1 something"))


def test_an_older_layout_says_so() -> None:
    """A staging object of layout 1 is not taken for a damaged one."""
    with pytest.raises(Corrupt, match="layout 1"):
        unstage(b"hrseg1\0\0" + bytes(8), digest_of(b"hrseg1\0\0" + bytes(8)))


def test_stored_bytes() -> None:
    """The layouts of staging and ids files, and the fingerprint of an id, are stored forms."""
    staged = stage(
        Effects(
            "0001", 1, _objects([("ids/0001/000000000001.ids", b"\x00\x01")]), (ENTRY,), (ITEM,), (TOTAL,)
        )
    )
    ids = encode_ids(fingerprints([("acme", "e1"), ("globex", "e1"), ("acme", "Zürich")]))
    matches_golden("staging.json", {"staging": staged.hex(), "digest": digest_of(staged), "ids": ids.hex()})


def test_rules_are_named_by_what_they_say() -> None:
    """The same rules have the same digest, whatever the order they were given in; any change has another."""
    rules = rules_for(DOOR)
    same = make_rules(
        rules.schemas["door"].versions.values(),
        ["globex", "acme", "acme"],
        Limits(),
        dict(reversed(ENVELOPE.items())),
    )
    assert same.digest == rules.digest
    others = [
        rules_for(DOOR, limits=Limits(max_depth=31)),
        rules_for({**DOOR, "description": "x"}),
        rules_for(DOOR, DOOR),
        make_rules(rules.schemas["door"].versions.values(), ["acme"], Limits(), ENVELOPE),
        make_rules(
            rules.schemas["door"].versions.values(), ["acme", "globex"], Limits(), {**ENVELOPE, "title": "x"}
        ),
    ]
    assert len({rules.digest, *(one.digest for one in others)}) == 6


def test_stored_rules() -> None:
    """The document under `rules/` and its digest are stored forms."""
    rules = make_rules(
        rules_for(DOOR).schemas["door"].versions.values(), ["acme"], Limits(), {"type": "object"}
    )
    matches_golden("rules.json", {"digest": rules.digest, "document": rules.document.decode()})


@pytest.mark.parametrize("tenant", ["", "Acme", "a/b", ".a", "a" * 64, "a\n", "é"])
def test_a_tenant_is_a_name(tenant: str) -> None:
    """A tenant that may not stand in a key is refused by name."""
    with pytest.raises(ConfigProblem, match="tenant"):
        make_rules([], [tenant], Limits(), ENVELOPE)
