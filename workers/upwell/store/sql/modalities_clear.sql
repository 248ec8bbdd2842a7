-- Vectors before fusion of versions that nobody uses or prepares any more.
DELETE FROM item_modalities AS old
WHERE EXISTS (SELECT FROM items WHERE items.item_id = old.item_id AND items.model_version <> old.model_version)
  AND NOT EXISTS (SELECT FROM model_versions AS versions
                  WHERE versions.model_version = old.model_version AND versions.state <> 'retired')
