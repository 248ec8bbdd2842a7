INSERT INTO model_switches (group_id, topic, partition, model_version, next_offset)
SELECT %(group_id)s, %(topic)s, partition, %(model_version)s, next_offset
FROM unnest(%(partitions)s::int4[], %(next_offsets)s::int8[]) AS went (partition, next_offset)
ON CONFLICT DO NOTHING
