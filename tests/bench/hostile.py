"""Records of one mebibyte, inside all limits, that cost the loader most: processor time from wire to files, each alone."""

import gzip
from collections.abc import Callable
from random import Random

import numpy as np

from pipeline.core.decode import Decoder
from pipeline.core.encode import Place, encode_refusals, encode_rows
from pipeline.core.event import Record
from pipeline.core.kpl import Aggregate
from pipeline.core.open_segment import OpenSegment
from pipeline.core.rules import Rules
from pipeline.core.segment import Lineage, SealState
from tests.bench.data import ARRIVED_US
from tests.bench.figure import Figure, cpu_seconds
from tests.core.kit import rules_for
from tests.hostile.case import SCHEMA, data

_ROOM = 2**20 - 512  # of a Kinesis record
_HEAD_BYTES = 13  # of a user record in its aggregate, at most
_PLACE = Place(Lineage("bench-0-shard", "0001", "bench", "shard"), 1, SealState())
_NESTS = ("[" * 29 + "0" + "]" * 29 + ",") * 330


def _worst() -> dict[str, bytes]:
    nested, wrong = data('{"n":1,"free":[' + _NESTS + "0]}")("x"), data('{"n":"x"}')("x")
    long = data('{"n":1000000000000000000,"free":[' + _NESTS + "0]}")("x")
    return {
        "nothing at all": _aggregate(b""),
        "empty objects": _aggregate(b"{}"),
        "lines of two empty objects": _aggregate(b"{}\n{}"),
        "events against their schema": _aggregate(wrong),
        "gzips of empty objects": _aggregate(_gzip([b"{}"] * 10_000)),
        "gzips of few empty objects": _aggregate(_gzip([b"{}"] * 16)),
        "gzips of events against their schema": _aggregate(_gzip([wrong] * 5_000)),
        "gzips of deep nests": _aggregate(_gzip([nested] * 15)),
        "gzips of deep nests with a long number": _aggregate(_gzip([long] * 15)),
    }


def _gzip(units: list[bytes]) -> bytes:
    """Return lines, gzipped; a file name in the header holds the bytes that the limits ask for."""
    text = b"\n".join(units)
    packed, least = gzip.compress(text, mtime=0), max(len(text) // 50 + 1, 4 * len(units) * (len(units) > 16))
    if len(packed) >= least:
        return packed
    name = bytes(Random(1).choices(range(1, 256), k=least - len(packed)))
    return packed[:3] + b"\x08" + packed[4:10] + name + b"\0" + packed[10:]


def _aggregate(user_record: bytes) -> bytes:
    made = Aggregate()
    for _ in range(min(100_000, _ROOM // (len(user_record) + _HEAD_BYTES))):
        made.add(user_record)
    return made.encode("key", "0")


def _load(rules: Rules, payload: bytes) -> Callable[[], None]:
    def load() -> None:
        held = OpenSegment(Decoder(rules), rules.schemas)
        held.add([Record("1", "key", payload, ARRIVED_US)])
        encode_rows(held.chunks, np.zeros(len(held.fingerprints()), np.bool_), held.records, _PLACE)
        encode_refusals(held.refusals, held.records, _PLACE)

    return load


def hostile(count: int, rounds: int) -> list[Figure]:
    """The dearest records known, one by one."""
    del count
    rules = rules_for(SCHEMA)
    _load(rules, _aggregate(data('{"n":1}')("x")))()  # what is made once
    return [
        Figure(
            f"hostile record: {name}",
            min(cpu_seconds(_load(rules, payload)) for _ in range(rounds)),
            "s",
            "<= 3",
        )
        for name, payload in _worst().items()
    ]
