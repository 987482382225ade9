-- How punctual are arrivals through the year?
-- Of the flights that landed, the share that arrived at most a quarter of an hour late, by month of the schedule.
SELECT
  month,
  count(*) AS landed,
  count_if(arr_delay <= 15) AS on_time,
  round(100 * CAST(count_if(arr_delay <= 15) AS double) / count(arr_delay), 2) AS on_time_percent
FROM flight_landed
WHERE dt BETWEEN '2013-01-01' AND '2014-01-01'
GROUP BY month
ORDER BY month
