-- What came twice?
-- Rows and flagged duplicates by event day and tenant, where there are any. The views without `_raw` leave duplicates
-- out.
SELECT
  dt,
  tenant_id,
  count(*) AS "rows",
  count_if(is_duplicate) AS duplicates
FROM events_raw
GROUP BY dt, tenant_id
HAVING count_if(is_duplicate) > 0
ORDER BY dt, tenant_id
