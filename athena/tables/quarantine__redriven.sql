-- Generated from schemas/ by `headrace schema ddl`; change the schema, not this file.
CREATE EXTERNAL TABLE IF NOT EXISTS `${database}`.`quarantine__redriven` (
  `code` string COMMENT 'Why it had been refused.',
  `ingested_time` timestamp COMMENT 'When it arrived in the stream, UTC.',
  `shard_id` string COMMENT 'Shard of the stream it came through.',
  `sequence_number` string COMMENT 'Its position in the shard: number of the Kinesis record.',
  `subsequence_number` bigint COMMENT 'Its position inside that record.',
  `quarantine_file` string COMMENT 'Key of the quarantine file that holds it.',
  `quarantine_row` bigint COMMENT 'Its row in that file, counted from 0.',
  `units` bigint COMMENT 'As how many units it went through: more than one where it came apart.',
  `redriven_as` string COMMENT 'Segment that took it in again; null: it was not redriven.',
  `redriven_time` timestamp COMMENT 'When it was redriven, UTC.'
)
COMMENT 'Marks of refused records that went through again.'
PARTITIONED BY (
  `dt` string COMMENT 'Day it arrived, UTC: yyyy-mm-dd. Partition key.'
)
STORED AS PARQUET
LOCATION 's3://${bucket}/redriven/'
TBLPROPERTIES (
  'classification' = 'parquet',
  'parquet.compression' = 'ZSTD',
  'projection.enabled' = 'true',
  'projection.dt.type' = 'date',
  'projection.dt.format' = 'yyyy-MM-dd',
  'projection.dt.range' = '2010-01-01,NOW+2DAYS',
  'projection.dt.interval' = '1',
  'projection.dt.interval.unit' = 'DAYS',
  'storage.location.template' = 's3://${bucket}/redriven/dt=${dt}/'
);
