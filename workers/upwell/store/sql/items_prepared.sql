SELECT item_id, vector_send(vector), modalities, perceived
FROM item_preparations
WHERE item_id = ANY(%(item_ids)s::text[]) AND model_version = %(model_version)s
