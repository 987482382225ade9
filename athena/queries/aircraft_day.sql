-- What did one aircraft do on one day?
-- Every event of N328JB on 29 June 2013 (UTC), in order. `events` holds all types; what is special to a type is
-- taken out of data_json.
SELECT
  event_time,
  event_type,
  json_extract_scalar(data_json, '$.origin') AS origin,
  json_extract_scalar(data_json, '$.dest') AS dest,
  CAST(json_extract_scalar(data_json, '$.dep_delay') AS bigint) AS dep_delay_minutes
FROM events
WHERE dt = '2013-06-29'
  AND entity_id = 'N328JB'
ORDER BY event_time, event_type
