"""The closed set: every metric is sound, cheap to keep and free of anybody's data."""

import re

import msgspec
import pytest

from pipeline.core.histogram import Histogram
from pipeline.core.metric import LABELS
from pipeline.facts import (
    FACTS,
    METRICS,
    Fact,
    Reading,
    SegmentCommitted,
    TenantServed,
    UnitsRefused,
    readings,
)
from tests.fakes.facts import example

NUMBERS = (int, float, dict[str, int], Histogram)
SUFFIX = {"Bytes": "_bytes", "Seconds": "_seconds"}

every_fact = pytest.mark.parametrize("kind", FACTS, ids=lambda kind: kind.__name__)
every_metric = pytest.mark.parametrize("name", METRICS)


@every_fact
def test_a_metric_names_a_number_of_its_fact(kind: type[Fact]) -> None:
    """Its field is there and holds numbers, its label is a word of the fact or the keys of that field."""
    types = {one.name: one.type for one in msgspec.structs.fields(kind)}
    for metric in kind.metrics:
        held = types[metric.field] if metric.field else int
        assert held in NUMBERS, metric
        assert (held is Histogram) == (metric.kind == "histogram"), metric
        assert {types[name] for name in metric.more} <= {str}, metric
        if metric.label and held != dict[str, int]:
            assert types[metric.label] is str, metric
        assert bool(metric.label) or held != dict[str, int], metric


@every_fact
def test_every_metric_of_a_fact_has_a_reading(kind: type[Fact]) -> None:
    """A metric that no fact would ever move is a name without a number."""
    found = list(readings(example(kind)))
    assert [metric for metric in kind.metrics if metric not in [one.metric for one in found]] == []
    assert all(one.amount > 0 for one in found)


def test_one_name_is_one_metric() -> None:
    """Facts that share a metric share all of it: kind, unit, sentence."""
    declared = {metric for fact in FACTS for metric in fact.metrics}
    assert len(declared) == len(METRICS) > 20


@every_metric
def test_a_name_says_its_unit(name: str) -> None:
    """Snake case, `_bytes` and `_seconds` where that is the unit and nowhere else, never `_total`."""
    metric = METRICS[name]
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name)
    assert name.endswith(SUFFIX.get(metric.unit, ""))
    assert not name.endswith(tuple(set(SUFFIX.values()) - {SUFFIX.get(metric.unit)}))
    assert not name.endswith("_total")
    assert re.fullmatch(r"[A-Z].*\.", metric.says)


@every_metric
def test_labels_are_a_closed_set(name: str) -> None:
    """No label follows events, segments, jobs or messages; the shard is one for the lag only, the tenant bounded by its flow."""
    label = METRICS[name].label
    assert {label, *METRICS[name].more} <= {"", *LABELS}
    assert (label == "tenant") == (METRICS[name] in TenantServed.metrics)
    assert (label == "shard_id") == (name == "lag_seconds")


def test_no_label_grows_with_the_data() -> None:
    """Words that are as many as what flows through are no labels, whatever somebody adds to the list."""
    growing = r"tenant|entity|event|lineage|ordinal|sequence|job|chunk|error|message|reason|key|source|dt|rules|^id$|_id$"
    assert [name for name in LABELS if re.search(growing, name)] == ["tenant", "shard_id"]


@every_fact
def test_no_fact_has_room_for_a_payload(kind: type[Fact]) -> None:
    """Fields are numbers, words and counts by word: no bytes, no lists, no nested values."""
    assert {one.type for one in msgspec.structs.fields(kind)} <= {str, *NUMBERS}


@every_fact
def test_a_sampled_fact_can_be_merged(kind: type[Fact]) -> None:
    """Between two lines its counters are added up, so each is in a field."""
    if kind.sampled:
        assert [metric for metric in kind.metrics if metric.field is None] == []


def test_readings_by_key() -> None:
    """A dict is one reading for each of its keys, a number one without."""
    refused = UnitsRefused(lineage="0001", ordinal=1, codes={"not_json": 3, "too_deep": 1})
    assert [(one.key, one.value) for one in readings(refused)] == [("not_json", 3), ("too_deep", 1)]
    committed = list(readings(example(SegmentCommitted, rows=5)))
    assert Reading(METRICS["rows"], "", 5) in committed
    assert Reading(METRICS["segments"], "", 1) in committed
