-- What evaluation knows of users: their profile, how many events it holds, and the packed last events.
SELECT user_id, version, model_version, vector_send(vector), events
FROM profiles
WHERE user_id = ANY(%(user_ids)s::text[])
