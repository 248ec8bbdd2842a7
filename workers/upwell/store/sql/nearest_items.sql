-- Items nearest to one, with their titles and cosines, nearest first: among them a user's liked ones are looked for.
-- Vectors of another model cannot be compared. MATERIALIZED: compared only where both are of one length.
WITH candidate AS MATERIALIZED (
    SELECT i.item_id, i.title, i.vector, a.vector AS about
    FROM items a
    JOIN items i ON i.model_version = a.model_version AND vector_dims(i.vector) = vector_dims(a.vector)
    WHERE a.item_id = %(item_id)s AND i.item_id <> a.item_id AND NOT i.deleted AND i.title <> ''
)
SELECT item_id, title, 1 - (vector <=> about) AS cosine
FROM candidate
ORDER BY vector <=> about, item_id
LIMIT %(most)s
