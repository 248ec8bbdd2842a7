-- (What a text is nearly the same as is no matter of a model, and stays.)
-- Items that have been published under a version go over to it ...
UPDATE items SET vector = prepared.vector, model_version = prepared.model_version, modalities = prepared.modalities,
    perceived = prepared.perceived - 'duplicate_of'
        || jsonb_strip_nulls(jsonb_build_object('duplicate_of', items.perceived->'duplicate_of')),
    updated_at = now()
FROM item_preparations AS prepared
WHERE items.item_id = ANY(%(item_ids)s::text[]) AND prepared.item_id = items.item_id
  AND prepared.model_version = %(model_version)s
