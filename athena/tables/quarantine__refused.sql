-- Generated from schemas/ by `headrace schema ddl`; change the schema, not this file.
CREATE EXTERNAL TABLE IF NOT EXISTS `${database}`.`quarantine__refused` (
  `code` string COMMENT 'Why it was refused: a stable word.',
  `pointer` string COMMENT 'JSON pointer to the fault; empty for the whole record.',
  `message` string COMMENT 'The reason in words.',
  `tenant_id` string COMMENT 'Tenant it named, where that could be read.',
  `event_type` string COMMENT 'Event type it named, where that could be read.',
  `event_id` string COMMENT 'Event id it named, where that could be read.',
  `ingested_time` timestamp COMMENT 'When it arrived in the stream, UTC.',
  `partition_key` string COMMENT 'Partition key of its Kinesis record.',
  `shard_id` string COMMENT 'Shard of the stream it came through.',
  `sequence_number` string COMMENT 'Its position in the shard: number of the Kinesis record.',
  `subsequence_number` bigint COMMENT 'Its position inside that record.',
  `raw` binary COMMENT 'The refused bytes, whole.'
)
COMMENT 'Refused records: the files as they lie.'
PARTITIONED BY (
  `dt` string COMMENT 'Day it arrived, UTC: yyyy-mm-dd. Partition key.'
)
STORED AS PARQUET
LOCATION 's3://${bucket}/quarantine/'
TBLPROPERTIES (
  'classification' = 'parquet',
  'parquet.compression' = 'ZSTD',
  'projection.enabled' = 'true',
  'projection.dt.type' = 'date',
  'projection.dt.format' = 'yyyy-MM-dd',
  'projection.dt.range' = '2010-01-01,NOW+2DAYS',
  'projection.dt.interval' = '1',
  'projection.dt.interval.unit' = 'DAYS',
  'storage.location.template' = 's3://${bucket}/quarantine/dt=${dt}/'
);
