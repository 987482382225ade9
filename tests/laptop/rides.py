"""Three days of rides and rain, as files: what the tests of the SQL engine ask about."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from pipeline.laptop.duck import DuckEngine
from pipeline.machine.object_cache import ObjectCache
from pipeline.ports.clock import SystemClock
from pipeline.ports.sql import QueryResult
from tests.fakes.files import Archive, types_of

RIDE_1 = {"fare": {"type": "integer"}, "city": {"type": "string"}}
RIDE_2 = {
    **RIDE_1,
    "tip": {"type": "number"},
    "paid_on": {"type": "string", "format": "date"},
    "stops": {"type": "array", "items": {"type": "integer"}},
    "car": {"type": "object", "properties": {"plate": {"type": "string"}, "seats": {"type": "integer"}}},
}
TYPES = types_of(
    {("ride.ended", 1): RIDE_1, ("ride.ended", 2): RIDE_2, ("rain.seen", 1): {"mm": {"type": "number"}}}
)
OLD = TYPES["ride.ended"].versions[1].columns
NEW = TYPES["ride.ended"].columns
RAIN = TYPES["rain.seen"].columns
DAYS = ("2024-01-01", "2024-01-02", "2024-01-03")
CAR = {"plate": "x", "seats": 4}

Ask = Callable[[str], QueryResult]


def ride_archive() -> Archive:
    """Return three days of two types, one file a day; the first day of rides is of the older schema."""
    found = Archive()
    found.add("ride.ended", DAYS[0], 1, [{"fare": 7, "city": "Oslo"}, {"fare": 8, "city": "Rome"}], OLD)
    repeated = {"fare": 9, "city": "Oslo", "is_duplicate": True}
    rides = [{"fare": 9, "city": "Oslo", "tip": 0.5, "stops": [1, 2], "car": CAR}, repeated]
    found.add("ride.ended", DAYS[1], 1, rides, NEW)
    found.add("ride.ended", DAYS[2], 2, [{"fare": 11, "city": "Bern", "paid_on": date(2024, 1, 3)}], NEW)
    for day in DAYS:
        found.add("rain.seen", day, 1, [{"mm": 1.5, "data_json": '{"mm":1.5,"at":{"x":["a","b"]}}'}], RAIN)
    found.refuse("2024-02-01", 2, [{"event_type": "ride.ended", "raw": b"\xff"}, {"code": "not_json"}])
    return found


def engine(archive: Archive, folder: Path) -> DuckEngine:
    """Return an engine over an archive, its cache in `folder`."""
    return DuckEngine(
        TYPES, archive.manifest, ObjectCache(archive.objects, folder / "cache"), clock=SystemClock()
    )


def rows(result: QueryResult) -> list[tuple[Any, ...]]:
    """Return all rows."""
    return list(result.rows())


def value(result: QueryResult) -> Any:
    """Return the one value of the one row."""
    ((found,),) = result.rows()
    return found


def keys(*places: tuple[str, int, int]) -> list[str]:
    """Return keys of (event type, index of day, ordinal)."""
    return sorted(
        f"events/event_type={kind}/dt={DAYS[day]}/a1-{ordinal:012d}.parquet" for kind, day, ordinal in places
    )


RIDES = keys(("ride.ended", 0, 1), ("ride.ended", 1, 1), ("ride.ended", 2, 2))
RAINS = keys(("rain.seen", 0, 1), ("rain.seen", 1, 1), ("rain.seen", 2, 1))
