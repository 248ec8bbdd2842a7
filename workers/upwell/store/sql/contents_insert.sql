-- The first result of a trigger stays: this decides between two workers. Returns the triggers whose result it was.
INSERT INTO contents (trigger_id, content_id, user_id, source, payload, topic, partition, log_offset)
SELECT *
FROM unnest(
    %(trigger_ids)s::text[], %(content_ids)s::text[], %(user_ids)s::text[], %(sources)s::text[], %(payloads)s::bytea[],
    %(topics)s::text[], %(partitions)s::int4[], %(log_offsets)s::int8[]
)
ORDER BY 1
ON CONFLICT (trigger_id) DO NOTHING
RETURNING trigger_id
