-- Users whose newest slate holds one of these items, in the partitions that the worker owns.
SELECT user_id, partition
FROM profiles
WHERE partition = ANY(%(partitions)s::int4[]) AND slate_items && %(items)s::text[]
