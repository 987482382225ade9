-- Which carriers leave late?
-- One row per carrier over 2013: flights that departed, their mean delay in minutes, and the share that left more than
-- a quarter of an hour late.
SELECT
  carrier,
  count(*) AS departures,
  round(avg(CAST(dep_delay AS double)), 2) AS mean_delay_minutes,
  max(dep_delay) AS longest_delay_minutes,
  round(100 * CAST(count_if(dep_delay > 15) AS double) / count(*), 2) AS late_percent
FROM flight_departed
WHERE dt BETWEEN '2013-01-01' AND '2014-01-01'
GROUP BY carrier
ORDER BY mean_delay_minutes DESC, carrier
