-- Generated from schemas/ by `headrace schema ddl`; change the schema, not this file.
-- flight.cancelled events, without duplicates.
CREATE OR REPLACE VIEW "${database}"."flight_cancelled" AS
SELECT
  "event_id",
  "tenant_id",
  "entity_id",
  "schema_version",
  "source",
  "event_time",
  "received_time",
  "ingested_time",
  "correlation_id",
  "shard_id",
  "sequence_number",
  "subsequence_number",
  "data_json",
  "year",
  "month",
  "day",
  "sched_dep_time",
  "sched_arr_time",
  "carrier",
  "flight",
  "tailnum",
  "origin",
  "dest",
  "distance",
  "hour",
  "minute",
  "time_hour",
  "event_type",
  "dt"
FROM "${database}"."flight_cancelled_raw"
WHERE NOT "is_duplicate";
