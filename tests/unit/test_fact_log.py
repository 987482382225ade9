"""The log: one JSON line per fact, plain or as a document of CloudWatch's Embedded Metric Format."""

from typing import Any

import jsonschema
import msgspec
import orjson
import pytest

from pipeline.core.event import RefusalCode
from pipeline.core.histogram import Timing
from pipeline.facts import (
    FACTS,
    EventsReceived,
    Fact,
    LagMeasured,
    RequestsAnswered,
    SegmentCommitted,
    TenantServed,
    UnitsRefused,
    WorkerCrashed,
    WritesMetered,
)
from pipeline.telemetry.emf import MAX_METRICS
from pipeline.telemetry.log import FactLog
from tests.fakes.clock import NOON_US, SteppedClock
from tests.fakes.facts import example

# MetricDatum of the CloudWatch API reference: all units there are.
_BYTES = ["Bytes", "Kilobytes", "Megabytes", "Gigabytes", "Terabytes"]
_BITS = ["Bits", "Kilobits", "Megabits", "Gigabits", "Terabits"]
_RATES = [f"{one}/Second" for one in (*_BYTES, *_BITS, "Count")]
UNITS = ["Seconds", "Microseconds", "Milliseconds", "Percent", "Count", "None", *_BYTES, *_BITS, *_RATES]

# "Specification: Embedded metric format" of the CloudWatch user guide, in the words of JSON Schema.
_NAME = {"type": "string", "minLength": 1, "maxLength": 255}
_DEFINITION = {
    "type": "object",
    "required": ["Name"],
    "properties": {"Name": _NAME, "Unit": {"enum": UNITS}, "StorageResolution": {"enum": [1, 60]}},
    "additionalProperties": False,
}
_DIRECTIVE = {
    "type": "object",
    "required": ["Namespace", "Dimensions", "Metrics"],
    "properties": {
        "Namespace": _NAME,
        "Dimensions": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "array", "maxItems": 30, "uniqueItems": True, "items": _NAME},
        },
        "Metrics": {"type": "array", "minItems": 1, "maxItems": 100, "items": _DEFINITION},
    },
    "additionalProperties": False,
}
_METADATA = {
    "type": "object",
    "required": ["Timestamp", "CloudWatchMetrics"],
    "properties": {
        "Timestamp": {"type": "integer"},
        "CloudWatchMetrics": {"type": "array", "minItems": 1, "items": _DIRECTIVE},
    },
    "additionalProperties": False,
}
DOCUMENT = {"type": "object", "required": ["_aws"], "properties": {"_aws": _METADATA}}

every_fact = pytest.mark.parametrize("kind", FACTS, ids=lambda kind: kind.__name__)


class Log:
    """A log whose lines are kept."""

    def __init__(self, namespace: str | None = None) -> None:
        self.clock = SteppedClock()
        self.written: list[bytes] = []
        self.tell = FactLog("reader", namespace, 60.0, self.clock, self.written.append)

    @property
    def lines(self) -> list[dict[str, Any]]:
        assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in self.written)
        return [orjson.loads(line) for line in self.written]


def embedded(fact: Fact) -> dict[str, Any]:
    log = Log("headrace")
    log.tell(fact)
    [line] = log.lines
    return line


def directives(line: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = line["_aws"]["CloudWatchMetrics"]
    return found


def test_a_plain_line() -> None:
    """Time, level, name and fields in this order; nothing of CloudWatch unless it was asked for."""
    log = Log()
    log.tell(UnitsRefused(lineage="0001", ordinal=7, codes={"not_json": 3}))
    [line] = log.written
    assert line == (
        b'{"time":"2024-03-10T12:00:00.000+00:00","level":"WARN","fact":"UnitsRefused","lineage":"0001",'
        b'"ordinal":7,"codes":{"not_json":3}}\n'
    )


@pytest.mark.parametrize("kind", [one for one in FACTS if one.sampled], ids=lambda kind: kind.__name__)
def test_every_sampled_fact_is_added_up(kind: type[Fact]) -> None:
    """Told four times within a minute it is two lines; the second counts three."""
    log, fact = Log(), example(kind)
    for _ in range(4):
        log.tell(fact)
    log.tell.close()
    first, second = log.lines
    for metric in kind.metrics:
        if metric.kind == "counter" and metric.field:
            once, thrice = first[metric.field], second[metric.field]
            if isinstance(once, dict):
                assert thrice == {key: 3 * count for key, count in once.items()}
                assert once
            else:
                assert thrice == 3 * once > 0


def test_what_is_counted_by_code_has_its_sum_too() -> None:
    """An alarm in CloudWatch is set on one metric: the sum over all codes is one, beside each code's."""
    line = embedded(
        EventsReceived(requests=2, accepted=1, refused={"not_json": 3, "wrong_tenant": 1}, retry=0)
    )
    names = {one["Name"]: line[one["Name"]] for each in directives(line) for one in each["Metrics"]}
    assert {name: count for name, count in names.items() if name.startswith("refused")} == {
        "refused_events": 4,
        "refused_events_not_json": 3,
        "refused_events_wrong_tenant": 1,
    }


def test_refused_events_of_many_codes_are_one_line() -> None:
    """Counted by code, whichever come together."""
    log = Log()
    for codes in ({}, {"not_json": 1}, {}, {"not_json": 2, "wrong_tenant": 5}):
        log.tell(EventsReceived(requests=1, accepted=0, refused=codes, retry=0))
    log.tell.close()
    assert [(one["requests"], one["refused"]) for one in log.lines] == [
        (1, {}),
        (3, {"not_json": 3, "wrong_tenant": 5}),
    ]


@every_fact
def test_every_fact_is_a_document_or_plain(kind: type[Fact]) -> None:
    """With metrics it keeps to the specification of EMF, without it has no `_aws`; the fact's own fields stay."""
    fact, line = example(kind), embedded(example(kind))
    if not kind.metrics:
        assert "_aws" not in line
        return
    jsonschema.validate(line, DOCUMENT)
    assert line["_aws"]["Timestamp"] == NOON_US // 1_000
    for directive in directives(line):
        for metric in directive["Metrics"]:
            found = line[metric["Name"]]
            values = found if isinstance(found, list) else [found]
            assert 1 <= len(values) <= 100
            assert {type(value) for value in values} <= {int, float}, metric
        for dimension in (key for keys in directive["Dimensions"] for key in keys):
            assert type(line[dimension]) is str, dimension
    told = orjson.loads(orjson.dumps(msgspec.to_builtins(fact)))
    own = {name: value for name, value in told.items() if name not in ("worker", "fact")}
    assert {name: line[name] for name in own} == own
    assert (line["worker"], line["fact"], line["level"]) == ("reader", kind.__name__, kind.level)


@every_fact
def test_a_document_counts_a_metric_once_per_dimensions(kind: type[Fact]) -> None:
    """A metric that stood twice under the same dimensions would be added twice."""
    if kind.metrics:
        told = [
            (metric["Name"], tuple(keys))
            for directive in directives(embedded(example(kind)))
            for metric in directive["Metrics"]
            for keys in directive["Dimensions"]
        ]
        assert len(told) == len(set(told))


def test_a_label_is_a_dimension() -> None:
    """The lag is there by worker, for an alarm, and by worker and shard."""
    line = embedded(LagMeasured(shard_id="shardId-000000000001", behind_seconds=2.5))
    [directive] = directives(line)
    assert directive["Namespace"] == "headrace"
    assert directive["Dimensions"] == [["worker"], ["worker", "shard_id"]]
    assert directive["Metrics"] == [{"Name": "lag_seconds", "Unit": "Seconds"}]
    assert (line["lag_seconds"], line["shard_id"]) == (2.5, "shardId-000000000001")


def test_a_histogram_is_an_array_whose_percentiles_are_its_own() -> None:
    """At most 100 values: of 900 fast and 100 slow requests the median is fast, and the 99th percentile slow."""
    timing = Timing()
    for seconds in [0.004] * 900 + [0.4] * 100:
        timing.add(seconds)
    line = embedded(RequestsAnswered("GET /healthz", "2xx", 1_000, 0, timing.take()))
    values = line["request_seconds"]
    assert len(values) == 100
    assert 0.0025 < values[49] <= 0.005
    assert 0.25 < values[98] <= 0.5
    assert sum(value > 0.1 for value in values) == 10
    assert line["requests"] == 1_000
    assert directives(line)[0]["Dimensions"] == [["worker"], ["worker", "route", "status"]]


def test_histograms_between_two_lines_are_added() -> None:
    """No count and no second is lost between two lines of a sampled fact."""
    log, timing = Log(), Timing()
    for _ in range(3):
        timing.add(0.5)
        log.tell(RequestsAnswered("GET /healthz", "2xx", 1, 0, timing.take()))
    log.tell.close()
    assert [sum(line["seconds"]["counts"]) for line in log.lines] == [1, 2]
    assert sum(line["seconds"]["sum"] for line in log.lines) == 1.5


def test_refusals_are_one_metric_per_code() -> None:
    """One line for the fact, a metric of its own for every code; all codes there are fit into one document."""
    line = embedded(UnitsRefused(lineage="0001", ordinal=7, codes={"not_json": 3, "too_deep": 1}))
    assert (line["refused_units_not_json"], line["refused_units_too_deep"]) == (3, 1)
    assert [one["Dimensions"] for one in directives(line)] == [[["worker"]]]
    jsonschema.validate(
        embedded(UnitsRefused(lineage="0001", ordinal=7, codes={str(code): 1 for code in RefusalCode})),
        DOCUMENT,
    )
    assert len(RefusalCode) <= MAX_METRICS == 100


@every_fact
def test_dimensions_are_no_data(kind: type[Fact]) -> None:
    """What varies with the data is in the line, for a person, and in no dimension; the shard is one of the lag only."""
    allowed = {"worker", "call", "answer", "state", "route", "status", "code"}
    allowed |= {LagMeasured: {"shard_id"}, TenantServed: {"tenant"}}.get(kind, set())
    if kind.metrics:
        keys = [keys for directive in directives(embedded(example(kind))) for keys in directive["Dimensions"]]
        assert {key for one in keys for key in one} <= allowed


def test_a_sampled_fact_is_written_now_and_then() -> None:
    """The first at once, then one a minute and shard: gauges as they are now, counters added up, none lost."""
    log = Log()
    for second in range(125):
        log.tell(LagMeasured(shard_id="a", behind_seconds=float(second)))
        log.tell(LagMeasured(shard_id="b", behind_seconds=0.0))
        log.tell(WritesMetered(dynamodb_write_units=2.0, s3_puts=1))
        log.clock.advance(1.0)
    assert [line["behind_seconds"] for line in log.lines if line.get("shard_id") == "a"] == [0.0, 60.0, 120.0]
    assert len([line for line in log.lines if line.get("shard_id") == "b"]) == 3
    log.tell.close()
    log.tell.close()
    writes = [line for line in log.lines if line["fact"] == "WritesMetered"]
    assert [line["s3_puts"] for line in writes] == [1, 59, 60, 5]
    assert sum(line["dynamodb_write_units"] for line in writes) == 250.0


@pytest.mark.parametrize("sampled", [True, False])
def test_a_burst_that_ended_is_written_when_it_is_due(sampled: bool) -> None:
    """Whatever is told next brings it out, not only its like: errors that stopped are counted about when they were."""
    log = Log()
    for _ in range(3):
        log.tell(WritesMetered(dynamodb_write_units=2.0, s3_puts=1))
    log.clock.advance(59.0)
    log.tell(example(SegmentCommitted))
    assert [line["fact"] for line in log.lines] == ["WritesMetered", "SegmentCommitted"]
    log.clock.advance(1.0)
    log.tell(LagMeasured(shard_id="a", behind_seconds=0.0) if sampled else example(SegmentCommitted))
    assert [line["s3_puts"] for line in log.lines if line["fact"] == "WritesMetered"] == [1, 2]
    log.tell.close()
    assert len(log.lines) == 4


def test_other_facts_are_never_held() -> None:
    """What happened is written when it happened, each time."""
    log = Log()
    for _ in range(3):
        log.tell(example(SegmentCommitted))
    assert len(log.lines) == 3


def test_a_crash_writes_what_is_held() -> None:
    """A worker that crashes has told all it counted: the crash is its last line."""
    lines: list[bytes] = []
    log = FactLog("reader", clock=SteppedClock(), write=lines.append)
    log(WritesMetered(1.0, 1))
    log(WritesMetered(2.0, 3))
    log(WorkerCrashed(worker="reader", error="x"))
    told = [orjson.loads(line) for line in lines]
    assert [one["fact"] for one in told] == ["WritesMetered", "WritesMetered", "WorkerCrashed"]
    assert sum(one["s3_puts"] for one in told[:2]) == 4
