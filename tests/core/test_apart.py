"""What a record may hold: every form, its neighbours, its limits; and that no form loses or invents a unit."""

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.apart import take_apart, weight
from pipeline.core.decode import Decoded, Decoder
from pipeline.core.event import Limits, Record, Row
from pipeline.core.kpl import MAGIC, Aggregate, split
from pipeline.core.open_segment import OpenSegment
from pipeline.core.segment import Position
from pipeline.core.structure import elements, is_one_value
from pipeline.core.subsequence import stream_order, unit_numbers, user_record
from tests.core.kit import ARRIVED_US, DOOR, cloud_event, event, record, rules_for, wire, with_data

RULES = rules_for(DOOR)
LIMITS = Limits()
SMALL = Limits(max_record_events=20, max_inflated_bytes=4_000, max_inflation=10)
DEEP = b"".join(b"[%d," % (number * 7_919 % 99_991) for number in range(3_000)) + b"0" + b"]" * 3_000


def _events(count: int) -> list[bytes]:
    return [wire(event(event_id=f"e{number}", data={"n": number})) for number in range(count)]


def _units(*records: Record, limits: Limits = LIMITS) -> Decoded:
    decoded = Decoded()
    count = Decoder(rules_for(DOOR, limits=limits)).decode(records, 0, decoded)
    assert count == len(decoded.rows) + len(decoded.refusals)
    return decoded


def _ids(decoded: Decoded) -> list[str]:
    return [row.envelope.event_id for row in decoded.rows]


def _codes(decoded: Decoded) -> list[str]:
    return [str(refusal.code) for refusal in decoded.refusals]


FORMS = {
    "NDJSON": b"\n".join(_events(3)),
    "NDJSON, CRLF, blank lines, last newline": b"\r\n\r\n".join([b"", *_events(3), b" \t", b""]),
    "batch": b"[" + b",".join(_events(3)) + b"]",
    "batch, pretty-printed": json.dumps([json.loads(one) for one in _events(3)], indent=2).encode(),
    "batch, blanks around": b" \r\n[ " + b" ,\n".join(_events(3)) + b"\t]\n",
    "NDJSON, gzipped": gzip.compress(b"\n".join(_events(3))),
    "batch, gzipped": gzip.compress(b"[" + b",".join(_events(3)) + b"]"),
    "NDJSON of CloudEvents": b"\n".join(wire(cloud_event(id=f"e{number}")) for number in range(3)),
    "batch of CloudEvents": wire([cloud_event(id=f"e{number}") for number in range(3)]),
    "batch, both kinds": b"[%s,%s,%s]" % (_events(1)[0], wire(cloud_event(id="e1")), _events(3)[2]),
}


@pytest.mark.parametrize("data", FORMS.values(), ids=FORMS)
def test_every_form_holds_its_events(data: bytes) -> None:
    """Each form gives its events in order, numbered as units of one user record."""
    decoded = _units(record(data))
    assert (_ids(decoded), _codes(decoded)) == (["e0", "e1", "e2"], [])
    assert [row.subsequence_number for row in decoded.rows] == [0, 1 << 32, 2 << 32]


@pytest.mark.parametrize(
    "one",
    [wire(event()), json.dumps(event(), indent=2).encode(), wire(cloud_event()), wire([event()])],
    ids=["event", "pretty-printed event", "CloudEvent", "batch of one"],
)
@pytest.mark.parametrize("wrap", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_single_event_is_unit_zero(one: bytes, wrap: type) -> None:
    """One event keeps Kinesis' own sub-sequence number, in whatever form it came."""
    decoded = _units(Record("7", "key", wrap(one), ARRIVED_US, subsequence_number=5))
    assert [row.subsequence_number for row in decoded.rows] == [5]
    assert not decoded.refusals


def test_an_aggregate_of_every_form() -> None:
    """User record and unit together number what an aggregate holds, ours or as KCL takes it apart."""
    aggregate, data = Aggregate(), [_events(1)[0], *FORMS.values(), _events(1)[0]]
    for one in data:
        aggregate.add(one)
    whole = aggregate.encode("key", "0")
    by_us = _units(record(whole))
    by_kcl = _units(*(Record("1", "key", one, ARRIVED_US, at) for at, one in enumerate(split(whole))))
    assert [row.subsequence_number for row in by_us.rows] == [row.subsequence_number for row in by_kcl.rows]
    assert _ids(by_us) == _ids(by_kcl)
    numbers = [row.subsequence_number for row in by_us.rows]
    assert len(set(numbers)) == len(numbers) == 2 + 3 * len(FORMS)
    assert [user_record(one) for one in numbers] == [0, *(at // 3 + 1 for at in range(3 * len(FORMS))), 11]
    assert sorted(numbers, key=stream_order) == numbers


@given(st.integers(0, 2**32 - 2), st.integers(1, 50))
def test_numbers(first: int, units: int) -> None:
    """A number says its user record, and sorts as the units came; the first unit is Kinesis' own number."""
    numbers = list(unit_numbers(first, units))
    assert numbers[0] == first
    assert len(set(numbers)) == units
    assert {user_record(one) for one in numbers} == {first}
    assert [stream_order(one) for one in numbers] == sorted(stream_order(one) for one in numbers)
    assert stream_order(numbers[-1]) < stream_order(first + 1) < 2**63
    assert Position("1", numbers[-1]) < Position("1", first + 1)


BROKEN = {
    "cut": b'{"event_id":"x',
    "one brace too many": b'{"event_id":"x"}}',
    "rubbish": b"\xff\xfe\x00",
    "byte order mark": b"\xef\xbb\xbf" + _events(1)[0],
    "a number": b"17",
    "a string": b'"text"',
    "deep": DEEP,
    "NaN": _events(1)[0].replace(b'"n":0', b'"n":NaN'),
    "lone surrogate": _events(1)[0].replace(b"e0", b"\\ud800"),
}


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("bad", BROKEN.values(), ids=BROKEN)
def test_a_broken_line_spares_its_neighbours(bad: bytes, at: int) -> None:
    """Whatever a line is, wherever it stands, the good lines are archived and it is kept alone."""
    lines = _events(2)
    lines.insert(at, bad)
    for data in (b"\n".join(lines), gzip.compress(b"\n".join(lines))):
        decoded = _units(record(data))
        assert _ids(decoded) == ["e0", "e1"]
        assert [(one.raw, one.subsequence_number) for one in decoded.refusals] == [(bad, at << 32)]


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize(
    "bad",
    [BROKEN[name] for name in ("a number", "a string", "deep", "NaN", "lone surrogate")]
    + [b"tru", b'{"a":1,}', b"01", b'"raw\nnewline"', b"{}", b"[]", b"[[1]]", b'"\\x"', b'"\xff"', b"- 1"],
)
def test_a_broken_element_spares_its_neighbours(bad: bytes, at: int) -> None:
    """What is wrong inside one element of a batch is that element's fault alone."""
    found = _events(2)
    found.insert(at, bad)
    decoded = _units(record(b"[" + b" , ".join(found) + b"]"))
    assert _ids(decoded) == ["e0", "e1"]
    assert [(one.raw, one.subsequence_number) for one in decoded.refusals] == [(bad, at << 32)]


WHOLE = {
    "empty batch": (b"[]", "bad_envelope"),
    "batch without its end": (b"[" + b",".join(_events(2)), "not_json"),
    "batch with a comma too many": (b"[" + b",".join(_events(2)) + b",]", "not_json"),
    "batch and something": (b"[" + b",".join(_events(2)) + b"]]", "not_json"),
    "batch with an open string": (b'["' + b",".join(_events(2)) + b"]", "not_json"),
    "batch that ends as an object": (b"[" + b",".join(_events(2)) + b"}", "not_json"),
    "deep batch without its end": (b"[" * 5_000, "too_deep"),
    "long batch without its end": (b"[" + b",".join(_events(2_000)), "not_json"),
    "pretty-printed event, cut": (json.dumps(event(), indent=2).encode()[:-1], "not_json"),
    "pretty-printed event with NaN": (
        json.dumps(event(data={"n": float("nan"), "x": [{}]}), indent=1).encode(),
        "not_json",
    ),
    "pretty-printed batch, cut": (
        b"[\n" + b",\n".join(_events(3)),
        "not_json",
    ),
    "two broken lines": (b'{"a":\n{"b":', "not_json"),
    "two events without a newline": (_events(1)[0] * 2, "not_json"),
    "nothing": (b"", "not_json"),
    "blanks": (b" \n\n ", "not_json"),
}


@pytest.mark.parametrize(("data", "code"), WHOLE.values(), ids=WHOLE)
def test_what_cannot_be_taken_apart_stays_whole(data: bytes, code: str) -> None:
    """One refused unit, with all its bytes."""
    decoded = _units(record(data))
    assert [(str(one.code), one.raw, one.subsequence_number) for one in decoded.refusals] == [(code, data, 0)]
    assert not decoded.rows


def _gzip(body: bytes, **parts: bytes) -> bytes:
    """Return a gzip by hand: fixed header, body, trailer, with parts replaced."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return b"".join(
        [
            parts.get("head", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"),
            parts.get("deflated", deflate.compress(body) + deflate.flush()),
            parts.get("crc", zlib.crc32(body).to_bytes(4, "little")),
            parts.get("size", len(body).to_bytes(4, "little")),
        ]
    )


BODY = b"\n".join(_events(5))
WITH_NAME = b"\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\xffevents.ndjson\x00"
BAD_GZIPS = {
    "header only": b"\x1f\x8b\x08",
    "cut in the middle": _gzip(BODY)[:-20],
    "cut by a byte": _gzip(BODY)[:-1],
    "one byte more": _gzip(BODY) + b"\0",
    "a second member": _gzip(BODY) + _gzip(BODY),
    "wrong CRC": _gzip(BODY, crc=b"\0\0\0\0"),
    "announces less": _gzip(BODY, size=(10).to_bytes(4, "little")),
    "announces more": _gzip(BODY, size=(len(BODY) + 1).to_bytes(4, "little")),
    "announces nothing": _gzip(BODY, size=bytes(4)),
    "announces 4 GB": _gzip(BODY, size=b"\xff\xff\xff\xff"),
    "damaged": _gzip(BODY, deflated=b"\xff" * 40),
    "reserved flags": _gzip(BODY, head=b"\x1f\x8b\x08\xe0\x00\x00\x00\x00\x00\xff"),
    "wrong header CRC": _gzip(BODY, head=b"\x1f\x8b\x08\x02\x00\x00\x00\x00\x00\xff\0\0"),
    "gzip in gzip": gzip.compress(gzip.compress(BODY)),
    "aggregate in gzip": gzip.compress(MAGIC + BODY),
    "more than the ratio": gzip.compress(b" " * 100_000 + BODY),
    "more than the limit": gzip.compress(bytes(range(256)) * 20_000),
}


@pytest.mark.parametrize("data", BAD_GZIPS.values(), ids=BAD_GZIPS)
def test_a_bad_gzip_is_kept_compressed(data: bytes) -> None:
    """Every defect refuses the whole record, with the bytes that came."""
    decoded = _units(record(data))
    assert [(str(one.code), one.raw) for one in decoded.refusals] == [("bad_gzip", data)]
    assert not decoded.rows


@pytest.mark.parametrize(
    "data",
    [_gzip(BODY), _gzip(BODY, head=WITH_NAME), gzip.compress(BODY, compresslevel=1), gzip.compress(BODY, 0)],
    ids=["plain", "named", "quick", "stored"],
)
def test_gzips_of_other_writers(data: bytes) -> None:
    """File names in the header and any level of compression are fine."""
    assert _ids(_units(record(data))) == [f"e{number}" for number in range(5)]


def test_gzip_limits_are_exact() -> None:
    """What inflates to the limit passes, one byte more does not; likewise the ratio."""
    for size, passes in ((4_000, True), (4_001, False)):
        data = gzip.compress(Random(7).randbytes(size))
        assert (_codes(_units(record(data), limits=SMALL)) != ["bad_gzip"]) is passes
    for blanks in range(2_000):
        body = wire(event()) + b" " * blanks
        data = gzip.compress(body)
        assert (_codes(_units(record(data), limits=SMALL)) == []) is (len(body) <= 10 * len(data))


@pytest.mark.parametrize("join", [b"\n".join, lambda some: b"[" + b",".join(some) + b"]"])
def test_too_many_events_are_refused_whole(join: object) -> None:
    """At the limit all events are accepted, one more and the record is refused with its bytes."""
    assert callable(join)
    assert len(_units(record(join(_events(20))), limits=SMALL).rows) == 20
    data = join(_events(21))
    decoded = _units(record(data), limits=SMALL)
    assert [(str(one.code), one.raw) for one in decoded.refusals] == [("too_many_events", data)]
    assert not decoded.rows


def test_rubbish_makes_no_more_units_than_its_bytes_allow() -> None:
    """Squeezed rubbish cannot become millions of units: an event has four bytes at least, as it travelled."""
    data = gzip.compress(b"{}\n" + b"x\n" * 9_000, 9)
    limits = Limits(max_inflation=1_000)
    decoded = _units(record(data), limits=limits)
    assert _codes(decoded) == ["too_many_events"]
    assert len(_units(record(b"{}\n" + b"x\n" * 15)).refusals) == 16


def _parts(*payloads: bytes, number: int = 1) -> list[Record]:
    """Return user records of one Kinesis record, as KCL hands them over."""
    return [
        Record(f"{number}", "key", data, ARRIVED_US, subsequence_number=at)
        for at, data in enumerate(payloads)
    ]


def test_what_a_kinesis_record_comes_to_is_limited() -> None:
    """What passes the limit, and every packed user record after it, is refused whole; single events and other records go on."""
    limits = Limits(max_packed_bytes=6 * 256)  # of short events
    lines, alone = b"\n".join(_events(3)), _events(1)[0]
    packed, batch, last = _gzip(lines), b"[" + b",".join(_events(4)) + b"]", _gzip(alone)
    payloads = [lines, packed, alone, batch, alone, last, alone]
    aggregate = Aggregate()
    for one in payloads:
        aggregate.add(one)
    whole, parts = [record(aggregate.encode("k", "0"), 1)], _parts(*payloads)
    for groups in ([whole], [parts], [parts[:3], parts[3:]], [[one] for one in parts]):
        held = OpenSegment(Decoder(rules_for(DOOR, limits=limits)), RULES.schemas)
        for group in groups:  # a chunk may end inside a Kinesis record
            held.add(group)
        assert [str(one.code) for one in held.refusals] == ["too_much_packed"] * 2
        assert [one.raw for one in held.refusals] == [batch, last]
        assert (held.rows, held.units) == (9, 11)
        held.add(_parts(lines, number=2))
        assert (held.rows, held.units) == (12, 14)


def test_a_gzip_beyond_the_limit_is_not_inflated() -> None:
    """What it announces is counted first."""
    limits = Limits(max_packed_bytes=2_000, max_inflation=1_000)
    damaged = gzip.compress(b" " * 3_000)[:-8] + b"\0\0\0\0" + (3_000).to_bytes(4, "little")
    assert _codes(_units(record(damaged), limits=limits)) == ["too_much_packed"]


HOSTILE = {
    "numbers": b"[" + b"1," * 500_000 + b"1]",
    "numbers, broken": b"[" + b"1," * 500_000 + b"x]",
    "objects, broken": b"[" + b"{}," * 330_000 + b"{x]",
    "strings, broken": b"[" + b'"",' * 330_000 + b"x]",
    "objects and a line": b"[" + b"{}," * 330_000 + b"\n{}",
    "lines of braces": b"{\n" * 500_000,
    "brackets": b"[" * 1_000_000 + b"\n{}",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_will_be_refused_is_not_made_into_objects(text: bytes) -> None:
    """A kilobyte of gzip may hold a million elements: memory stays a small multiple of the text, whatever is in it."""
    limits = Limits(max_inflation=1_032)
    data = gzip.compress(text, 9)
    tracemalloc.start()
    decoded = _units(record(data), limits=limits)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not decoded.rows
    assert len(decoded.refusals) == 1
    assert peak < 14 * len(text)


def test_a_gzip_says_which_limit_it_breaks() -> None:
    """Too much is told from too little: the limit by its name, and a cut by its own words."""
    cases = {
        "may to 4000 (events.max_inflated_bytes)": gzip.compress(Random(7).randbytes(4_001)),
        "(events.max_inflation times its own)": gzip.compress(b" " * 2_000),
        "it is cut short": _gzip(BODY)[:-30] + len(BODY).to_bytes(4, "little"),
    }
    for said, data in cases.items():
        [refusal] = _units(record(data), limits=SMALL).refusals
        assert refusal.code == "bad_gzip"
        assert said in refusal.message


@pytest.mark.parametrize("empty", [b"[]", b" [ ] ", gzip.compress(b"[\n]", mtime=0)])
def test_an_empty_batch_is_called_one(empty: bytes) -> None:
    """Nothing is missing from its envelope: it has no events."""
    [refusal] = _units(record(empty)).refusals
    assert (refusal.code, refusal.message) == ("bad_envelope", "an empty batch")


def _held(records: Sequence[Record], limits: Limits = LIMITS) -> OpenSegment:
    held = OpenSegment(Decoder(rules_for(DOOR, limits=limits)), RULES.schemas)
    held.add(records)
    return held


def test_what_inflates_becomes_columns_in_pieces() -> None:
    """Rows of gzips and batches are turned into columns before they pile up as objects, in stream order."""
    body = b"\n".join(_events(9_000))
    held = _held([record(gzip.compress(body), number) for number in (1, 2)] + [record(wire(event()), 3)])
    assert held.units == held.rows == 18_001
    assert [chunk.common.num_rows for chunk in held.chunks] == [9_000, 9_000, 1]
    padded = [with_data(b'{"n":1' + b" " * 60_000 + b"}", event_id=f"e{at}") for at in range(60)]
    data = gzip.compress(b"\n".join(padded), 1)
    one = _held([record(data, number) for number in range(1, 7)], Limits(max_inflation=1_000))
    assert [chunk.common.num_rows for chunk in one.chunks] == [120, 120, 120]


@pytest.mark.parametrize("packed", [False, True])
def test_a_segment_weighs_what_it_inflates_to(packed: bool) -> None:
    """Limits that go by bytes go by inflated bytes, and the announcement says them before anything is inflated."""
    body = b"\n".join(_events(1_000))
    data = gzip.compress(body)
    aggregate = Aggregate()
    for _ in range(3):
        aggregate.add(data)
    whole = record(aggregate.encode("key", "0")) if packed else record(data)
    times = 3 if packed else 1
    held = _held([whole])
    assert times * (len(body) - 1_000) <= held.bytes <= times * len(body) + len(whole.data)
    assert weight(whole.data, LIMITS) == times * len(body)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        wire(event()),
        b"\x1f\x8b\x08",
        *BAD_GZIPS.values(),
        MAGIC + b"\x1f\x8b\x08",
        Aggregate().encode("key", "0"),
    ],
)
def test_a_false_announcement_weighs_nothing(data: bytes) -> None:
    """A record that will be refused weighs its own bytes, or what it says within the limits: nothing is inflated."""
    assert len(data) <= weight(data, LIMITS) <= max(len(data), LIMITS.max_inflated_bytes)


JUNK = st.binary(max_size=200) | st.lists(
    st.sampled_from(
        [b"{", b"}", b"[", b"]", b",", b'"', b"\n", b" ", b"\\", b":", b"1", b'"a"', b"{}", *_events(1)]
    ),
    max_size=14,
).map(b"".join)


@given(JUNK, st.sampled_from(["plain", "gzip", "packed"]))
@settings(max_examples=400)
def test_any_bytes(data: bytes, form: str) -> None:
    """Never an exception; every unit is a row or a refusal, and its bytes are in what came."""
    if form == "gzip":
        came = gzip.compress(data)
    elif form == "packed":
        aggregate = Aggregate()
        aggregate.add(data)
        came = aggregate.encode("key", "0")
    else:
        came = data
    decoded = _units(record(came))
    assert decoded.rows or decoded.refusals
    for refusal in decoded.refusals:
        assert refusal.raw in (data, came) or refusal.raw in data
    numbers = [row.subsequence_number for row in decoded.rows]
    numbers += [refusal.subsequence_number for refusal in decoded.refusals]
    assert len(set(numbers)) == len(numbers)


@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_structure_agrees_with_a_parser(value: object) -> None:
    """On JSON, the reading of brackets finds the same elements and ends as a parser."""
    for text in (json.dumps(value).encode(), json.dumps(value, indent=1, ensure_ascii=False).encode()):
        assert is_one_value(text) is isinstance(value, (list, dict))
        if isinstance(value, list) and value:
            assert [json.loads(one) for one in elements(text)] == value
        else:
            with pytest.raises(ValueError, match=r"array|string|element"):
                list(elements(text))


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.sampled_from([b"\n", b"\r\n", b"\n\n"]))
def test_lines_lose_nothing(lines: list[bytes], end: bytes) -> None:
    """Units joined again are the record, blanks between them aside."""
    data = end.join([*lines, wire(event())])
    units = take_apart(data, LIMITS) if not data.startswith((MAGIC, b"\x1f\x8b\x08")) else [data]
    assert b"".join(b"\n".join(units).split()) == b"".join(data.split())


def test_a_row_keeps_the_bytes_of_its_data() -> None:
    """`raw` is what the producer wrote as data, in every form."""
    written = b'{ "n" : 1.0e0 }'
    line = wire(event(data=0)).replace(b'"data":0', b'"data":' + written)
    cloud = wire(cloud_event(data=0)).replace(b'"data":0', b'"data":' + written)
    for data in (line, cloud, b"[" + cloud + b"]", line + b"\n" + cloud, gzip.compress(cloud)):
        decoded = _units(record(data))
        assert {row.raw for row in decoded.rows} == {written}
        assert all(isinstance(row, Row) for row in decoded.rows)
