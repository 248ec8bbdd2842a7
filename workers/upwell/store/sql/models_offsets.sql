-- ... together with how far item-features must be read to have them.
UPDATE model_versions SET features_offsets = (
    SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM (
        SELECT key, max(value::int8) AS value
        FROM (SELECT * FROM jsonb_each_text(features_offsets) UNION ALL SELECT * FROM jsonb_each_text(%(offsets)s::jsonb)) AS each
        GROUP BY key
    ) AS furthest
)
WHERE model_version = %(model_version)s
