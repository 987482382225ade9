-- Which routes carry the most flights?
-- The twenty busiest routes of 2013 by flights that landed, with their mean time in the air and the carriers on them.
SELECT
  origin,
  dest,
  count(*) AS flights,
  count(DISTINCT carrier) AS carriers,
  round(avg(CAST(air_time AS double)), 1) AS mean_air_minutes,
  max(distance) AS distance_miles
FROM flight_landed
WHERE dt BETWEEN '2013-01-01' AND '2014-01-01'
GROUP BY origin, dest
ORDER BY flights DESC, origin, dest
LIMIT 20
