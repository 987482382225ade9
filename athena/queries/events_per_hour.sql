-- How busy is the pipeline, hour by hour?
-- Events of each type by hour of their event time, over the first week of July 2013.
SELECT
  date_trunc('hour', event_time) AS hour_utc,
  count_if(event_type = 'flight.departed') AS departed,
  count_if(event_type = 'flight.landed') AS landed,
  count_if(event_type = 'flight.cancelled') AS cancelled,
  count_if(event_type = 'weather.observed') AS weather
FROM events
WHERE dt BETWEEN '2013-07-01' AND '2013-07-07'
GROUP BY date_trunc('hour', event_time)
ORDER BY hour_utc
