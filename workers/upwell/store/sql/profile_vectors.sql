-- What these users like, as one vector each.
SELECT user_id, vector_send(vector)
FROM profiles
WHERE user_id = ANY(%(user_ids)s::text[])
