-- Generated from schemas/ by `headrace schema ddl`; change the schema, not this file.
-- weather.observed events, without duplicates.
CREATE OR REPLACE VIEW "${database}"."weather_observed" AS
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
  "origin",
  "year",
  "month",
  "day",
  "hour",
  "temp",
  "dewp",
  "humid",
  "wind_dir",
  "wind_speed",
  "wind_gust",
  "precip",
  "pressure",
  "visib",
  "time_hour",
  "event_type",
  "dt"
FROM "${database}"."weather_observed_raw"
WHERE NOT "is_duplicate";
