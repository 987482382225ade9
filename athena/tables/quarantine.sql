-- Generated from schemas/ by `headrace schema ddl`; change the schema, not this file.
-- Refused records, raw bytes kept, and what became of those that were redriven; dt is the day they arrived.
CREATE OR REPLACE VIEW "${database}"."quarantine" AS
SELECT
  q."code",
  q."pointer",
  q."message",
  q."tenant_id",
  q."event_type",
  q."event_id",
  q."ingested_time",
  q."partition_key",
  q."shard_id",
  q."sequence_number",
  q."subsequence_number",
  q."raw",
  r."redriven_as",
  r."redriven_time",
  q."dt"
FROM "${database}"."quarantine__refused" q
LEFT JOIN "${database}"."quarantine__redriven" r
  ON r."dt" = q."dt"
  AND r."shard_id" = q."shard_id"
  AND r."sequence_number" = q."sequence_number"
  AND r."subsequence_number" = q."subsequence_number"
  AND r."ingested_time" = q."ingested_time"
  AND r."code" = q."code";
