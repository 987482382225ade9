"""The corpus through the loader, over ports in memory: sent between good events, in every packing."""

import io
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from pipeline.core.event import Record, RefusalCode
from pipeline.core.kpl import Aggregate, is_aggregate
from pipeline.core.subsequence import stream_order
from tests.core.kit import event, rules_for, wire
from tests.flows.deployment import Deployment
from tests.hostile.case import ARCHIVED, SCHEMA, Case
from tests.hostile.corpus import CASES
from tests.sim.archive import is_data

Unit = dict[str, Any]


def test_the_corpus_is_large_enough() -> None:
    """At least 200 distinct pairs of class and code; every code is in it; every marker is in its payload alone."""
    assert len({(case.kind, case.expected) for case in CASES}) == len(CASES) >= 200
    assert {code for case in CASES for code in case.expected} == {ARCHIVED, *RefusalCode}
    markers = [case.marker for case in CASES]
    assert len(set(markers)) == len(markers)


def stored(files: dict[str, bytes]) -> dict[str, list[Unit]]:
    """Return every stored unit by sequence number, in the order of the record."""
    found: dict[str, list[Unit]] = defaultdict(list)
    for key, body in files.items():
        if is_data(key):
            for row in pq.read_table(io.BytesIO(body)).to_pylist():
                found[row["sequence_number"]].append(row)
    for units in found.values():
        units.sort(key=lambda row: stream_order(row["subsequence_number"]))
    return found


def check(case: Case, units: list[Unit], *, bytes_whole: bool) -> None:
    """Hold what is stored of a case against what was written down."""
    assert tuple(str(unit.get("code", ARCHIVED)) for unit in units) == case.expected, case.name
    for unit in units:
        if "code" in unit:
            assert unit["raw"] == case.payload or len(units) > 1 or case.payload.startswith(b"\x1f\x8b"), (
                case.name
            )
            assert case.kind.startswith(("gzip/", "aggregate/")) or unit["raw"] in case.payload, case.name
        elif not case.kind.startswith(("gzip/", "aggregate/")):
            assert unit["data_json"].encode() in case.payload, case.name
    if bytes_whole and case.expected == (ARCHIVED,) and case.payload.strip().startswith(b"{"):
        written = json.loads(case.payload)
        names = {"id": "event_id", "subject": "entity_id"} if "specversion" in written else {}
        for name in ("event_id", "entity_id", "source", "id", "subject"):
            if name in written:
                assert units[0][names.get(name, name)] == written[name], case.name
        assert json.loads(units[0]["data_json"]) == written["data"], case.name


def _plain(case: Case, number: int) -> list[Record]:
    return [Record(str(number), "key", case.payload, 0)]


def _parts(case: Case, number: int) -> list[Record]:
    return [Record(str(number), "key", case.payload, 0, subsequence_number=0)]


def _packed(case: Case, number: int) -> list[Record]:
    aggregate = Aggregate()
    aggregate.add(case.payload)
    return [Record(str(number), "key", aggregate.encode("key", "0"), 0)]


@pytest.mark.parametrize("form", [_plain, _parts, _packed])
def test_each_is_archived_or_refused_as_written_down(form: Callable[[Case, int], list[Record]]) -> None:
    """Plain, as KCL hands it over, or inside an aggregate: the verdict is one, and no good event is harmed."""
    house = Deployment(max_rows=300)
    house.rules = rules_for(SCHEMA)
    lineage = house.ledger.register(house.stream.name, house.stream.epoch, "shardId-000000000000", ())
    loader = house.loader(lineage)
    loader.start()
    cases: Sequence[Case] = [case for case in CASES if form is _plain or not is_aggregate(case.payload)]
    now = house.clock.now_us()
    for number, case in enumerate(cases):
        good = Record(str(10_000 + 2 * number), "key", wire(event(event_id=f"good-{number}")), now)
        hostile = [msgspec.structs.replace(one, arrived_us=now) for one in form(case, 10_001 + 2 * number)]
        loader.process([good, *hostile])
    loader.cut("stop")
    found = stored({key: one.body for key, one in house.objects.stored.items()})
    for number, case in enumerate(cases):
        [good_row] = found.pop(str(10_000 + 2 * number))
        assert good_row["event_id"] == f"good-{number}"
        check(case, found.pop(str(10_001 + 2 * number)), bytes_whole=True)
    assert not found
    report = house.audit()
    assert report.balanced, report.differences
    told = repr(house.facts.told)
    assert [case.name for case in CASES if case.marker in told] == []
