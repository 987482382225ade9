-- How does delay pile up through the day?
-- Departures and their mean delay by scheduled hour (local time), over June, July and August 2013.
SELECT
  hour AS scheduled_hour,
  count(*) AS departures,
  round(avg(CAST(dep_delay AS double)), 2) AS mean_delay_minutes
FROM flight_departed
WHERE dt BETWEEN '2013-06-01' AND '2013-08-31'
GROUP BY hour
ORDER BY scheduled_hour
