-- Generated from schemas/ by `headrace schema ddl`; change the schema, not this file.
-- ratelimit.decided events, without duplicates.
CREATE OR REPLACE VIEW "${database}"."ratelimit_decided" AS
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
  "namespace",
  "key",
  "policy",
  "cost",
  "allowed",
  "limit",
  "remaining",
  "reset_seconds",
  "event_type",
  "dt"
FROM "${database}"."ratelimit_decided_raw"
WHERE NOT "is_duplicate";
