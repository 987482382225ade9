-- What was refused, and why?
-- Refused records by reason and by the event type they named. dt is the day of arrival here: narrow it to look at a day.
SELECT
  code,
  pointer,
  event_type,
  count(*) AS records,
  count(DISTINCT tenant_id) AS tenants
FROM quarantine
GROUP BY code, pointer, event_type
ORDER BY records DESC, code, pointer, event_type
