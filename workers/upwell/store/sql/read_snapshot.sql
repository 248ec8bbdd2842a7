SELECT next_offset, state, state_version
FROM statistics_snapshots
WHERE shard = %(shard)s AND topic_id = %(topic_id)s
