-- Generated from schemas/ by `headrace schema ddl`; change the schema, not this file.
-- Events of all types: every row, with its tier and whether it repeats an earlier one.
CREATE OR REPLACE VIEW "${database}"."events_raw" AS
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
  "is_duplicate",
  "shard_id",
  "sequence_number",
  "subsequence_number",
  "data_json",
  "event_type",
  "dt",
  'open' AS "tier"
FROM "${database}"."events__open";
