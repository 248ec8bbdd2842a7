-- What is stored of a batch's items: an unchanged text need not be encoded again.
SELECT item_id, title, description, categories, attributes, model_version, vector_send(vector)
FROM items
WHERE item_id = ANY(%(item_ids)s::text[]) AND vector IS NOT NULL AND model_version = %(model_version)s
