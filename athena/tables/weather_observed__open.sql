-- Generated from schemas/ by `headrace schema ddl`; change the schema, not this file.
CREATE EXTERNAL TABLE IF NOT EXISTS `${database}`.`weather_observed__open` (
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
  `origin` string COMMENT 'Airport of the weather station, three-letter FAA code. It is also the event\'s entity and source.',
  `year` bigint COMMENT 'Year of the observation, in the station\'s local calendar.',
  `month` bigint COMMENT 'Month of the observation, in the station\'s local calendar, 1 = January.',
  `day` bigint COMMENT 'Day of the month of the observation, in the station\'s local calendar.',
  `hour` bigint COMMENT 'Hour of the observation, local time of the station.',
  `temp` double COMMENT 'Air temperature in degrees Fahrenheit. Left out where not measured.',
  `dewp` double COMMENT 'Dew point in degrees Fahrenheit. Left out where not measured.',
  `humid` double COMMENT 'Relative humidity in per cent. Left out where not measured.',
  `wind_dir` bigint COMMENT 'Direction the wind comes from, in degrees clockwise from north; 0 with no wind. Left out where variable or not measured.',
  `wind_speed` double COMMENT 'Wind speed in miles per hour. The bound is wide on purpose: the year 2013 holds one 1048.36, a sensor error (Newark, 12 February, 03:00 local), kept as it was published. Left out where not measured.',
  `wind_gust` double COMMENT 'Speed of the strongest gust in miles per hour. Left out where none was reported.',
  `precip` double COMMENT 'Precipitation in the hour, in inches.',
  `pressure` double COMMENT 'Air pressure at sea level in millibars. Left out where not measured.',
  `visib` double COMMENT 'Visibility in statute miles; stations report at most 10.',
  `time_hour` timestamp COMMENT 'Hour of the observation in UTC; it is also the event time. With the origin it finds the flights of that hour.'
)
COMMENT 'weather.observed events, open tier: the files as they lie.'
PARTITIONED BY (
  `dt` string COMMENT 'Day of the event time, UTC: yyyy-mm-dd. Partition key.'
)
STORED AS PARQUET
LOCATION 's3://${bucket}/events/event_type=weather.observed/'
TBLPROPERTIES (
  'classification' = 'parquet',
  'parquet.compression' = 'ZSTD',
  'projection.enabled' = 'true',
  'projection.dt.type' = 'date',
  'projection.dt.format' = 'yyyy-MM-dd',
  'projection.dt.range' = '2010-01-01,NOW+2DAYS',
  'projection.dt.interval' = '1',
  'projection.dt.interval.unit' = 'DAYS',
  'storage.location.template' = 's3://${bucket}/events/event_type=weather.observed/dt=${dt}/'
);
