-- Vectors of the items that are not deleted, with the model that made them.
SELECT item_id, model_version, vector_send(vector)
FROM items
WHERE vector IS NOT NULL AND NOT deleted
ORDER BY item_id
