"""Any valid event survives event -> wire -> Parquet -> event."""

import datetime as dt
import io
import json
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.decode import Decoder
from pipeline.core.encode import Place, encode_refusals, encode_rows
from pipeline.core.kpl import Aggregate
from pipeline.core.open_segment import OpenSegment
from pipeline.core.segment import SealState
from tests.core.kit import ARRIVED_US, LINEAGE, event, record, rules_for
from tests.core.test_columns import EVERYTHING

TEXT = st.text(max_size=8) | st.sampled_from(
    ["", "\x00", '"', "\\", "\u2028", "\U0001f600", "é" * 40, "</script>"]
)
INT64 = st.integers(-(2**63), 2**63 - 1)
FLOAT = st.floats(allow_nan=False, allow_infinity=False)
INSTANT = st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30), timezones=st.just(dt.UTC))  # noqa: DTZ001 - the strategy's bounds
JSON = st.recursive(
    st.none() | st.booleans() | INT64 | TEXT, lambda x: st.lists(x) | st.dictionaries(TEXT, x), max_leaves=5
)


def _written(moment: dt.datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _optional(value: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | value


DATA = st.fixed_dictionaries(
    {},
    optional={
        "Count": INT64,
        "ratio": FLOAT | st.integers(-(2**53), 2**53),
        "word": TEXT,
        "flag": st.booleans(),
        "when": INSTANT,
        "day": st.dates(),
        "place": st.fixed_dictionaries({}, optional={"lat": FLOAT, "zip code": _optional(TEXT)}),
        "tags": st.lists(_optional(TEXT), max_size=3),
        "spans": _optional(
            st.lists(_optional(st.fixed_dictionaries({}, optional={"from": INSTANT})), max_size=3)
        ),
        "free": st.dictionaries(TEXT, JSON, max_size=3),
        "maybe": _optional(INT64),
        "anything": JSON,
        "event_id": TEXT,
    },
)
ENVELOPES = st.fixed_dictionaries(
    {
        "event_id": TEXT.filter(bool),
        "tenant_id": st.sampled_from(["acme", "globex"]),
        "entity_id": TEXT.filter(bool),
        "source": TEXT.filter(bool),
        "event_time": st.datetimes(dt.datetime(1, 1, 2), dt.datetime(2024, 3, 10), timezones=st.just(dt.UTC)),  # noqa: DTZ001
    },
    optional={"correlation_id": _optional(TEXT.filter(bool)), "received_time": INSTANT},
)
RULES = rules_for(EVERYTHING)


def _wire(value: Any, style: tuple[bool, int | None]) -> bytes:
    """Write JSON compactly or not, escaped or not."""
    ascii_only, indent = style
    return json.dumps(value, ensure_ascii=ascii_only, indent=indent, default=_default).encode("utf-8")


def _default(value: Any) -> str:
    return _written(value) if isinstance(value, dt.datetime) else str(value)


def _expected(data: dict[str, Any]) -> dict[str, Any]:
    """Return what the typed columns must hold, from the golden schema's own words."""
    found: dict[str, Any] = {
        name: data.get(name) for name in ("word", "flag", "when", "day", "tags", "maybe")
    }
    found["count"], found["data_event_id"] = data.get("Count"), data.get("event_id")
    found["ratio"] = None if "ratio" not in data else float(data["ratio"])
    place = data.get("place")
    found["place"] = place and {
        "lat": place.get("lat"),
        "zip_code": place.get("zip code"),
        "event_type": None,
    }
    if place == {}:
        found["place"] = {"lat": None, "zip_code": None, "event_type": None}
    spans = data.get("spans")
    found["spans"] = spans and [None if one is None else {"from": one.get("from")} for one in spans]
    for name in ("free", "anything"):
        found[name] = data.get(name) if name in data else ...
    return found


@given(
    st.lists(st.tuples(ENVELOPES, DATA), min_size=1, max_size=4),
    st.tuples(st.booleans(), st.none() | st.just(1)),
    st.booleans(),
)
@settings(max_examples=120, deadline=None)
def test_survives(
    events: list[tuple[dict[str, Any], dict[str, Any]]], style: tuple[bool, int | None], packed: bool
) -> None:
    """Every accepted event comes back out of Parquet: envelope, typed columns, and the bytes of its data."""
    payloads = [_wire(event(**envelope, data=data), style) for envelope, data in events]
    opened = OpenSegment(Decoder(RULES), RULES.schemas)
    if packed:
        aggregate = Aggregate()
        for payload in payloads:
            aggregate.add(payload)
        opened.add([record(aggregate.encode("key", "1"), 5)])
    else:
        opened.add([record(payload, 5 + at) for at, payload in enumerate(payloads)])
    place = Place(LINEAGE, 1, SealState())
    assert not opened.refusals, opened.refusals
    assert encode_refusals(opened.refusals, opened.records, place) == []
    files = encode_rows(opened.chunks, np.zeros(len(events), dtype=np.bool_), opened.records, place).files
    rows = [row for _, body in files for row in pq.read_table(io.BytesIO(body)).to_pylist()]
    rows.sort(key=lambda row: (int(row["sequence_number"]), row["subsequence_number"]))
    assert len(rows) == len(events)
    for row, payload, (envelope, data) in zip(rows, payloads, events, strict=True):
        _same_event(row, envelope, data)
        assert row["data_json"].encode() in payload


def _same_event(row: dict[str, Any], envelope: dict[str, Any], data: dict[str, Any]) -> None:
    arrived = dt.datetime.fromtimestamp(ARRIVED_US / 1e6, dt.UTC)
    assert {name: row[name] for name in envelope} == envelope
    assert row["received_time"] == envelope.get("received_time", arrived)
    assert row["correlation_id"] == envelope.get("correlation_id")
    assert (row["ingested_time"], row["is_duplicate"], row["shard_id"]) == (arrived, False, LINEAGE.shard_id)
    assert json.loads(row["data_json"]) == json.loads(_wire(data, (False, None)))
    for name, value in _expected(data).items():
        if name in ("free", "anything"):
            assert (... if row[name] is None else json.loads(row[name])) == value
        else:
            assert row[name] == value, name
