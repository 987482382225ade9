-- Which hours of weather hurt most?
-- The twenty hours with the longest mean departure delay among those with at least 20 departures from one airport, each
-- with the weather observed there and then. Weather and flights meet at the airport and the hour of the departure.
WITH weather AS (
  SELECT
    origin,
    event_time,
    max(wind_speed) AS wind_speed_mph,
    min(visib) AS visibility_miles,
    max(precip) AS precipitation_inches
  FROM weather_observed
  WHERE dt BETWEEN '2013-01-01' AND '2014-01-01'
  GROUP BY origin, event_time
),
departures AS (
  SELECT
    origin,
    date_trunc('hour', event_time) AS departed_hour,
    count(*) AS departures,
    avg(CAST(dep_delay AS double)) AS mean_delay
  FROM flight_departed
  WHERE dt BETWEEN '2013-01-01' AND '2014-01-01'
  GROUP BY origin, date_trunc('hour', event_time)
)
SELECT
  departures.origin,
  departures.departed_hour,
  departures.departures,
  round(departures.mean_delay, 2) AS mean_delay_minutes,
  weather.wind_speed_mph,
  weather.visibility_miles,
  weather.precipitation_inches
FROM departures
JOIN weather
  ON weather.origin = departures.origin
  AND weather.event_time = departures.departed_hour
WHERE departures.departures >= 20
ORDER BY mean_delay_minutes DESC, origin, departed_hour
LIMIT 20
