"""Accepting what clients send: what is filled in, what is refused by name, and that the loader agrees with every verdict."""

from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import load_settings
from pipeline.core.accept import Accepted, Acceptor, Refused, binary_event
from pipeline.core.cloudevents import ATTRIBUTES
from pipeline.core.decode import Decoded, Decoder
from pipeline.core.errors import InvalidEvent
from pipeline.core.event import Limits, Record
from pipeline.core.rules import make_rules
from pipeline.core.schema import parse_schema
from pipeline.machine.schema_files import load_envelope

NOW_US = 1_710_072_000_123_456
NOW = "2024-03-10T12:00:00.123456Z"
_SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "t": {"type": "string"}},
    "required": ["n"],
}
_EXACT = {**_SCHEMA, "additionalProperties": False}
RULES = make_rules(
    [
        parse_schema("thing.seen", 1, _EXACT),
        parse_schema("thing.seen", 2, _EXACT),
        parse_schema("loose.seen", 1, _SCHEMA),
    ],
    ["mine", "theirs"],
    Limits(),
    load_envelope(load_settings(environ={}).paths.schemas),
)
ACCEPTOR = Acceptor(RULES)


def sent(**given: Any) -> dict[str, Any]:
    return {
        "entity_id": "e",
        "event_type": "thing.seen",
        "schema_version": 1,
        "source": "s",
        "data": {"n": 1},
    } | given


def judged(unit: bytes | dict[str, Any], acceptor: Acceptor = ACCEPTOR) -> Accepted | Refused:
    raw = unit if isinstance(unit, bytes) else orjson.dumps(unit)
    [verdict] = acceptor.judge([raw], "mine", NOW_US, lambda index: f"id-{index}", 7)
    return verdict


def loaded(payload: bytes) -> Decoded:
    decoded = Decoded()
    Decoder(RULES).decode([Record("1", "k", payload, NOW_US)], 0, decoded)
    return decoded


def test_what_is_missing_is_filled_in() -> None:
    """Id by the event's index, tenant by the credential, both times by the clock."""
    verdict = judged(sent())
    assert isinstance(verdict, Accepted)
    body = orjson.loads(verdict.payload)
    assert verdict.event_id == body["event_id"] == "id-7"
    assert (body["tenant_id"], body["event_time"], body["received_time"]) == ("mine", NOW, NOW)


def test_what_is_there_stays_byte_for_byte() -> None:
    """The client's own bytes are the end of what the stream gets, spaces, escapes and order of keys included."""
    data = b'{ "n" : 1, "t":"\\u00e9" }'
    head = b'"event_id":"x","tenant_id":"mine","event_time":"2024-03-10T11:00:00+01:00",'
    rest = b'"entity_id":"e","event_type":"thing.seen","schema_version":1,"source":"s","data":' + data + b"}"
    verdict = judged(b"  {" + head + rest + b"\r\n")
    assert isinstance(verdict, Accepted)
    assert verdict.payload == b'{"received_time":"' + NOW.encode() + b'",' + head + rest
    assert loaded(verdict.payload).rows[0].raw == data


@pytest.mark.parametrize(
    ("given", "code", "pointer"),
    [
        ({"received_time": NOW}, "server_field", "/received_time"),
        ({"received_time": None}, "server_field", "/received_time"),
        ({"tenant_id": "theirs"}, "wrong_tenant", "/tenant_id"),
        ({"tenant_id": "nobody"}, "wrong_tenant", "/tenant_id"),
        ({"tenant_id": 5}, "bad_envelope", "/tenant_id"),
        ({"event_id": None}, "bad_envelope", "/event_id"),
        ({"event_time": "2024-03-10"}, "bad_envelope", "/event_time"),
        ({"event_time": "2025-03-10T00:00:00Z"}, "time_in_future", "/event_time"),
        ({"event_type": "no.such"}, "unknown_type", "/event_type"),
        ({"schema_version": 3}, "unknown_version", "/schema_version"),
        ({"data": {"n": "one"}}, "schema_mismatch", "/data/n"),
        ({"unknown": 1}, "bad_envelope", ""),
    ],
)
def test_a_refusal_names_what_is_wrong(given: dict[str, Any], code: str, pointer: str) -> None:
    """By code and pointer, for a complete event and for one that lacks what the server fills in."""
    for event in (sent(**given), sent(event_id="x", tenant_id="mine", event_time=NOW) | given):
        verdict = judged(event)
        assert isinstance(verdict, Refused)
        assert (verdict.code, verdict.pointer) == (code, pointer)


def test_an_unknown_version_is_told_which_versions_there_are() -> None:
    """A producer can mend it without looking anywhere else."""
    verdict = judged(sent(schema_version=3))
    assert isinstance(verdict, Refused)
    assert verdict.message.endswith("known: 1-2")


def test_of_many_versions_the_newest_is_told_too() -> None:
    """However many there are: those that follow each other are one run."""
    numbers = [*range(1, 26), 28, *range(40, 51)]
    schemas = [parse_schema("thing.seen", number, _EXACT) for number in numbers]
    rules = make_rules(schemas, ["mine"], Limits(), load_envelope(load_settings(environ={}).paths.schemas))
    verdict = judged(sent(schema_version=51), Acceptor(rules))
    assert isinstance(verdict, Refused)
    assert verdict.message.endswith("known: 1-25, 28, 40-50")


def test_whether_another_tenant_exists_is_not_told() -> None:
    """A registered tenant and an invented one of the same length are refused by the same words."""
    verdicts = [judged(sent(tenant_id=name)) for name in ("theirs", "nobody")]
    assert verdicts[0] == verdicts[1]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"\xff", "not_json"),
        (b"[]", "bad_envelope"),
        (b"5", "bad_envelope"),
        (b"{}", "bad_envelope"),
        (b"{ }", "bad_envelope"),
        (b'{"specversion":"1.0"}', "bad_envelope"),
        (b'{"specversion":null}', "bad_envelope"),
        (b'{"event_id":"a","event_id":"b"}', "duplicate_key"),
        (b'{"tenant_id":"mine","tenant_id":"theirs","entity_id":"e"}', "duplicate_key"),
    ],
)
def test_what_is_no_event_is_refused(raw: bytes, code: str) -> None:
    """Whatever the bytes are: a verdict, never an exception."""
    verdict = judged(raw)
    assert isinstance(verdict, Refused)
    assert verdict.code == code


def test_an_event_that_is_too_large_with_what_is_filled_in_is_refused() -> None:
    """The loader would refuse it: its limit is on what travels."""
    fits = sent(event_type="loose.seen", data={"n": 1, "x": ["y" * 60_000] * 4, "z": ""})
    room = Limits().max_event_bytes - len(orjson.dumps(fits))
    fits["data"]["z"] = "z" * room
    verdict = judged(fits)
    assert isinstance(verdict, Refused)
    assert verdict.code == "too_large"


def test_a_cloud_event_becomes_an_envelope() -> None:
    """Tenant, id and time may be left out; pointers of a refusal name its own attributes."""
    event = {
        "specversion": "1.0",
        "type": "thing.seen",
        "source": "s",
        "subject": "e",
        "dataschema": "urn:x/1",
        "data": {"n": 1},
    }
    verdict = judged(event)
    assert isinstance(verdict, Accepted)
    assert len(loaded(verdict.payload).rows) == 1
    assert orjson.loads(verdict.payload)["event_id"] == "id-7"
    for changed, pointer in (
        ({"tenantid": "theirs"}, "/tenantid"),
        ({"dataschema": "urn:x/9"}, "/dataschema"),
    ):
        refused = judged(event | changed)
        assert isinstance(refused, Refused)
        assert refused.pointer == pointer


def test_a_binary_cloud_event_cannot_smuggle_attributes() -> None:
    """Its body is one JSON value, or it is refused."""
    attributes = {"specversion": "1.0", "type": "thing.seen"}
    assert orjson.loads(binary_event(attributes, b' {"n":1} '))["data"] == {"n": 1}
    with pytest.raises(InvalidEvent):
        binary_event(attributes, b'{"n":1},"tenantid":"theirs"')


_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from(["", "mine", "theirs", "thing.seen", "\u00e9\n"]),
    st.floats(allow_nan=False),
    st.just(NOW),
)
_FIELDS = st.sampled_from(
    [
        "event_id",
        "tenant_id",
        "entity_id",
        "event_type",
        "schema_version",
        "source",
        "event_time",
        "received_time",
        "data",
        "x",
        *ATTRIBUTES.values(),
        "specversion",
        "datacontenttype",
        "data_base64",
    ]
)
_CLOUD = {
    "specversion": "1.0",
    "type": "thing.seen",
    "source": "s",
    "subject": "e",
    "dataschema": "https://x/1",
    "data": {"n": 1},
}


@settings(deadline=None)
@given(
    st.dictionaries(_FIELDS, st.one_of(_VALUES, st.dictionaries(st.sampled_from(["n", "t"]), _VALUES))),
    st.sampled_from([sent(event_id="x", tenant_id="mine", event_time=NOW), sent(), _CLOUD]),
)
def test_the_loader_takes_what_is_accepted(given: dict[str, Any], base: dict[str, Any]) -> None:
    """Whatever a client sends: what the stream gets is one event for the loader, of this tenant, never a refusal."""
    verdict = judged(msgspec.json.encode(base | given))
    if isinstance(verdict, Accepted):
        decoded = loaded(verdict.payload)
        assert decoded.refusals == []
        assert [row.envelope.tenant_id for row in decoded.rows] == ["mine"]
        assert [row.envelope.event_id for row in decoded.rows] == [verdict.event_id]


@pytest.mark.parametrize("size", range(240, 303, 3))
def test_the_limit_on_an_event_is_on_what_travels(size: int) -> None:
    """What we write in front may take it over the limit: refused here, and not by the loader later."""
    rules = make_rules(
        list(RULES.schemas["thing.seen"].versions.values()),
        ["mine"],
        Limits(max_event_bytes=300),
        RULES.envelope_document,
    )
    event = sent(event_id="x", tenant_id="mine", event_time=NOW, data={"n": 1, "t": ""})
    event["data"]["t"] = "t" * (size - len(orjson.dumps(event)))
    verdict = judged(event, Acceptor(rules))
    travels = size + len(f'"received_time":"{NOW}",')
    if travels > 300:
        assert isinstance(verdict, Refused)
        assert verdict.code == "too_large"
        return
    assert isinstance(verdict, Accepted)
    assert len(verdict.payload) == travels
    decoded = Decoded()
    Decoder(rules).decode([Record("1", "k", verdict.payload, NOW_US)], 0, decoded)
    assert len(decoded.rows) == 1
