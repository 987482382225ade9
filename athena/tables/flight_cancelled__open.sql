-- Generated from schemas/ by `headrace schema ddl`; change the schema, not this file.
CREATE EXTERNAL TABLE IF NOT EXISTS `${database}`.`flight_cancelled__open` (
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
  `data_json` string COMMENT 'The producer\'s bytes of data, the source of truth.',
  `year` bigint COMMENT 'Year of the scheduled departure, in the origin\'s local calendar (the US records begin in 1987).',
  `month` bigint COMMENT 'Month of the scheduled departure, in the origin\'s local calendar, 1 = January.',
  `day` bigint COMMENT 'Day of the month of the scheduled departure, in the origin\'s local calendar.',
  `sched_dep_time` bigint COMMENT 'Scheduled departure, local time of the origin as HHMM without leading zeros; always hour * 100 + minute.',
  `sched_arr_time` bigint COMMENT 'Scheduled arrival, local time of the destination as HHMM without leading zeros.',
  `carrier` string COMMENT 'Airline, two-character IATA code. In lower case it is the tenant.',
  `flight` bigint COMMENT 'Flight number within the carrier; no unit.',
  `tailnum` string COMMENT 'Tail number, the registration of the aircraft; it is also the event\'s entity. US ones begin with N; the year 2013 has one that does not, D942DN. Left out where no aircraft had been assigned; such an event has no entity and is refused for that.',
  `origin` string COMMENT 'Airport of departure, three-letter FAA code. It is also the event\'s source.',
  `dest` string COMMENT 'Airport the flight is bound for, three-letter FAA code.',
  `distance` bigint COMMENT 'Distance between origin and destination in statute miles.',
  `hour` bigint COMMENT 'Hour of the scheduled departure, local time of the origin.',
  `minute` bigint COMMENT 'Minute of the scheduled departure within its hour.',
  `time_hour` timestamp COMMENT 'Scheduled departure truncated to the hour, in UTC. With the origin it finds the weather of that hour.'
)
COMMENT 'flight.cancelled events, open tier: the files as they lie.'
PARTITIONED BY (
  `dt` string COMMENT 'Day of the event time, UTC: yyyy-mm-dd. Partition key.'
)
STORED AS PARQUET
LOCATION 's3://${bucket}/events/event_type=flight.cancelled/'
TBLPROPERTIES (
  'classification' = 'parquet',
  'parquet.compression' = 'ZSTD',
  'projection.enabled' = 'true',
  'projection.dt.type' = 'date',
  'projection.dt.format' = 'yyyy-MM-dd',
  'projection.dt.range' = '2010-01-01,NOW+2DAYS',
  'projection.dt.interval' = '1',
  'projection.dt.interval.unit' = 'DAYS',
  'storage.location.template' = 's3://${bucket}/events/event_type=flight.cancelled/dt=${dt}/'
);
