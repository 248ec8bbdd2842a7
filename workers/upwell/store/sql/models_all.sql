-- All versions, and how many items with a vector are not under them yet, prepared or not.
SELECT model_version, served_as, state, features_offsets,
       (SELECT count(*) FROM items WHERE vector IS NOT NULL AND items.model_version <> versions.model_version
           AND NOT EXISTS (SELECT FROM item_preparations AS prepared
                           WHERE prepared.item_id = items.item_id AND prepared.model_version = versions.model_version)),
       (SELECT count(*) FROM items WHERE vector IS NOT NULL)
FROM model_versions AS versions
ORDER BY created_at
