-- Generated from schemas/ by `headrace schema ddl`; change the schema, not this file.
-- Events of all types, without duplicates.
CREATE OR REPLACE VIEW "${database}"."events" AS
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
  "event_type",
  "dt"
FROM "${database}"."events_raw"
WHERE NOT "is_duplicate";
