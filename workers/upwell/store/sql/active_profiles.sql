-- The most recently active users, by event time relative to the newest event: the log's time, not the clock's.
SELECT user_id, vector_send(vector)
FROM profiles
WHERE event_time >= (SELECT max(event_time) FROM profiles) - %(window_ms)s
  AND version >= %(min_events)s
  AND vector_dims(vector) = %(dimension)s
  AND model_version = %(model_version)s
ORDER BY event_time DESC, user_id
LIMIT %(at_most)s
