"""Keys, fingerprints and derived ids of repeated requests."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.idempotency import MAX_KEY_CHARS, derived_event_id, fingerprint, parse_idempotency_key
from tests.golden.compare import matches_golden

ASCII = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=MAX_KEY_CHARS)


@given(ASCII)
def test_a_quoted_key(key: str) -> None:
    """Any visible text in quotes is itself, as the draft writes it."""
    quoted = '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
    assert parse_idempotency_key(quoted) == key


@pytest.mark.parametrize(
    "key", ["8e03978e-40d5-43e8-bc93-6894a57f9324", "a", "order/7:b=c", "x" * MAX_KEY_CHARS]
)
def test_a_bare_key(key: str) -> None:
    """Most clients leave the quotes away; it is the same key."""
    assert parse_idempotency_key(key) == parse_idempotency_key(f'"{key}"') == key


@pytest.mark.parametrize(
    "header",
    [
        "",
        '""',
        "a b",
        "a,b",
        'a"b',
        '"a',
        "a;p=1",
        '"a";p=1',
        '"a\\b"',
        "café",
        '"café"',
        "a\n",
        "\x00",
        "x" * (MAX_KEY_CHARS + 1),
        '"' + "x" * (MAX_KEY_CHARS + 1) + '"',
    ],
)
def test_no_key(header: str) -> None:
    """Two keys in one header, parameters, controls, foreign letters and long ones are refused."""
    assert parse_idempotency_key(header) is None


def test_a_fingerprint_is_of_all_parts() -> None:
    """Whatever differs, also where one part ends and the next begins, makes another one."""
    requests = [
        ("POST", "/v1/events", "a", b"b"),
        ("PUT", "/v1/events", "a", b"b"),
        ("POST", "/v1/events?x", "a", b"b"),
        ("POST", "/v1/events", "ab", b""),
        ("POST", "/v1/events", "", b"ab"),
        ("POST", "/v1/events", "a", b"c"),
    ]
    assert len({fingerprint(*one) for one in requests}) == len(requests)
    assert fingerprint(*requests[0]) == fingerprint(*requests[0])


def test_derived_ids_are_what_they_were() -> None:
    """An id that changed would make a second event of a repeated request."""
    matches_golden(
        "derived_event_ids.json",
        [derived_event_id("acme", "k", 0), derived_event_id("acme", "k", 1, 1_710_072_000_000_000)],
    )


@given(ASCII, st.integers(0, 10**6), st.integers(0, 10**16))
def test_derived_ids_are_uuids(key: str, index: int, begun_us: int) -> None:
    """Version 8, the variant of RFC 9562, written as everybody writes them."""
    found = derived_event_id("acme", key, index, begun_us)
    assert uuid.UUID(found).version == 8
    assert uuid.UUID(found).variant == uuid.RFC_4122
    assert str(uuid.UUID(found)) == found


def test_derived_ids_differ() -> None:
    """By tenant, key, index and first attempt; digits do not run over from one to the other."""
    asked = [
        ("acme", "k", 0, 0),
        ("acm", "ek", 0, 0),
        ("acme", "k", 1, 0),
        ("acme", "k", 0, 1),
        ("acme", "k0", 0, 0),
    ]
    asked += [("acme", "1", 11, 0), ("acme", "11", 1, 0), ("acme", "k", 1, 11), ("acme", "k", 11, 1)]
    assert len({derived_event_id(*one) for one in asked}) == len(asked)
