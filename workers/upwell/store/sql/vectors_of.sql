-- Stored vectors of items, with the model that made them.
SELECT item_id, model_version, vector_send(vector)
FROM items
WHERE item_id = ANY(%(item_ids)s::text[]) AND vector IS NOT NULL
