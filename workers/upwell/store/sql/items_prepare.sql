INSERT INTO item_preparations (item_id, model_version, vector, modalities, perceived)
SELECT item_id, %(model_version)s, vector, modalities::jsonb, perceived::jsonb
FROM unnest(%(item_ids)s::text[], %(vectors)s::vector[], %(modalities)s::text[], %(perceived)s::text[])
    AS made (item_id, vector, modalities, perceived)
ON CONFLICT DO NOTHING
