"""Every way to be refused: its code, the pointer to the fault, and the bytes kept."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.core.decode import Decoded, Decoder
from pipeline.core.event import Envelope, Limits, Refusal, RefusalCode, Row, WireEnvelope
from pipeline.core.kpl import MAGIC, Aggregate
from pipeline.core.rules import Rules
from tests.core.kit import DOOR, cloud_event, decode, event, record, rules_for, verdict, wire, with_data

SMALL = Limits(
    max_event_bytes=2_000, max_depth=5, max_keys=20, max_items=20, max_string_bytes=100, max_future_seconds=60
)
OPEN = {"type": "object", "properties": {"n": {"type": "integer"}, "x": {}}}
RULES = rules_for(DOOR, limits=Limits(max_future_seconds=60))
TIGHT = rules_for(DOOR, limits=SMALL)
LOOSE = rules_for(OPEN, limits=SMALL)


def _twice(name: str, value: Any) -> bytes:
    return wire(event())[:-1] + b"," + wire({name: value})[1:]


def _without(name: str) -> bytes:
    return wire({key: value for key, value in event().items() if key != name})


def _data(**data: Any) -> bytes:
    return wire(event(data=data))


def _cloud(**changes: Any) -> bytes:
    return wire(cloud_event(**changes))


CASES: list[tuple[str, str, bytes, Rules]] = [
    ("bad_aggregate", "", MAGIC + b"nothing of the kind", RULES),
    ("bad_gzip", "", b"\x1f\x8b\x08", RULES),
    ("too_many_events", "", b"\n".join([b"{}"] * 17), RULES),
    ("too_much_packed", "", b"{}\n{}", rules_for(DOOR, limits=Limits(max_packed_bytes=500))),
    ("not_json", "", b"", RULES),
    ("not_json", "", b"{", RULES),
    ("not_json", "", b"hello", RULES),
    ("not_json", "", b"\xef\xbb\xbf" + wire(event()), RULES),  # a byte order mark is no JSON (RFC 8259, 8.1)
    ("not_json", "", wire(event()) + wire(event()), RULES),
    ("not_json", "", wire(event()) + b"\x00", RULES),
    ("not_json", "", wire(event(event_id="@")).replace(b"@", b"\xff"), RULES),
    ("not_json", "", wire(event(data={"label": "@"})).replace(b"@", b"\xc3"), RULES),
    ("not_json", "", wire(event()).replace(b'"source"', b'"sour\xe9"'), RULES),
    ("not_json", "", wire(event(event_id="@")).replace(b"@", b"\\ud800"), RULES),
    ("not_json", "", with_data(b'{"n":1,"label":"\\udc00"}'), RULES),
    ("not_json", "", with_data(b'{"n":NaN}'), RULES),
    ("not_json", "", with_data(b'{"n":-Infinity}'), RULES),
    ("not_json", "", with_data(b'{"n":1e400}'), RULES),
    ("not_json", "", with_data(b'{"n":01}'), RULES),
    ("not_json", "", with_data(b'{"n":1,}'), RULES),
    ("not_json", "", with_data(b'{"n":1,"label":"a\nb"}'), RULES),
    ("not_json", "", json.dumps(event()).encode("utf-16"), RULES),
    ("too_large", "", with_data(b'{"n":1' + b" " * 2_000 + b"}"), TIGHT),
    ("too_deep", "", with_data(b'{"n":1,"x":[[[[]]]]}'), LOOSE),
    ("too_deep", "", b"[" * 1_999, TIGHT),
    ("too_many_keys", "", _data(n=1, x={str(number): 0 for number in range(20)}), LOOSE),
    ("too_many_keys", "", _data(n=1, x=[[0], [], {}, *range(17)]), LOOSE),
    ("string_too_long", "/event_id", wire(event(event_id="x" * 101)), TIGHT),
    ("string_too_long", "/data/x", _data(n=1, x="é" * 51), LOOSE),
    ("string_too_long", "/data", wire(event(data={"n": 1, "k" * 101: 0})), LOOSE),
    ("number_out_of_range", "/data/n", with_data(b'{"n":9223372036854775808}'), RULES),
    ("number_out_of_range", "/data/n", with_data(b'{"n":-9223372036854775809}'), RULES),
    ("number_out_of_range", "/data/n", with_data(b'{"n":' + b"9" * 300 + b"}"), RULES),
    ("number_out_of_range", "/data/n", with_data(b'{"n":1e30}'), RULES),
    (
        "number_out_of_range",
        "/data/x/0/a~1b",
        with_data(b'{"n":1,"x":[{"a/b":18446744073709551616}]}'),
        LOOSE,
    ),
    ("duplicate_key", "/event_id", _twice("event_id", "e2"), RULES),
    ("duplicate_key", "/event_id", _twice("event_id", "e1"), RULES),
    ("duplicate_key", "/schema_version", _twice("schema_version", 1), RULES),
    ("duplicate_key", "/data", _twice("data", {"n": 2}), RULES),
    ("duplicate_key", "/event_id", _twice("@", "e2").replace(b"@", b"\\u0065vent_id"), RULES),
    ("bad_envelope", "", b"[]", RULES),
    ("bad_envelope", "", b"null", RULES),
    ("bad_envelope", "", b'"event"', RULES),
    ("bad_envelope", "", wire(event(more=1)), RULES),
    ("bad_envelope", "", _without("source"), RULES),
    ("bad_envelope", "/event_id", wire(event(event_id="")), RULES),
    ("bad_envelope", "/event_id", wire(event(event_id=7)), RULES),
    ("bad_envelope", "/entity_id", wire(event(entity_id=None)), RULES),
    ("bad_envelope", "/tenant_id", wire(event(tenant_id="acme/..")), RULES),
    ("bad_envelope", "/tenant_id", wire(event(tenant_id="acme\n")), RULES),
    ("bad_envelope", "/event_type", wire(event(event_type="Door")), RULES),
    ("bad_envelope", "/schema_version", wire(event(schema_version=True)), RULES),
    ("bad_envelope", "/schema_version", wire(event(schema_version=1.5)), RULES),
    ("bad_envelope", "/schema_version", wire(event(schema_version=0)), RULES),
    (
        "bad_envelope",
        "/schema_version",
        wire(event(schema_version=1.0)),
        RULES,
    ),  # chooses a schema: written plainly
    ("bad_envelope", "/data", wire(event(data=[])), RULES),
    ("bad_envelope", "/event_time", wire(event(event_time=1_710_072_000)), RULES),
    ("bad_envelope", "/event_time", wire(event(event_time="2024-03-10T11:00:00")), RULES),
    ("bad_envelope", "/event_time", wire(event(event_time="2024-03-10 11:00:00Z")), RULES),
    ("bad_envelope", "/event_time", wire(event(event_time="2024-03-10T11:00:00+0000")), RULES),
    ("bad_envelope", "/event_time", wire(event(event_time="2023-02-29T11:00:00Z")), RULES),
    ("bad_envelope", "/event_time", wire(event(event_time="2016-12-31T23:59:60Z")), RULES),  # a leap second
    ("bad_envelope", "/event_time", wire(event(event_time="0000-01-01T00:00:00Z")), RULES),
    ("bad_envelope", "/event_time", wire(event(event_time="0001-01-01T00:00:00+01:00")), RULES),
    ("bad_envelope", "/received_time", wire(event(received_time="yesterday")), RULES),
    ("bad_envelope", "/received_time", wire(event(received_time="2024-03-10 11:00:00Z")), RULES),
    ("bad_envelope", "/received_time", wire(event(received_time=None)), RULES),
    ("bad_envelope", "/correlation_id", wire(event(correlation_id="")), RULES),
    ("bad_envelope", "/specversion", _cloud(specversion="0.3"), RULES),
    ("bad_envelope", "/specversion", _cloud(specversion=1.0), RULES),
    ("bad_envelope", "/specversion", _cloud(specversion=None), RULES),
    ("bad_envelope", "/specversion", wire(event(specversion="1")), RULES),
    ("bad_envelope", "/id", wire(event(specversion="1.0")), RULES),
    ("bad_envelope", "/id", _cloud(id=None), RULES),
    ("bad_envelope", "/id", _cloud(id=""), RULES),
    ("bad_envelope", "/tenantid", _cloud(tenantid="Acme"), RULES),
    ("bad_envelope", "/tenantid", _cloud(tenantid=None, tenant_id="acme"), RULES),
    ("bad_envelope", "/subject", _cloud(subject=None), RULES),
    ("bad_envelope", "/subject", _cloud(subject=["door-1"]), RULES),
    ("bad_envelope", "/type", _cloud(type="Door"), RULES),
    ("bad_envelope", "/source", _cloud(source=5), RULES),
    ("bad_envelope", "/time", _cloud(time="2024-03-10"), RULES),
    ("bad_envelope", "/time", _cloud(time="2016-12-31T23:59:60Z"), RULES),
    ("bad_envelope", "/correlationid", _cloud(correlationid=""), RULES),
    ("bad_envelope", "/data", _cloud(data=None), RULES),
    ("bad_envelope", "/data", _cloud(data="n=1"), RULES),
    *[
        ("bad_envelope", "/dataschema", _cloud(dataschema=schema), RULES)
        for schema in (
            None,
            1,
            "",
            "1",
            "door/1",
            "https://example.com/door",
            "https://example.com/door/",
            "urn:door:1",
            "https://example.com/door/01",
            "https://example.com/door/0",
            "https://example.com/door/v1",
            "https://example.com/door/1.0",
            "https://example.com/door/-1",
            "https://example.com/door/1\n",
            "https://example.com/door?/1",
            "https://example.com/door#/1",
            "https://example.com/door/2147483648",
            "https://example.com/door/99999999999",
            "https://example.com/door/\u0661",
        )
    ],
    ("unsupported_content", "/data_base64", _cloud(data_base64="e30="), RULES),
    ("unsupported_content", "/data_base64", _cloud(data_base64=7), RULES),
    ("unsupported_content", "/datacontenttype", _cloud(datacontenttype="text/plain"), RULES),
    ("unsupported_content", "/datacontenttype", _cloud(datacontenttype="application/jsonl"), RULES),
    ("unsupported_content", "/datacontenttype", _cloud(datacontenttype=["application/json"]), RULES),
    ("duplicate_key", "/id", _cloud()[:-1] + b',"id":"e2"}', RULES),
    ("duplicate_key", "/tenantid", _cloud()[:-1] + b',"tenant\\u0069d":"globex"}', RULES),
    ("duplicate_key", "/anything", _cloud()[:-1] + b',"anything":1,"anything":2}', RULES),
    ("unknown_tenant", "/tenantid", _cloud(tenantid="nobody"), RULES),
    ("unknown_type", "/type", _cloud(type="window"), RULES),
    ("unknown_version", "/dataschema", _cloud(dataschema="https://example.com/door/2"), RULES),
    ("schema_mismatch", "/data/n", _cloud(data={"n": "1"}), RULES),
    ("number_out_of_range", "/data/n", _cloud(data={"n": 2**63}), RULES),
    ("string_too_long", "/id", _cloud(id="x" * 101), TIGHT),
    ("too_large", "", _cloud(more="x" * 2_000), TIGHT),
    ("time_in_future", "/time", _cloud(time="2024-03-10T12:01:00.000001Z"), RULES),
    ("unknown_tenant", "/tenant_id", wire(event(tenant_id="nobody")), RULES),
    ("unknown_type", "/event_type", wire(event(event_type="window")), RULES),
    ("unknown_version", "/schema_version", wire(event(schema_version=2)), RULES),
    ("schema_mismatch", "/data", _data(label="x"), RULES),
    ("schema_mismatch", "/data", _data(n=1, other=2), RULES),
    ("schema_mismatch", "/data/n", _data(n="1"), RULES),
    ("schema_mismatch", "/data/n", _data(n=1.5), RULES),
    ("schema_mismatch", "/data/n", _data(n=True), RULES),
    ("schema_mismatch", "/data/label", _data(n=1, label=None), RULES),
    ("schema_mismatch", "/data/label", _data(n=1, label="x" * 11), RULES),
    ("schema_mismatch", "/data/at", _data(n=1, at="2024-03-10 11:00:00Z"), RULES),
    ("schema_mismatch", "/data/at", _data(n=1, at="2024-03-10T11:00:00+0000"), RULES),
    ("time_in_future", "/event_time", wire(event(event_time="2024-03-10T12:01:00.000001Z")), RULES),
    ("time_in_future", "/event_time", wire(event(event_time="9999-12-31T23:59:59Z")), RULES),
]


@pytest.mark.parametrize(("code", "pointer", "payload", "rules"), CASES)
def test_says_why_and_where(code: str, pointer: str, payload: bytes, rules: Rules) -> None:
    """A refused unit has the code and JSON pointer of the first thing that is wrong, and keeps its bytes."""
    found = decode(payload, rules)
    assert isinstance(found, Refusal), found
    assert (found.code, found.pointer) == (code, pointer), found.message
    assert found.raw == payload
    assert found.message


@pytest.mark.parametrize(
    ("payload", "byte", "rules"),
    [
        (wire(event(event_id="@")).replace(b"@", b"\xe9"), 0xE9, RULES),
        (wire(event()).replace(b'"source"', b'"sour\xe9"'), 0xE9, RULES),
        (json.dumps(event()).encode("utf-16"), 0xFF, RULES),
    ],
)
def test_what_is_no_utf8_is_found(payload: bytes, byte: int, rules: Rules) -> None:
    """The message names the byte, by its place in the unit."""
    found = decode(payload, rules)
    assert isinstance(found, Refusal)
    assert found.message.startswith(f"not UTF-8: byte {payload.index(byte)} is 0x{byte:02x}, ")


def test_the_limit_of_list_items_is_exact() -> None:
    """Items of all lists are counted, whatever they are; commas and colons in strings count nothing."""
    assert verdict(_data(n=1, x=[[0], [], {}, ",:[", *range(15)]), LOOSE) == "accepted"
    assert verdict(_data(n=1, x=[[0], [], {}, ",:[", *range(16)]), LOOSE) == "too_many_keys"


def test_every_code_has_a_case() -> None:
    """No word of the interface goes untested."""
    assert {code for code, *_ in CASES} == set(RefusalCode) - {RefusalCode.KILLS_WORKER}  # nobody judged it


@pytest.mark.parametrize(
    "payload",
    [
        wire(event()),
        json.dumps(event(), indent=2).encode(),
        b" \t\r\n" + wire(event()) + b"\n",
        wire(dict(reversed(event().items()))),
        wire(event(event_id='say "hi"', source="C:\\")),
        wire(event(event_id="nul\x00, tab\t, é, \U0001f600")),
        json.dumps(event(entity_id="Zürich"), ensure_ascii=False).encode(),
        wire(event()).replace(b'"event_id"', b'"\\u0065vent_id"'),
        wire(event(correlation_id=None)),
        wire(event(correlation_id="c", received_time="2024-03-10T11:00:01Z")),
        wire(event(event_time="2024-03-10T12:01:00Z")),  # as late as is allowed
        wire(event(event_time="2024-03-10t11:00:00.123456789z")),
        wire(event(event_time="2024-03-10T11:00:00-00:00")),
        wire(event(event_time="2024-03-10T16:30:00+05:30")),
        wire(event(event_time="0001-01-01T00:00:00Z")),
        with_data(b'{"n":1.0}'),
        with_data(b'{"n":1e3}'),
        with_data(b'{"n":9223372036854775807}'),
        with_data(b'{"n":-9223372036854775808}'),
        with_data(b'{"n":1,"n":2}'),  # inside data it is the schema's affair; the last one counts
        with_data(b'{"n":"x","n":2}'),
        with_data(b'{"n":1,"label":""}'),
        with_data(b'{"n":1,"at":"2016-12-31T23:59:60Z"}'),  # right by RFC 3339; only its column stays null
        with_data(b'{"n":1,"at":"0001-01-01T00:00:00+01:00"}'),
    ],
)
def test_odd_but_right(payload: bytes) -> None:
    """What JSON, RFC 3339 and the schema allow is accepted, however unusual it looks."""
    found = decode(payload, RULES)
    assert isinstance(found, Row), found
    assert json.loads(found.raw) == json.loads(payload)["data"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"datacontenttype": None},
        {"datacontenttype": "Application/Vnd.Door+JSON ; charset=utf-8"},
        {"dataschema": "HTTPS://example.com/1?a=/2#/3"},
        {"dataschema": "urn:x/1"},
        {"correlationid": None, "data_base64": None},
        {"anyextension": {"of": ["any", "kind"]}, "event_id": "no attribute of ours"},
        {"subject": "=cmd()", "correlationid": "c"},
        {"time": "2024-03-10T16:30:00+05:30"},
    ],
)
def test_a_cloud_event_is_an_event(changes: dict[str, Any]) -> None:
    """A CloudEvent becomes the row that our own envelope becomes; other attributes are not stored."""
    written = cloud_event(**changes)
    found, same = (
        decode(wire(written), RULES),
        decode(
            wire(
                event(
                    entity_id=written["subject"],
                    event_time=written["time"],
                    correlation_id=changes.get("correlationid"),
                )
            ),
            RULES,
        ),
    )
    assert isinstance(found, Row), found
    assert isinstance(same, Row)
    assert found.raw == same.raw == b'{"n":1}'
    assert found.data.c_n == same.data.c_n
    names = [name for name in Envelope.__struct_fields__ if name not in ("data", "correlation_id")]
    assert [getattr(found.envelope, name) for name in names] == [
        getattr(same.envelope, name) for name in names
    ]
    assert (found.envelope.correlation_id or None) == (same.envelope.correlation_id or None)


def test_a_refused_cloud_event_says_who_it_is() -> None:
    """Tenant, type and id in quarantine are the CloudEvent's own."""
    found = decode(_cloud(data={}, tenant_id="other"), RULES)
    assert isinstance(found, Refusal)
    assert (found.tenant_id, found.event_type, found.event_id) == ("acme", "door", "e1")


def test_a_cloud_event_of_the_largest_size_is_accepted() -> None:
    """Its own bytes count, not those of our names for it."""
    written = _cloud()
    for room, expected in ((0, "accepted"), (-1, "too_large")):
        assert (
            verdict(written, rules_for(DOOR, limits=Limits(max_event_bytes=len(written) + room))) == expected
        )


@pytest.mark.parametrize("first", ["x", "y"])
def test_the_last_of_two_keys_in_data_counts(first: str) -> None:
    """A repeated property is read as every JSON parser does: the last one."""
    found = decode(with_data(b'{"label":"%s","n":1,"label":"last"}' % first.encode()), RULES)
    assert isinstance(found, Row)
    assert found.data.c_label == "last"


def test_an_ordinary_event_takes_the_fast_path() -> None:
    """What nearly every event looks like is decided at once, with and without optional fields and blanks."""
    optional = event(correlation_id="c", received_time="2024-03-10T11:00:01.5+01:00")
    for payload in (
        wire(event()),
        wire(optional),
        wire(event(correlation_id=None)),
        json.dumps(event()).encode(),
    ):
        found = decode(payload, RULES)
        assert isinstance(found, Row)
        assert isinstance(found.envelope, WireEnvelope)


def test_a_schema_deeper_than_the_limit_is_no_way_around_it() -> None:
    """The limit on depth holds also where the schema itself allows more, and the event is small."""
    inner: dict[str, Any] = {"type": "integer"}
    for _ in range(4):
        inner = {"type": "array", "items": inner}
    deep = {"type": "object", "properties": {"x": inner}}
    for depth, expected in ((5, "too_deep"), (6, "accepted")):
        rules = rules_for(deep, limits=Limits(max_depth=depth))
        assert verdict(with_data(b'{"x":[[[[1]]]]}'), rules) == expected


def test_a_fault_spares_its_neighbours() -> None:
    """One bad unit inside an aggregate is refused by its own number; the others are accepted."""
    aggregate, units = Aggregate(), [wire(event(event_id=f"e{number}")) for number in range(5)]
    units[2] = b"\xff\xfe broken"
    for unit in units:
        aggregate.add(unit)
    decoded = Decoded()
    count = Decoder(RULES).decode(
        [record(b"{}", 1), record(aggregate.encode("key", "0"), 2), record(wire(event()), 3)], 10, decoded
    )
    assert count == 7
    assert [(row.record, row.subsequence_number) for row in decoded.rows] == [
        *((11, number) for number in (0, 1, 3, 4)),
        (12, 0),
    ]
    assert [(one.record, one.subsequence_number, one.code) for one in decoded.refusals] == [
        (10, 0, "bad_envelope"),
        (11, 2, "not_json"),
    ]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"tenant_id": "nobody"}, ("nobody", "door", "e1")),
        ({"tenant_id": "x" * 300}, ("x" * 256, "door", "e1")),
        ({"tenant_id": 5, "event_id": ["a"]}, (None, "door", None)),
    ],
)
def test_a_refusal_names_what_it_says_of_itself(
    change: dict[str, Any], names: tuple[str | None, str | None, str | None]
) -> None:
    """Tenant, type and id are noted for those who search quarantine, cut to a length, and only when they are texts."""
    found = decode(wire(event(**change)), rules_for(DOOR))
    assert isinstance(found, Refusal)
    assert (found.tenant_id, found.event_type, found.event_id) == names


@pytest.mark.parametrize("make", [lambda depth: b"[" * depth + b"]" * depth, lambda depth: b'{"a":' * depth])
def test_depth_costs_no_stack(make: Callable[[int], bytes]) -> None:
    """A hundred thousand brackets are refused, not recursed into."""
    rules = rules_for(DOOR, limits=Limits(max_event_bytes=2**20))
    assert verdict(make(100_000), rules) == "too_deep"
    assert verdict(with_data(make(100_000)), rules) == "too_deep"


def test_brackets_inside_strings_are_no_depth() -> None:
    """Only real nesting counts."""
    assert verdict(wire(event(source='{["\\' * 20)), RULES) == "accepted"


def test_a_long_event_is_judged_like_a_short_one() -> None:
    """The path that long events take gives the same verdicts and values as the fast one."""
    rules = rules_for({"type": "object", "properties": {**DOOR["properties"], "pad": {"type": "string"}}})
    pad = {"n": 3, "at": "2024-03-10T11:00:00.5Z"}
    short, long = decode(_data(**pad), rules), decode(_data(**pad, pad="x" * 6_000), rules)
    assert isinstance(short, Row)
    assert isinstance(long, Row)
    assert (short.data.c_n, short.data.c_at) == (long.data.c_n, long.data.c_at)
    assert (short.envelope.event_time, short.envelope.event_id) == (
        long.envelope.event_time,
        long.envelope.event_id,
    )
