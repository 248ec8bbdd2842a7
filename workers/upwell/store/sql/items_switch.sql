-- Items that have been published under a version go over to it ...
UPDATE items SET vector = prepared.vector, model_version = prepared.model_version, modalities = prepared.modalities,
    perceived = prepared.perceived, updated_at = now()
FROM item_preparations AS prepared
WHERE items.item_id = ANY(%(item_ids)s::text[]) AND prepared.item_id = items.item_id
  AND prepared.model_version = %(model_version)s
