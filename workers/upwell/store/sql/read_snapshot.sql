SELECT next_offset, state
FROM statistics_snapshots
WHERE shard = %(shard)s AND topic_id = %(topic_id)s AND state_version = %(state_version)s
