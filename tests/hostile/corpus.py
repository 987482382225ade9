"""The corpus. Codes were written down before the first run; a class with the code `archived` only looks hostile."""

import json

from tests.core.kit import event, wire
from tests.hostile.case import ARCHIVED, Case, Written, cloud, data, ev, field, made, without
from tests.hostile.packed import PACKED

_KEYS = ("event_id", "tenant_id", "entity_id", "event_type", "schema_version", "source", "event_time", "data")


def _cut(at: bytes, more: int = 0) -> Written:
    def make(m: str) -> bytes:
        whole = ev(m, data={"n": -1, "label": "abc", "ok": True, "ratio": 1.5e3})
        return whole[: whole.index(at) + more]

    return f"cut {more} bytes into {at.decode()}", "not_json", make


JSON = made(
    "json",
    [
        *[_cut(f'"{key}"'.encode()) for key in _KEYS],
        *[_cut(f'"{key}"'.encode(), 4) for key in _KEYS],
        *[_cut(f'"{key}":'.encode(), len(key) + 2) for key in _KEYS],
        *[_cut(f'"{key}":'.encode(), len(key) + 3) for key in _KEYS],
        _cut(b"-1", 1),
        _cut(b"true", 3),
        _cut(b"1500.0", 5),
        _cut(b"}}", 1),
        ("text before", "not_json", lambda m: b"x" + ev(m)),
        ("text after", "not_json", lambda m: ev(m) + b"x"),
        ("two events glued", "not_json", lambda m: ev(m) * 2),
        ("two events, comma", "not_json", lambda m: ev(m) + b"," + ev(m)),
        ("closing brace twice", "not_json", lambda m: ev(m) + b"}"),
        ("single quotes", "not_json", lambda m: ev(m).replace(b'"', b"'")),
        ("comment", "not_json", lambda m: b"/* */" + ev(m)),
        ("line comment", "not_json", lambda m: ev(m) + b"//"),
        ("trailing comma", "not_json", lambda m: ev(m)[:-1] + b",}"),
        ("leading comma", "not_json", lambda m: b"{," + ev(m)[1:]),
        ("semicolons", "not_json", lambda m: ev(m).replace(b",", b";")),
        ("no colon", "not_json", lambda m: ev(m).replace(b'"source":', b'"source"')),
        ("unquoted key", "not_json", lambda m: ev(m).replace(b'"source":', b"source:")),
        ("python literals", "not_json", data('{"n":1,"ok":True}')),
        ("undefined", "not_json", data('{"n":undefined}')),
        ("form", "not_json", lambda m: f"event_id={m}&tenant_id=acme".encode()),
        (
            "xml",
            "not_json",
            lambda m: f'<?xml version="1.0"?><!ENTITY x SYSTEM "file:///etc/passwd"><e>{m}</e>'.encode(),
        ),
        ("csv", "not_json", lambda m: f"event_id,tenant_id\n{m},acme\n".encode()),
        ("yaml", "not_json", lambda m: f"event_id: {m}\ntenant_id: acme\n".encode()),
        ("jsonp", "not_json", lambda m: b"f(" + ev(m) + b")"),
        ("anti-hijacking prefix", "not_json", lambda m: b")]}',\n" + wire({"n": m})[:-1]),
        ("record separator", "not_json", lambda m: b"\x1e" + ev(m)),
        ("null", "bad_envelope", lambda _: b"null"),
        ("true", "bad_envelope", lambda _: b"true"),
        ("a number", "bad_envelope", lambda _: b"42"),
        ("a string", "bad_envelope", lambda m: json.dumps(m).encode()),
        ("an empty object", "bad_envelope", lambda _: b"{}"),
        ("pretty-printed", ARCHIVED, lambda m: json.dumps(event(event_id=m), indent=4).encode()),
        ("blanks around", ARCHIVED, lambda m: b"\r\n\t " + ev(m) + b" \n"),
        ("keys backwards", ARCHIVED, lambda m: wire(dict(reversed(event(event_id=m).items())))),
        ("all characters escaped", ARCHIVED, field("entity_id", '"\\u0064\\u006f\\u006f\\u0072"')),
        ("escaped slash", ARCHIVED, field("entity_id", '"a\\/b"')),
    ],
)

DEPTH = made(
    "depth",
    [
        ("arrays", "too_deep", data('{"n":1,"free":' + "[" * 40 + "]" * 40 + "}")),
        ("objects", "too_deep", data('{"n":1,"free":' + '{"a":' * 40 + "1" + "}" * 40 + "}")),
        ("mixed", "too_deep", data('{"n":1,"free":' + '[{"a":' * 20 + "1" + "}]" * 20 + "}")),
        ("a thousand arrays", "too_deep", data('{"n":1,"free":' + "[" * 1_000 + "]" * 1_000 + "}")),
        ("a hundred thousand arrays", "too_deep", data('{"n":' + "[" * 100_000 + "]" * 100_000 + "}")),
        ("a hundred thousand objects, open", "too_deep", lambda m: ev(m)[:-1] + b',"x":' + b'{"a":' * 40_000),
        ("arrays in the envelope", "too_deep", field("entity_id", '["@",' + "[" * 40 + "]" * 40 + "]")),
        ("only brackets", "too_deep", lambda _: b"[" * 10_000),
        ("only braces", "too_deep", lambda _: b'{"":' * 10_000),
        ("one level too many", "too_deep", data('{"n":1,"free":' + "[" * 31 + "]" * 31 + "}")),
        ("as deep as is allowed", ARCHIVED, data('{"n":1,"free":' + "[" * 30 + "]" * 30 + "}")),
        ("brackets in a string", ARCHIVED, field("entity_id", '"' + "[{" * 60 + '"')),
        ("escaped quotes and brackets", ARCHIVED, field("entity_id", '"' + '\\"[' * 60 + '"')),
    ],
)

_BIG = "number_out_of_range"
NUMBERS = made(
    "number",
    [
        ("1e400", "not_json", data('{"n":1,"ratio":1e400}')),
        ("-1e400", "not_json", data('{"n":1,"ratio":-1e400}')),
        ("NaN", "not_json", data('{"n":1,"ratio":NaN}')),
        ("Infinity", "not_json", data('{"n":1,"ratio":Infinity}')),
        ("-Infinity", "not_json", data('{"n":1,"ratio":-Infinity}')),
        ("NaN as text", "schema_mismatch", data('{"n":1,"ratio":"NaN"}')),
        ("leading zero", "not_json", data('{"n":01}')),
        ("minus leading zero", "not_json", data('{"n":-01}')),
        ("plus", "not_json", data('{"n":+1}')),
        ("minus alone", "not_json", data('{"n":-}')),
        ("hex", "not_json", data('{"n":0x10}')),
        ("octal", "not_json", data('{"n":0o7}')),
        ("underscore", "not_json", data('{"n":1_000}')),
        ("thousands", "not_json", data('{"n":1,000}')),
        ("point alone", "not_json", data('{"n":1.}')),
        ("point first", "not_json", data('{"n":.5}')),
        ("exponent alone", "not_json", data('{"n":1e}')),
        ("big suffix", "not_json", data('{"n":1n}')),
        ("other digits", "not_json", data('{"n":\u0661}')),
        ("2^63", _BIG, data('{"n":9223372036854775808}')),
        ("2^63 in anything", _BIG, data('{"n":1,"free":[9223372036854775808]}')),
        ("2^64", _BIG, data('{"n":18446744073709551616}')),
        ("-2^63-1", _BIG, data('{"n":-9223372036854775809}')),
        ("2^63 as a float", _BIG, data('{"n":9223372036854775808.0}')),
        ("1e30 as an integer", _BIG, data('{"n":1e30}')),
        ("a thousand digits", _BIG, data('{"n":' + "9" * 1_000 + "}")),
        ("a hundred thousand digits", _BIG, data('{"n":' + "9" * 100_000 + "}")),
        ("2^63 in the envelope", _BIG, field("schema_version", "9223372036854775808")),
        ("half", "schema_mismatch", data('{"n":0.5}')),
        ("integer as text", "schema_mismatch", data('{"n":"1"}')),
        ("2^63-1", ARCHIVED, data('{"n":9223372036854775807}')),
        ("-2^63", ARCHIVED, data('{"n":-9223372036854775808}')),
        ("-0", ARCHIVED, data('{"n":-0}')),
        ("-0.0", ARCHIVED, data('{"n":1,"ratio":-0.0}')),
        ("1e-400", ARCHIVED, data('{"n":1,"ratio":1e-400}')),
        ("largest double", ARCHIVED, data('{"n":1,"ratio":1.7976931348623157e308}')),
        ("smallest double", ARCHIVED, data('{"n":1,"ratio":5e-324}')),
        ("400 decimals", ARCHIVED, data('{"n":1,"ratio":0.' + "3" * 400 + "}")),
        ("1.0 as an integer", ARCHIVED, data('{"n":1.0}')),
        ("1E2 as an integer", ARCHIVED, data('{"n":1E2}')),
    ],
)


def _twice(key: str, value: str) -> Written:
    spelled = key.replace("_", "\\u005f", 1) if "_" in key else "\\u0073ource"
    return (
        f"{key}, escaped",
        "duplicate_key",
        lambda m: ev(m)[:-1] + f',"{spelled}":{value}}}'.encode(),
    )


KEYS = made(
    "key",
    [
        *[
            (f"{key} twice", "duplicate_key", lambda m, key=key: ev(m)[:-1] + f',"{key}":"{m}"}}'.encode())
            for key in (*_KEYS, "correlation_id")
            if key != "correlation_id"
        ],
        _twice("tenant_id", '"globex"'),
        _twice("event_id", '"other"'),
        _twice("schema_version", "2"),
        _twice("source", '"elsewhere"'),
        ("twice with equal value", "duplicate_key", lambda m: ev(m)[:-1] + b',"tenant_id":"acme"}'),
        ("unknown twice", "duplicate_key", lambda m: ev(m)[:-1] + b',"x":1,"x":2}'),
        ("unknown", "bad_envelope", lambda m: ev(m, is_admin=True)),
        ("another case", "bad_envelope", lambda m: ev(m, Tenant_ID="globex")),
        ("prototype", "bad_envelope", lambda m: ev(m, __proto__={"tenant_id": "globex"})),
        ("empty", "bad_envelope", lambda m: ev(m, **{"": 1})),
        ("NUL inside", "bad_envelope", lambda m: ev(m, **{"tenant_id\0": "globex"})),
        ("our column is_duplicate", "bad_envelope", lambda m: ev(m, is_duplicate=True)),
        ("our column ingested_time", "bad_envelope", lambda m: ev(m, ingested_time="2024-01-01T00:00:00Z")),
        ("our column sequence_number", "bad_envelope", lambda m: ev(m, sequence_number="1")),
        ("lone surrogate", "not_json", lambda m: ev(m)[:-1] + b',"\\ud800":1}'),
        ("unknown in data", "schema_mismatch", data('{"n":1,"more":2}')),
        ("prototype in data", "schema_mismatch", data('{"n":1,"__proto__":{}}')),
        (
            "a thousand in data",
            "too_many_keys",
            lambda m: ev(m, data={"n": 1, "free": dict.fromkeys(map(str, range(1_000)), 0)}),
        ),
        (
            "a thousand over many objects",
            "too_many_keys",
            lambda m: ev(m, data={"n": 1, "free": [{"a": 1}] * 1_000}),
        ),
        ("huge", "string_too_long", lambda m: ev(m, data={"n": 1, "free": {"k" * 70_000: 0}})),
        ("twice in data", ARCHIVED, data('{"n":1,"n":2}')),
        (
            "prototype in anything",
            ARCHIVED,
            data('{"n":1,"free":{"__proto__":{"polluted":true},"constructor":1}}'),
        ),
    ],
)

TEXT = made(
    "text",
    [
        ("lone high surrogate", "not_json", field("entity_id", '"@\\ud800"')),
        ("lone low surrogate", "not_json", field("entity_id", '"@\\udc00"')),
        ("reversed surrogates", "not_json", field("entity_id", '"@\\udc00\\ud800"')),
        ("two high surrogates", "not_json", field("entity_id", '"@\\ud800\\ud800"')),
        ("surrogate in data", "not_json", data('{"n":1,"label":"\\ud83d"}')),
        ("surrogate in anything", "not_json", data('{"n":1,"free":"\\udfff"}')),
        ("surrogate as UTF-8", "not_json", lambda m: ev(m, entity_id="@").replace(b"@", b"\xed\xa0\x80")),
        ("raw NUL", "not_json", lambda m: ev(m, entity_id="@").replace(b"@", b"\0")),
        ("raw newline", "not_json", lambda m: ev(m, entity_id="@").replace(b"@", b"\n")),
        ("raw tab", "not_json", lambda m: ev(m, entity_id="@").replace(b"@", b"\t")),
        ("raw escape", "not_json", lambda m: ev(m, entity_id="@").replace(b"@", b"\x1b[31m")),
        ("NUL after", "not_json", lambda m: ev(m) + b"\0"),
        ("NUL before", "not_json", lambda m: b"\0" + ev(m)),
        ("NUL between", "not_json", lambda m: ev(m).replace(b',"source"', b',\0"source"')),
        ("bad escape", "not_json", field("entity_id", '"@\\x41"')),
        ("short escape", "not_json", field("entity_id", '"@\\u00"')),
        ("escape of no hex", "not_json", field("entity_id", '"@\\u00zz"')),
        ("backslash at the end", "not_json", field("entity_id", '"@\\"')),
        ("UTF-8 BOM", "not_json", lambda m: b"\xef\xbb\xbf" + ev(m)),
        ("UTF-16", "not_json", lambda m: ev(m).decode().encode("utf-16")),
        ("UTF-16 LE", "not_json", lambda m: ev(m).decode().encode("utf-16-le")),
        ("UTF-16 BE", "not_json", lambda m: ev(m).decode().encode("utf-16-be")),
        ("UTF-32", "not_json", lambda m: ev(m).decode().encode("utf-32")),
        ("UTF-32 BE", "not_json", lambda m: ev(m).decode().encode("utf-32-be")),
        ("UTF-7", "not_json", lambda m: b"+AHs-" + ev(m)[1:]),
        ("latin-1", "not_json", lambda m: ev(m, entity_id="@").replace(b"@", "Zürich".encode("latin-1"))),
        ("EBCDIC", "not_json", lambda m: ev(m).decode().encode("cp500")),
        ("overlong slash", "not_json", lambda m: ev(m, entity_id="@").replace(b"@", b"\xc0\xaf")),
        ("overlong NUL", "not_json", lambda m: ev(m, entity_id="@").replace(b"@", b"\xc0\x80")),
        (
            "five bytes of UTF-8",
            "not_json",
            lambda m: ev(m, entity_id="@").replace(b"@", b"\xf8\x88\x80\x80\x80"),
        ),
        ("beyond Unicode", "not_json", lambda m: ev(m, entity_id="@").replace(b"@", b"\xf4\x90\x80\x80")),
        ("half a character", "not_json", lambda m: ev(m, entity_id="@").replace(b"@", b"\xe2\x82")),
        ("bad UTF-8 in data", "not_json", data('{"n":1,"label":"@"}')),
        ("huge id", "string_too_long", lambda m: ev(m, entity_id=m * 10_000)),
        ("huge text in data", "string_too_long", lambda m: ev(m, data={"n": 1, "free": "x" * 70_000})),
        (
            "huge text of wide characters",
            "string_too_long",
            lambda m: ev(m, data={"n": 1, "free": "\u20ac" * 25_000}),
        ),
        ("huge event", "too_large", lambda m: ev(m, data={"n": 1, "free": ["x" * 60_000] * 5})),
        ("huge of blanks", "too_large", lambda m: ev(m)[:-1] + b" " * 300_000 + b"}"),
        ("escaped NUL", ARCHIVED, field("entity_id", '"a\\u0000b"')),
        ("escaped controls", ARCHIVED, field("entity_id", '"\\u0001\\u001f\\u007f\\u0085"')),
        ("pair of surrogates", ARCHIVED, field("entity_id", '"\\ud83d\\ude00"')),
        ("noncharacters", ARCHIVED, field("entity_id", '"\\uffff\\ufffe\\ufdd0"')),
        ("line separators", ARCHIVED, field("entity_id", '"\u2028\u2029"')),
        ("right to left", ARCHIVED, field("entity_id", '"\u202egpj.exe"')),
        ("many combining marks", ARCHIVED, field("entity_id", '"e' + "\u0301" * 200 + '"')),
        ("zero width", ARCHIVED, field("entity_id", '"\u200b\ufeff"')),
        ("replacement character", ARCHIVED, field("entity_id", '"\ufffd"')),
        ("64 KiB of text", ARCHIVED, lambda m: ev(m, data={"n": 1, "free": "x" * 65_536})),
    ],
)
TEXT[:] = [
    one._replace(payload=one.payload.replace(b"@", b"\xff"))
    if one.kind.endswith("bad UTF-8 in data")
    else one
    for one in TEXT
]

_WRONG = {"null": "null", "a number": "7", "true": "true", "an array": '["@"]', "an object": '{"a":"@"}'}
ENVELOPE = made(
    "envelope",
    [
        *[(f"no {key}", "bad_envelope", without(key)) for key in _KEYS],
        *[
            (f"{key} is {kind}", "bad_envelope", field(key, raw))
            for key in ("event_id", "tenant_id", "entity_id", "event_type", "source", "event_time")
            for kind, raw in _WRONG.items()
        ],
        *[
            (f"schema_version is {raw}", "bad_envelope", field("schema_version", raw))
            for raw in ('"1"', "null", "true", "[1]", "{}", "0", "-1", "1.5", "1.0", "2147483648")
        ],
        *[
            (f"data is {raw}", "bad_envelope", field("data", raw))
            for raw in ('"{}"', "null", "[]", "1", "false")
        ],
        ("correlation_id is a number", "bad_envelope", field("correlation_id", "1")),
        ("correlation_id is empty", "bad_envelope", field("correlation_id", '""')),
        ("received_time is null", "bad_envelope", field("received_time", "null")),
        ("event_id is empty", "bad_envelope", field("event_id", '""')),
        ("event_id of 129", "bad_envelope", field("event_id", '"' + "x" * 129 + '"')),
        ("entity_id of 257", "bad_envelope", field("entity_id", '"' + "x" * 257 + '"')),
        ("source of 257", "bad_envelope", field("source", '"' + "x" * 257 + '"')),
        ("another tenant", "unknown_tenant", lambda m: ev(m, tenant_id="initech")),
        ("another type", "unknown_type", lambda m: ev(m, event_type="window")),
        ("another version", "unknown_version", lambda m: ev(m, schema_version=2)),
        ("largest version", "unknown_version", lambda m: ev(m, schema_version=2**31 - 1)),
        (
            "event_id of 128 wide characters",
            ARCHIVED,
            lambda m: ev(m, event_id=(m + "\U0001f600" * 128)[:128]),
        ),
        ("entity_id of 256", ARCHIVED, field("entity_id", '"' + "x" * 256 + '"')),
        ("correlation_id is null", ARCHIVED, field("correlation_id", "null")),
    ],
)

DATA = made(
    "data",
    [
        (kind, "schema_mismatch", data(raw))
        for kind, raw in {
            "required is missing": "{}",
            "integer is null": '{"n":null}',
            "integer is true": '{"n":true}',
            "integer is an array": '{"n":[1]}',
            "text is a number": '{"n":1,"label":1}',
            "text is too long": '{"n":1,"label":"12345678901"}',
            "boolean is 1": '{"n":1,"ok":1}',
            "boolean is text": '{"n":1,"ok":"true"}',
            "number is text": '{"n":1,"ratio":"1.5"}',
            "date is a date-time": '{"n":1,"day":"2024-03-10T00:00:00Z"}',
            "date that never was": '{"n":1,"day":"2023-02-29"}',
            "date-time without an offset": '{"n":1,"at":"2024-03-10T11:00:00"}',
            "array is text": '{"n":1,"tags":"a"}',
            "array of numbers": '{"n":1,"tags":[1]}',
            "array with null": '{"n":1,"tags":[null]}',
            "object is an array": '{"n":1,"place":[]}',
            "object has more": '{"n":1,"place":{"lat":1,"lon":2}}',
            "object's number is text": '{"n":1,"place":{"lat":"1"}}',
            "no word of the list": '{"n":1,"level":"LOW"}',
        }.items()
    ],
)

_NAMES = {
    "dots": "..", "parent": "../../etc/passwd", "parent, escaped": "%2e%2e%2f", "backslashes": "..\\\\..\\\\x",
    "slash": "acme/globex", "hash": "acme#globex", "tilde": "~root", "control": "acme\\u0000", "newline": "acme\\n",
    "blank": "acme ", "upper case": "ACME", "star": "*", "wide": "\uff41cme", "Cyrillic": "\u0430cme", "empty": "",
    "of 64": "a" * 64, "equals": "dt=2024-01-01", "dash first": "-acme", "template": "${HOME}", "quote": "a'--",
}  # fmt: skip
PATHS = made(
    "path",
    [
        *[
            (f"tenant: {kind}", "bad_envelope", field("tenant_id", f'"{raw}"'))
            for kind, raw in _NAMES.items()
        ],
        *[(f"type: {kind}", "bad_envelope", field("event_type", f'"{raw}"')) for kind, raw in _NAMES.items()],
        ("tenant: of our own", "bad_envelope", field("tenant_id", '"_unknown"')),
        ("tenant: dots inside", "unknown_tenant", field("tenant_id", '"a..b"')),
        ("type: dots inside", "unknown_type", field("event_type", '"a..b"')),
        ("type: quarantine", "unknown_type", field("event_type", '"quarantine"')),
        *[
            (f"entity: {kind}", ARCHIVED, field("entity_id", f'"{raw}"'))
            for kind, raw in _NAMES.items()
            if raw
        ],
    ],
)

_INJECTIONS = {
    "log line": 'a\\n{\\"level\\":\\"ERROR\\",\\"fact\\":\\"WorkerCrashed\\"}', "carriage return": "a\\r\\nb",
    "ANSI": "\\u001b[31mred\\u001b[0m", "clear screen": "\\u001bc\\u0007", "formula": "=cmd()",
    "formula by a blank": " =1+1", "formula, at": "@SUM(1)", "formula, plus": "+1+cmd|' /C calc'!A0", "JNDI": "${jndi:ldap://127.0.0.1/a}",
    "SQL": "'; DROP TABLE events; --", "script": "<script>alert(1)</script>", "format": "%s%n%x", "braces": "{0.__class__}",
    "shell": "$(touch /tmp/x)`id`", "commas": 'a,\\"b\\",c', "protocol": '{\\"action\\":\\"checkpoint\\"}',
}  # fmt: skip
INJECTION = made(
    "injection",
    [
        *[(f"entity: {kind}", ARCHIVED, field("entity_id", f'"{raw}"')) for kind, raw in _INJECTIONS.items()],
        *[(f"source: {kind}", ARCHIVED, field("source", f'"@{raw}"')) for kind, raw in _INJECTIONS.items()],
        *[
            (f"tenant: {kind}", "bad_envelope", field("tenant_id", f'"{raw}"'))
            for kind, raw in _INJECTIONS.items()
        ],
        *[
            (f"bare: {kind}", "not_json", lambda m, raw=raw: f"{m} {raw}".encode())
            for kind, raw in _INJECTIONS.items()
        ],
        *[
            (f"label: {kind}", "schema_mismatch", data(f'{{"n":1,"label":["{raw}"]}}'))
            for kind, raw in _INJECTIONS.items()
        ],
    ],
)

TIMES = made(
    "time",
    [
        *[
            (kind, "bad_envelope", field("event_time", f'"{raw}"'))
            for kind, raw in {
                "29 February": "2023-02-29T11:00:00Z",
                "31 April": "2024-04-31T11:00:00Z",
                "month 13": "2024-13-01T11:00:00Z",
                "day 0": "2024-03-00T11:00:00Z",
                "hour 24": "2024-03-10T24:00:00Z",
                "minute 60": "2024-03-10T11:60:00Z",
                "second 61": "2024-03-10T11:00:61Z",
                "leap second": "2016-12-31T23:59:60Z",
                "year 0": "0000-01-01T00:00:00Z",
                "before year 1": "0001-01-01T00:00:00+00:01",
                "after 9999": "9999-12-31T23:59:59-00:01",
                "five digits": "12024-03-10T11:00:00Z",
                "negative year": "-0001-03-10T11:00:00Z",
                "no offset": "2024-03-10T11:00:00",
                "offset without colon": "2024-03-10T11:00:00+0100",
                "offset of 24 h": "2024-03-10T11:00:00+24:00",
                "offset of hours": "2024-03-10T11:00:00+01",
                "a blank": "2024-03-10 11:00:00Z",
                "week": "2024-W10-7T11:00:00Z",
                "ordinal": "2024-070T11:00:00Z",
                "basic": "20240310T110000Z",
                "a date": "2024-03-10",
                "an hour": "11:00:00Z",
                "comma": "2024-03-10T11:00:00,5Z",
                "no seconds": "2024-03-10T11:00Z",
                "point alone": "2024-03-10T11:00:00.Z",
                "a zone": "2024-03-10T11:00:00[UTC]",
                "epoch": "1710072000",
                "HTTP": "Sun, 10 Mar 2024 11:00:00 GMT",
                "now": "now",
                "empty": "",
                "other digits": "\u0662024-03-10T11:00:00Z",
                "newline": "2024-03-10T11:00:00Z\\n",
                "NUL": "2024-03-10T11:00:00Z\\u0000",
                "blanks around": " 2024-03-10T11:00:00Z ",
            }.items()
        ],
        ("far future", "time_in_future", field("event_time", '"2999-01-01T00:00:00Z"')),
        ("last second of 9999", "time_in_future", field("event_time", '"9999-12-31T23:59:59Z"')),
        ("future by offset", "time_in_future", field("event_time", '"9999-12-31T23:59:59+14:00"')),
        ("first second of 1", ARCHIVED, field("event_time", '"0001-01-01T00:00:00Z"')),
        ("before 1970", ARCHIVED, field("event_time", '"1969-12-31T23:59:59.999999Z"')),
        ("largest offset", ARCHIVED, field("event_time", '"2024-03-10T11:00:00+23:59"')),
        ("nanoseconds", ARCHIVED, field("event_time", '"2024-03-10T11:00:00.123456789Z"')),
        ("small letters", ARCHIVED, field("event_time", '"2024-03-10t11:00:00z"')),
        ("leap second in data", ARCHIVED, data('{"n":1,"at":"2016-12-31T23:59:60Z"}')),
    ],
)

CLOUD = made(
    "cloud",
    [
        ("as it should be", ARCHIVED, cloud()),
        ("extensions", ARCHIVED, cloud(traceparent="00-1", partitionkey="x", sequence=1)),
        ("formula as subject", ARCHIVED, cloud(subject="=cmd()")),
        ("specversion 0.3", "bad_envelope", cloud(specversion="0.3")),
        ("specversion 1.1", "bad_envelope", cloud(specversion="1.1")),
        ("specversion is a number", "bad_envelope", cloud(specversion=1)),
        ("specversion is null", "bad_envelope", cloud(specversion=None)),
        ("no id", "bad_envelope", cloud(id=None, correlationid="c")),
        ("no subject", "bad_envelope", cloud(subject=None)),
        ("no tenantid", "bad_envelope", cloud(tenantid=None)),
        ("no dataschema", "bad_envelope", cloud(dataschema=None)),
        ("no data", "bad_envelope", cloud(data=None)),
        ("dataschema without a version", "bad_envelope", cloud(dataschema="https://example.com/door")),
        ("dataschema is a path trick", "bad_envelope", cloud(dataschema="file:///../../1/..")),
        ("tenant of another name", "bad_envelope", cloud(tenantid=None, tenant_id="acme")),
        ("tenant is a path", "bad_envelope", cloud(tenantid="../x")),
        ("our envelope and specversion", "bad_envelope", lambda m: ev(m, specversion="1.0")),
        ("base64", "unsupported_content", cloud(data_base64="eyJuIjoxfQ==", data=None)),
        ("base64 and data", "unsupported_content", cloud(data_base64="eyJuIjoxfQ==")),
        ("XML", "unsupported_content", cloud(datacontenttype="application/xml")),
        ("id twice", "duplicate_key", lambda m: cloud()(m)[:-1] + b',"id":"x"}'),
        ("tenantid twice, escaped", "duplicate_key", lambda m: cloud()(m)[:-1] + b',"tenant\\u0069d":"x"}'),
        ("unknown tenant", "unknown_tenant", cloud(tenantid="initech")),
        ("unknown type", "unknown_type", cloud(type="window")),
        ("unknown version", "unknown_version", cloud(dataschema="https://example.com/door/9")),
        ("data against its schema", "schema_mismatch", cloud(data={"n": "x"})),
        ("2^63", "number_out_of_range", cloud(data={"n": 2**63})),
        ("far future", "time_in_future", cloud(time="2999-01-01T00:00:00Z")),
        ("cut", "not_json", lambda m: cloud()(m)[:-1]),
        ("deep extension", "too_deep", cloud(x=json.loads("[" * 40 + "]" * 40))),
        ("huge extension", "string_too_long", cloud(x="x" * 70_000)),
    ],
)  # fmt: skip

CASES: list[Case] = [
    *JSON, *DEPTH, *NUMBERS, *KEYS, *TEXT, *ENVELOPE, *DATA, *PATHS, *INJECTION, *TIMES, *CLOUD, *PACKED,
]  # fmt: skip
