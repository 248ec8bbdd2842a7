-- Users of these partitions whose profile is of another version than the live one, latest first.
SELECT user_id, partition
FROM profiles
WHERE partition = ANY(%(partitions)s::int4[]) AND model_version <> %(model_version)s AND model_version <> ''
ORDER BY event_time DESC
LIMIT %(at_most)s
