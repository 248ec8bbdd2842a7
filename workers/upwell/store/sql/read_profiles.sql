-- Stored state of the users that a batch touches and the cache lacks.
SELECT user_id, partition, state_version, model_version, generation, version, revision, event_time,
       base, half_life_ms, vector_send(vector), events, slates, triggered, reactions, segments
FROM profiles
WHERE user_id = ANY(%(user_ids)s::text[])
