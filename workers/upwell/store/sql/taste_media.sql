-- Media of the items with a picture that lie nearest to what the user likes: whose style suits him. Vectors of another
-- model than the profile's cannot be compared with it. MATERIALIZED: compared only where both are of one length.
WITH candidate AS MATERIALIZED (
    SELECT i.item_id, i.media, i.vector, p.vector AS taste
    FROM profiles p
    JOIN items i ON i.model_version = p.model_version AND vector_dims(i.vector) = vector_dims(p.vector)
    WHERE p.user_id = %(user_id)s AND NOT i.deleted AND i.item_id <> %(item_id)s
      AND i.media @> '[{"kind": "image"}]'::jsonb
)
SELECT item_id, media
FROM candidate
ORDER BY vector <=> taste, item_id
LIMIT %(most)s
