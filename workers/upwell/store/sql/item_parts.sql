-- Vectors before fusion of all items of a model version, deleted ones too: there are interactions with them.
SELECT item_id, vector_send(item_modalities.vector)
FROM item_modalities JOIN items USING (item_id)
WHERE item_modalities.model_version = %(model_version)s AND items.model_version = %(model_version)s
  AND modality = %(modality)s
ORDER BY item_id
