-- One shard's learned state as of next_offset; an older one, or one of an older release, never replaces a newer one of the
-- same log.
INSERT INTO statistics_snapshots AS held (shard, topic_id, state_version, next_offset, state)
VALUES (%(shard)s, %(topic_id)s, %(state_version)s, %(next_offset)s, %(state)s)
ON CONFLICT (shard) DO UPDATE SET
    topic_id = excluded.topic_id, state_version = excluded.state_version,
    next_offset = excluded.next_offset, state = excluded.state, updated_at = now()
WHERE held.topic_id <> excluded.topic_id OR held.state_version < excluded.state_version
    OR (held.state_version = excluded.state_version AND held.next_offset < excluded.next_offset)
