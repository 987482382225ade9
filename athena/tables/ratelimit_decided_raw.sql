-- Generated from schemas/ by `headrace schema ddl`; change the schema, not this file.
-- ratelimit.decided events: every row, with its tier and whether it repeats an earlier one.
CREATE OR REPLACE VIEW "${database}"."ratelimit_decided_raw" AS
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
  "namespace",
  "key",
  "policy",
  "cost",
  "allowed",
  "limit",
  "remaining",
  "reset_seconds",
  'ratelimit.decided' AS "event_type",
  "dt",
  'open' AS "tier"
FROM "${database}"."ratelimit_decided__open";
