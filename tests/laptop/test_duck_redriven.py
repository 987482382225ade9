"""SQL over a redriven archive: each row once, and the quarantine says what went through again."""

from pathlib import Path
from typing import Any

from pipeline.laptop.duck import DuckEngine
from pipeline.machine.object_cache import ObjectCache
from tests.fakes.clock import SteppedClock
from tests.flows.deployment import Deployment
from tests.flows.redriving import FIXED, again, bare, labelled, send, strict_house


def ask(house: Deployment, folder: Path, sql: str) -> list[tuple[Any, ...]]:
    engine = DuckEngine(
        FIXED.schemas, house.manifest, ObjectCache(house.objects, folder), clock=SteppedClock()
    )
    return list(engine.run(sql).rows())


def test_a_fixed_schema_brings_the_rows_into_sql_once(tmp_path: Path) -> None:
    """Refused under the old schema, redriven under the new one: in the tables once, in quarantine with a mark."""
    house = strict_house()
    send(house, labelled(1), bare(2), b"rubbish", bare(3))
    everything = "SELECT event_id FROM door ORDER BY event_id"
    state = (
        "SELECT event_id, code, redriven_as, redriven_time IS NULL FROM quarantine "
        "WHERE dt = '2024-03-10' ORDER BY sequence_number"
    )
    assert ask(house, tmp_path, everything) == [("e1",)]
    assert ask(house, tmp_path, state) == [
        ("e2", "schema_mismatch", None, True),
        (None, "not_json", None, True),
        ("e3", "schema_mismatch", None, True),
    ]
    for _ in range(2):
        again(house)
        assert ask(house, tmp_path, everything) == [("e1",), ("e2",), ("e3",)]
        assert ask(house, tmp_path, state) == [
            ("e2", "schema_mismatch", "0002-000000000001", False),
            (None, "not_json", None, True),
            ("e3", "schema_mismatch", "0002-000000000001", False),
        ]
    assert ask(house, tmp_path, "SELECT count(*) FROM events_raw") == [(3,)]
    assert ask(house, tmp_path, "SELECT count(*) FROM quarantine WHERE dt = '2024-03-11'") == [(0,)]
    assert ask(house, tmp_path, "SELECT count(*), sum(units) FROM quarantine__redriven") == [(2, 2)]
