-- Vectors of one modality, before fusion: fixed per item and model version.
INSERT INTO item_modalities (item_id, modality, model_version, vector)
SELECT item_id, %(modality)s, %(model_version)s, vector
FROM unnest(%(item_ids)s::text[], %(vectors)s::vector[]) AS made (item_id, vector)
ON CONFLICT DO NOTHING
