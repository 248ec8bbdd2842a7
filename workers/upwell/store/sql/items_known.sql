-- Stored features of a batch's items: fixed per item and model version.
SELECT item_id, vector_send(vector), modalities, perceived
FROM items
WHERE item_id = ANY(%(item_ids)s::text[]) AND vector IS NOT NULL AND model_version = %(model_version)s
