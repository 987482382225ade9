-- Generated from schemas/ by `headrace schema ddl`; change the schema, not this file.
CREATE EXTERNAL TABLE IF NOT EXISTS `${database}`.`events__open` (
  `event_id` string COMMENT 'Identity of the event, chosen by its producer; with tenant_id the key of duplicates.',
  `tenant_id` string COMMENT 'Who owns the event.',
  `entity_id` string COMMENT 'The thing the event is about.',
  `schema_version` int COMMENT 'Version of the event type\'s schema that data was written for.',
  `source` string COMMENT 'Where the event was produced.',
  `event_time` timestamp COMMENT 'When it happened, by the producer\'s clock, UTC.',
  `received_time` timestamp COMMENT 'When we first received it, UTC.',
  `ingested_time` timestamp COMMENT 'When it arrived in the stream, UTC.',
  `correlation_id` string COMMENT 'What ties this event to others, if the producer gave it.',
  `is_duplicate` boolean COMMENT 'True when an event of the same tenant and id was accepted before.',
  `shard_id` string COMMENT 'Shard of the stream it came through.',
  `sequence_number` string COMMENT 'Its position in the shard: number of the Kinesis record.',
  `subsequence_number` bigint COMMENT 'Its position inside that record.',
  `data_json` string COMMENT 'The producer\'s bytes of data, the source of truth.'
)
COMMENT 'Events of all types, open tier: the files as they lie.'
PARTITIONED BY (
  `event_type` string COMMENT 'Event type.',
  `dt` string COMMENT 'Day of the event time, UTC: yyyy-mm-dd. Partition key.'
)
STORED AS PARQUET
LOCATION 's3://${bucket}/events/'
TBLPROPERTIES (
  'classification' = 'parquet',
  'parquet.compression' = 'ZSTD',
  'projection.enabled' = 'true',
  'projection.event_type.type' = 'enum',
  'projection.event_type.values' = 'flight.cancelled,flight.departed,flight.landed,ratelimit.decided,weather.observed',
  'projection.dt.type' = 'date',
  'projection.dt.format' = 'yyyy-MM-dd',
  'projection.dt.range' = '2010-01-01,NOW+2DAYS',
  'projection.dt.interval' = '1',
  'projection.dt.interval.unit' = 'DAYS',
  'storage.location.template' = 's3://${bucket}/events/event_type=${event_type}/dt=${dt}/'
);
