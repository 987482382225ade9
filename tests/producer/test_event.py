"""The typed event: what is accepted is accepted by the loader's envelope, and a refusal names the field."""

import dataclasses
import os
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import InvalidEvent
from pipeline.core.event import Limits
from pipeline.core.judge import check_envelope, parse
from pipeline.producer import Event, new_event_id
from pipeline.sending.event import Wire, encode, encode_json
from tests.core.kit import DOOR, rules_for

RULES = rules_for(DOOR)
AT = datetime(2026, 3, 1, 12, 0, 0, 5, UTC)


def _event(**changes: Any) -> Event:
    given = {
        "tenant_id": "acme",
        "entity_id": "door-1",
        "event_type": "door.opened",
        "schema_version": 1,
        "source": "gate",
        "data": {"door": "1"},
        "event_id": "e1",
        "event_time": AT,
    }
    return Event(**{**given, **changes})


class Shape(msgspec.Struct):
    door: str
    weight: float = 1.0


@dataclasses.dataclass
class Plain:
    door: str
    weight: float = 1.0


def test_the_bytes_of_an_event() -> None:
    """The envelope's fields in their order, nothing that was not given, the time in UTC."""
    assert encode(_event()) == Wire(
        "acme",
        "door-1",
        b'{"event_id":"e1","tenant_id":"acme","entity_id":"door-1","event_type":"door.opened","schema_version":1,'
        b'"source":"gate","event_time":"2026-03-01T12:00:00.000005Z","data":{"door":"1"}}',
    )
    other = encode(
        _event(event_time=AT.astimezone(timezone(timedelta(hours=2, seconds=7))), correlation_id="c")
    )
    assert b'"2026-03-01T12:00:00.000005Z"' in other.payload
    assert other.payload.endswith(b'"correlation_id":"c"}')


@pytest.mark.parametrize(
    "data",
    [{"door": "1", "weight": 1.0}, MappingProxyType({"door": "1", "weight": 1.0}), Shape("1"), Plain("1")],
    ids=["dict", "mapping", "struct", "dataclass"],
)
def test_data_may_be_any_object(data: Any) -> None:
    """All of them give the same bytes."""
    assert encode(_event(data=data)).payload.endswith(b'"data":{"door":"1","weight":1.0}}')


def test_finished_data_is_kept_byte_for_byte() -> None:
    """Spaces and all: `data_json` will hold the producer's bytes."""
    assert b'"data":{ "door" : 1e0 }' in encode(_event(data=b'{ "door" : 1e0 }')).payload


_WRONG: list[tuple[str, Any, str]] = [
    ("tenant_id", "Acme", "tenant_id 'Acme': must be 1 to 63 of a-z"),
    ("tenant_id", "", "tenant_id"),
    ("tenant_id", None, "tenant_id None"),
    ("tenant_id", "a/../b", "tenant_id"),
    ("event_type", "x" * 64, "event_type"),
    ("entity_id", "", "text of 1 to 256 characters"),
    ("entity_id", "x" * 257, "entity_id"),
    ("entity_id", 7, "entity_id 7"),
    ("event_id", "x" * 129, "text of 1 to 128 characters"),
    ("source", "", "source"),
    ("correlation_id", "", "correlation_id"),
    ("schema_version", 0, "a whole number from 1"),
    ("schema_version", True, "schema_version True"),
    ("schema_version", 1.0, "schema_version 1.0"),
    ("schema_version", 2**31, "schema_version"),
    ("event_time", datetime(2026, 3, 1), "naive ones are refused"),  # noqa: DTZ001 - what is refused
    ("event_time", "2026-03-01T12:00:00Z", "event_time"),
    ("event_time", datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))), "years 1 to 9999"),
    ("tenant_id", ["acme"], "1 to 63"),
    ("tenant_id", {}, "1 to 63"),
    ("event_type", [], "1 to 63"),
    ("source", {"at": 1}, "text of 1 to 256"),
    ("schema_version", [1], "a whole number"),
    ("entity_id", type("Mine", (str,), {})("door-7"), "str itself"),
    ("event_id", type("Mine", (str,), {})("e-7"), "str itself"),
    ("data", [1], "data"),
    ("data", None, "data"),
    ("data", b"[1]", "a JSON object as bytes"),
    ("data", b"{", "data"),
    ("data", {"door": object()}, "data: "),
    ("data", {"door": b"1"}, "data: "),
    ("data", {"door": 2**64}, "data: "),
    ("data", {7: 1}, "data: "),
]


@pytest.mark.parametrize(("name", "value", "said"), _WRONG)
def test_a_refusal_names_the_field(name: str, value: Any, said: str) -> None:
    """And says what it may be; the pointer leads to the same place."""
    with pytest.raises(InvalidEvent) as caught:
        encode(_event(**{name: value}))
    assert said in str(caught.value)
    assert caught.value.pointer == f"/{name}"
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("text", ["door\ud800", "\udfff", "x" * 200 + "\ud800"])
@pytest.mark.parametrize("name", ["entity_id", "source", "correlation_id"])
def test_half_a_surrogate_pair_is_refused(name: str, text: str) -> None:
    """Text that no UTF-8 holds; the field is named."""
    with pytest.raises(InvalidEvent, match=rf"^{name}: .*\\ud.* has half a surrogate pair") as caught:
        encode(_event(**{name: text}))
    assert caught.value.pointer == f"/{name}"
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("data", "at"),
    [
        ({"a": [{"b": "\ud800"}]}, "data/a/0/b"),
        ({"a": {"\udfff": 1}}, "data/a"),
        (Plain("\ud800"), "data/door"),
        (Shape("\ud800"), "data/door"),
    ],
)
def test_half_a_surrogate_pair_in_data_is_found(data: Any, at: str) -> None:
    """However deep it lies, in a value or a key."""
    with pytest.raises(InvalidEvent, match=f"^{at}: .* has half a surrogate pair") as caught:
        encode(_event(data=data))
    assert caught.value.pointer == f"/{at}"


@pytest.mark.parametrize("given", [None, 7, {"tenant_id": "acme"}, b"{}"])
def test_what_is_no_event_is_refused_by_name(given: Any) -> None:
    """What was given, and what is wanted."""
    with pytest.raises(InvalidEvent, match="must be an Event; what is JSON or a mapping goes in by put_json"):
        encode(given)


@pytest.mark.parametrize(
    "data", [{"a": [{"b": float("nan")}]}, Plain("1", float("inf")), Shape("1", float("-inf"))]
)
def test_what_is_no_number_is_not_sent_as_null(data: Any) -> None:
    """NaN and infinity would silently become nothing."""
    with pytest.raises(InvalidEvent, match="is no JSON number") as caught:
        encode(_event(data=data))
    assert caught.value.pointer in {"/data/a/0/b", "/data/weight"}
    assert str(caught.value).startswith(f"{caught.value.pointer[1:]}: ")
    assert encode(_event(data={"a": None, "b": "null", "c": 1.5})).payload


_NAMES = st.text(st.characters(), max_size=70) | st.from_regex(r"[a-z0-9][a-z0-9._-]{0,70}", fullmatch=True)
_TEXTS = st.text(max_size=260) | st.sampled_from(["x" * 256, "x" * 128, "\0", "\u2028"])
_TIMES = st.datetimes(
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=14)), timezone(timedelta(minutes=-90))])
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {
            "tenant_id": _NAMES,
            "entity_id": _TEXTS,
            "event_type": _NAMES,
            "schema_version": st.integers(-1, 2**31),
            "source": _TEXTS,
            "data": st.dictionaries(st.text(max_size=5), _JSON, max_size=3),
            "event_id": _TEXTS,
            "event_time": _TIMES,
            "correlation_id": st.none() | _TEXTS,
        }
    )
)
@settings(max_examples=300, deadline=None)
def test_what_is_accepted_has_an_envelope_that_the_loader_accepts(fields: dict[str, Any]) -> None:
    """By the exact judge; only integers beyond 64 bits signed are left for rules to tell. The other way in agrees."""
    try:
        payload = encode(Event(**fields)).payload
    except InvalidEvent:
        return
    try:
        document = parse(payload, Limits())
    except InvalidEvent as exc:
        if exc.code != "number_out_of_range":
            raise
        return
    check_envelope(document, RULES)
    assert encode_json(payload).payload == payload
    assert (document["tenant_id"], document["entity_id"]) == (fields["tenant_id"], fields["entity_id"])
    assert datetime.fromisoformat(document["event_time"]) == fields["event_time"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tenant_id": "A"}, "tenant_id"),
        ({"event_time": "2026-03-01 12:00:00Z"}, "event_time"),
        ({"event_time": "2026-03-01T12:00:00"}, "event_time"),
        ({"received_time": "yesterday"}, "received_time"),
        ({"data": []}, "data"),
        ({"event_id": None}, "event_id"),
        ({"entity_id": "x" * 257}, "entity_id"),
        ({"extra": 1}, "extra"),
    ],
)
def test_finished_json_is_looked_at_as_well(change: dict[str, Any], said: str) -> None:
    """As bytes, as text or as a mapping."""
    good = msgspec.json.decode(encode(_event()).payload)
    assert encode_json(good).entity_id == "door-1"
    for form in ({**good, **change}, msgspec.json.encode({**good, **change}).decode()):
        with pytest.raises(InvalidEvent) as caught:
            encode_json(form)
        assert said in str(caught.value)


@pytest.mark.parametrize("payload", [b"", b"\xff", b"[]", b"{", b"\xf3\x89\x9a\xc2"])
def test_what_is_no_json_is_refused(payload: bytes) -> None:
    """Whatever its first bytes are."""
    with pytest.raises(InvalidEvent, match="not an event"):
        encode_json(payload)


@pytest.mark.parametrize("payload", ['{"event_id":"\ud800"}', 7, None, ["{}"]])
def test_what_is_no_text_is_refused_as_no_event(payload: Any) -> None:
    """Half a surrogate pair, or another type: the one documented error."""
    with pytest.raises(InvalidEvent, match=r"surrogate|must be bytes, text or a mapping"):
        encode_json(payload)


def test_event_ids_are_uuids_in_order() -> None:
    """Version 7, RFC 9562; a program that seeds Python's generator does not repeat them."""
    random.seed(1)
    first = new_event_id()
    random.seed(1)
    ids = [first, *(new_event_id() for _ in range(10_000))]
    assert len(set(ids)) == len(ids)
    assert {(len(one), one[14], one[19] in "89ab") for one in ids} == {(36, "7", True)}
    stamps = [int(one.replace("-", "")[:12], 16) for one in ids]
    assert stamps == sorted(stamps)


def test_a_forked_child_makes_other_ids() -> None:
    """Prefork servers: a generator that was copied would give parent and child the same ids."""
    code = (
        "import os, sys\n"
        "from pipeline.producer import new_event_id\n"
        "new_event_id()\n"
        "read, write = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    os.write(write, new_event_id()[15:].encode()); os._exit(0)\n"
        "os.wait(); print(new_event_id()[15:] != os.read(read, 99).decode())\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert found.stdout == "True\n"
