"""Hostile packings: NDJSON, batches, gzips, aggregates."""

import gzip
import hashlib
import zlib

from pipeline.core.kpl import MAGIC, Aggregate
from tests.hostile.case import ARCHIVED, Make, cloud, ev, made


def _more(m: str, count: int) -> list[bytes]:
    return [ev(f"{m}-{number}") for number in range(count)]


def _lines(*between: bytes) -> Make:
    """Return what makes three good lines with something between the first and the second."""
    return lambda m: b"\n".join([ev(m), *(one.replace(b"@", m.encode()) for one in between), *_more(m, 2)])


def _batch(*between: bytes) -> Make:
    return lambda m: b"[%s]" % b",".join([ev(m), *between, *_more(m, 2)])


def _zip(make: Make) -> Make:
    return lambda m: gzip.compress(make(m), mtime=0)


def _aggregate(*records: bytes) -> bytes:
    made_ = Aggregate()
    for one in records:
        made_.add(one)
    return made_.encode("key", "0")


def _sealed(body: bytes) -> bytes:
    return MAGIC + body + hashlib.md5(body).digest()


def _body(tail: bytes, record: bytes = b"") -> Make:
    """Return what makes an aggregate by hand: a table, one good record or another, and a tail."""

    def make(m: str) -> bytes:
        one = ev(m)
        inner = b"\x08\x00\x1a" + _varint(len(one)) + one + record
        return _sealed(b"\x0a\x01k\x1a" + _varint(len(inner)) + inner + tail)

    return make


def _varint(number: int) -> bytes:
    return bytes([number & 0x7F | 0x80, number >> 7]) if number > 0x7F else bytes([number])


_THREE = "+".join([ARCHIVED] * 3)


def _broken(code: str) -> str:
    return f"{ARCHIVED}+{code}+{ARCHIVED}+{ARCHIVED}"


def _gz(m: str, **parts: bytes) -> bytes:
    body = ev(m)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return b"".join(
        [
            parts.get("head", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"),
            parts.get("deflated", deflate.compress(body) + deflate.flush()),
            parts.get("crc", zlib.crc32(body).to_bytes(4, "little")),
            parts.get("size", len(body).to_bytes(4, "little")),
        ]
    )


def _vast(m: str) -> bytes:
    """Return a gzip of nearly 4 MiB, which is one unit; its file name makes it as long as the limits ask for."""
    packed = gzip.compress(m.encode() + b" x" * (2**21 - 100), mtime=0)
    return packed[:3] + b"\x08" + packed[4:10] + b"n" * 85_000 + b"\0" + packed[10:]


PACKED = [
    *made(
        "ndjson",
        [
            ("good", _THREE, _lines()),
            ("broken line", _broken("not_json"), _lines(b'{"x":"@"')),
            ("rubbish line", _broken("not_json"), _lines(b"\xff\xfe@")),
            ("NUL line", _broken("not_json"), _lines(b"\0")),
            ("array line", _broken("bad_envelope"), _lines(b'["@"]')),
            ("number line", _broken("bad_envelope"), _lines(b"7")),
            ("empty object line", _broken("bad_envelope"), _lines(b"{}")),
            ("deep line", _broken("too_deep"), _lines(b"[" * 100 + b"]" * 100)),
            ("two events on a line", _broken("not_json"), lambda m: _lines(ev(m) + ev(m))(m)),
            ("CloudEvent line", f"{ARCHIVED}+{_THREE}", lambda m: _lines(cloud()(m))(m)),
            ("gzip line", _broken("not_json"), _lines(gzip.compress(b"", mtime=0))),
            ("aggregate line", _broken("not_json"), _lines(MAGIC + b"@")),
            ("log injection line", _broken("not_json"), _lines(b'\x1b[31m{"level":"ERROR"} @')),
            ("first line cut", f"not_json+{_THREE}", lambda m: ev(m)[:-9] + b"\n" + _lines()(m)),
            ("last line cut", f"{_THREE}+not_json", lambda m: _lines()(m) + b"\n" + ev(m)[:40]),
            (
                "BOM before the first",
                f"not_json+{ARCHIVED}+{ARCHIVED}",
                lambda m: b"\xef\xbb\xbf" + _lines()(m),
            ),
            ("blank lines", _THREE, lambda m: b"\n\n \t\r\n" + _lines(b"", b"  ")(m) + b"\r\n\r\n"),
            ("old Mac lines", "not_json", lambda m: _lines()(m).replace(b"\n", b"\r")),
            (
                "commas at the ends",
                f"not_json+not_json+{ARCHIVED}",
                lambda m: _lines()(m).replace(b"\n", b",\n"),
            ),
            (
                "ten thousand and one",
                "too_many_events",
                lambda m: b"\n".join([ev(m), *[b'{"a":1}'] * 10_000]),
            ),
            ("only rubbish", "not_json", lambda m: b"\n".join([m.encode()] * 40)),
            ("only newlines", "not_json", lambda _: b"\n" * 50_000),
        ],
    ),
    *made(
        "batch",
        [
            ("good", _THREE, _batch()),
            ("of one", ARCHIVED, lambda m: b"[" + ev(m) + b"]"),
            (
                "of both kinds",
                f"{ARCHIVED}+{ARCHIVED}",
                lambda m: b"[" + ev(m) + b"," + cloud()(m + "c") + b"]",
            ),
            ("null", _broken("bad_envelope"), _batch(b"null")),
            ("string", _broken("bad_envelope"), _batch(b'"x"')),
            ("array", _broken("bad_envelope"), _batch(b"[{}]")),
            ("NaN", _broken("not_json"), _batch(b'{"n":NaN}')),
            ("lone surrogate", _broken("not_json"), _batch(b'{"n":"\\ud800"}')),
            ("bad UTF-8", _broken("not_json"), _batch(b'{"n":"\xff"}')),
            ("deep", _broken("too_deep"), _batch(b"[" * 2_000 + b"]" * 2_000)),
            ("bad word", _broken("not_json"), _batch(b"nul")),
            ("an element is missing", "not_json", _batch(b"")),
            ("trailing comma", "not_json", lambda m: _batch()(m)[:-1] + b",]"),
            ("no end", "not_json", lambda m: _batch()(m)[:-1]),
            ("cut in an event", "not_json", lambda m: _batch()(m)[:-30]),
            ("text after", "not_json", lambda m: _batch()(m) + b"x"),
            ("two batches", "not_json", lambda m: _batch()(m) * 2),
            ("empty", "bad_envelope", lambda _: b"[]"),
            (
                "ten thousand and one",
                "too_many_events",
                lambda m: b"[%s]" % b",".join([ev(m), *[b'{"a":1}'] * 10_000]),
            ),
        ],
    ),
    *made(
        "gzip",
        [
            ("good", ARCHIVED, _zip(ev)),
            ("of NDJSON", _THREE, _zip(_lines())),
            ("of a batch", _THREE, _zip(_batch())),
            ("of a CloudEvent", ARCHIVED, _zip(cloud())),
            ("with a file name", ARCHIVED, lambda m: _gz(m, head=b"\x1f\x8b\x08\x08\0\0\0\0\0\xff../../x\0")),
            ("of a broken line", _broken("not_json"), _zip(_lines(b'{"x":"@"'))),
            ("of rubbish", "not_json", _zip(lambda m: b"rubbish " + m.encode())),
            ("of nothing", "not_json", _zip(lambda _: b"")),
            ("header alone", "bad_gzip", lambda _: b"\x1f\x8b\x08"),
            ("header and trailer", "bad_gzip", lambda m: _gz(m, deflated=b"")),
            ("cut by one", "bad_gzip", lambda m: _gz(m)[:-1]),
            ("cut in the middle", "bad_gzip", lambda m: _gz(m)[:60]),
            ("one byte more", "bad_gzip", lambda m: _gz(m) + b"\0"),
            ("two members", "bad_gzip", lambda m: _gz(m) * 2),
            ("wrong CRC", "bad_gzip", lambda m: _gz(m, crc=b"\1\2\3\4")),
            ("announces less", "bad_gzip", lambda m: _gz(m, size=b"\1\0\0\0")),
            ("announces more", "bad_gzip", lambda m: _gz(m, size=b"\xff\2\0\0")),
            ("announces 4 GB", "bad_gzip", lambda m: _gz(m, size=b"\xff\xff\xff\xff")),
            ("damaged", "bad_gzip", lambda m: _gz(m, deflated=b"\xff" * 20)),
            ("dictionary wanted", "bad_gzip", lambda m: _gz(m, head=b"\x1f\x8b\x08\x20\0\0\0\0\0\xff")),
            ("reserved flags", "bad_gzip", lambda m: _gz(m, head=b"\x1f\x8b\x08\xe0\0\0\0\0\0\xff")),
            ("file name without an end", "bad_gzip", lambda _: b"\x1f\x8b\x08\x08\0\0\0\0\0\xff" + b"x" * 50),
            ("bomb of zeros", "bad_gzip", lambda m: gzip.compress(m.encode() + b"\0" * 20_000_000, mtime=0)),
            (
                "bomb of blanks around an event",
                "bad_gzip",
                lambda m: gzip.compress(ev(m) + b" " * 1_000_000, mtime=0),
            ),
            (
                "bomb that announces little",
                "bad_gzip",
                lambda m: gzip.compress(m.encode() + b"\0" * 10_000_000, mtime=0)[:-4] + b"\1\0\0\0",
            ),
            ("in a gzip", "bad_gzip", _zip(_zip(ev))),
            ("of an aggregate", "bad_gzip", _zip(lambda m: _aggregate(ev(m)))),
            ("of squeezed rubbish", "too_many_events", _zip(lambda m: ev(m) + b"\n{}" * 1_000)),
            ("another method", "not_json", lambda m: b"\x1f\x8b\x07" + _gz(m)[3:]),
            ("zlib", "not_json", lambda m: zlib.compress(ev(m))),
            ("zip", "not_json", lambda m: b"PK\x03\x04" + ev(m)),
            ("zstd", "not_json", lambda m: b"\x28\xb5\x2f\xfd" + ev(m)),
        ],
    ),
    *made(
        "aggregate",
        [
            ("good", f"{ARCHIVED}+{ARCHIVED}", lambda m: _aggregate(ev(m), *_more(m, 1))),
            ("broken record", _broken("not_json"), lambda m: _aggregate(ev(m), m.encode(), *_more(m, 2))),
            ("empty record", _broken("not_json"), lambda m: _aggregate(ev(m), b"", *_more(m, 2))),
            ("of NDJSON", f"{_THREE}+{ARCHIVED}", lambda m: _aggregate(_lines()(m), ev(m + "x"))),
            ("of a gzip", f"{ARCHIVED}+{ARCHIVED}", lambda m: _aggregate(gzip.compress(ev(m)), ev(m + "x"))),
            ("of a bad gzip", _broken("bad_gzip"), lambda m: _aggregate(ev(m), _gz(m)[:-1], *_more(m, 2))),
            (
                "in an aggregate",
                _broken("bad_aggregate"),
                lambda m: _aggregate(ev(m), _aggregate(ev(m)), *_more(m, 2)),
            ),
            ("with a tag", ARCHIVED, _body(b"", b"\x22\x03\x0a\x01t")),
            (
                "of gzips that come to too much",
                f"too_large+too_large+too_much_packed+{ARCHIVED}",
                lambda m: _aggregate(*[_vast(m)] * 3, ev(m)),
            ),
            (
                "of gzips that come to too much, then lines",
                f"too_large+too_large+too_much_packed+{ARCHIVED}+too_much_packed",
                lambda m: _aggregate(*[_vast(m)] * 3, ev(m), _lines()(m)),
            ),
            ("magic alone", "bad_aggregate", lambda _: MAGIC),
            ("magic and rubbish", "bad_aggregate", lambda m: MAGIC + m.encode()),
            ("magic of another order", "not_json", lambda m: MAGIC[::-1] + _aggregate(ev(m))[4:]),
            ("cut by one", "bad_aggregate", lambda m: _aggregate(ev(m))[:-1]),
            ("one byte more", "bad_aggregate", lambda m: _aggregate(ev(m)) + b"\0"),
            ("no checksum", "bad_aggregate", lambda m: _aggregate(ev(m))[:-16]),
            ("wrong checksum", "bad_aggregate", lambda m: _aggregate(ev(m))[:-16] + bytes(16)),
            ("changed record", "bad_aggregate", lambda m: _aggregate(ev(m)).replace(b"acme", b"evil")),
            ("no records", "bad_aggregate", lambda _: _aggregate()),
            ("no message", "bad_aggregate", lambda _: _sealed(b"")),
            ("no protobuf", "bad_aggregate", lambda m: _sealed(m.encode())),
            ("key outside the table", "bad_aggregate", _body(b"\x1a\x04\x08\x01\x1a\x00")),
            ("hash outside the table", "bad_aggregate", _body(b"\x1a\x06\x08\x00\x10\x00\x1a\x00")),
            ("key of 2^64-1", "bad_aggregate", _body(b"\x1a\x0d\x08" + b"\xff" * 9 + b"\x01\x1a\x00")),
            ("record without data", "bad_aggregate", _body(b"\x1a\x02\x08\x00")),
            ("record without a key", "bad_aggregate", _body(b"\x1a\x02\x1a\x00")),
            ("record with data twice", "bad_aggregate", _body(b"", b"\x1a\x01x")),
            ("record with an unknown field", "bad_aggregate", _body(b"", b"\x2a\x01x")),
            ("message with an unknown field", "bad_aggregate", _body(b"\x22\x01x")),
            ("message with a number for a record", "bad_aggregate", _body(b"\x18\x01")),
            ("record beyond the message", "bad_aggregate", _body(b"\x1a\x7f\x08\x00\x1a\x7bx")),
            ("length of 2^35", "bad_aggregate", _body(b"\x1a\xff\xff\xff\xff\x7f")),
            ("tag without a key", "bad_aggregate", _body(b"", b"\x22\x02\x12\x00")),
            ("trailing zero", "bad_aggregate", _body(b"\0")),
            ("keys of bad UTF-8", ARCHIVED, lambda m: _sealed(b"\x0a\x01\xff" + _body(b"")(m)[7:-16])),
        ],
    ),
]
