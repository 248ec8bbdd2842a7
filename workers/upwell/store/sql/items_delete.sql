-- Deleted items keep their content and vector; a deletion of an unknown item leaves a row that an older record cannot
-- bring to life. Returns the accepted ones.
INSERT INTO items AS held (item_id, topic_id, partition, log_offset, deleted)
SELECT item_id, %(topic_id)s, partition, log_offset, true
FROM unnest(%(item_ids)s::text[], %(partitions)s::int4[], %(log_offsets)s::int8[]) AS latest (item_id, partition, log_offset)
ORDER BY item_id
ON CONFLICT (item_id) DO UPDATE SET
    topic_id = excluded.topic_id,
    partition = excluded.partition,
    log_offset = excluded.log_offset,
    deleted = true,
    first_offset = CASE
        WHEN held.first_offset IS NULL THEN NULL
        WHEN (held.topic_id, held.partition) = (excluded.topic_id, excluded.partition) THEN held.first_offset
        ELSE -1
    END,
    updated_at = now()
WHERE (held.topic_id, held.partition) <> (excluded.topic_id, excluded.partition)
   OR held.log_offset <= excluded.log_offset
RETURNING item_id
