-- Which carriers cancel most?
-- Cancelled flights against all that were scheduled, by carrier, over 2013. Refused cancellations are not in it: see
-- quarantine_by_reason.
WITH outcomes AS (
  SELECT carrier, 1 AS cancelled FROM flight_cancelled WHERE dt BETWEEN '2013-01-01' AND '2014-01-01'
  UNION ALL
  SELECT carrier, 0 AS cancelled FROM flight_departed WHERE dt BETWEEN '2013-01-01' AND '2014-01-01'
)
SELECT
  carrier,
  sum(cancelled) AS cancelled,
  count(*) AS scheduled,
  round(100 * CAST(sum(cancelled) AS double) / count(*), 2) AS cancelled_percent
FROM outcomes
GROUP BY carrier
ORDER BY cancelled_percent DESC, carrier
