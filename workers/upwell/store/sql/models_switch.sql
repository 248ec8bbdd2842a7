-- Only a version under which every item is prepared may follow.
UPDATE model_versions AS versions SET state = 'switching'
WHERE model_version = %(model_version)s AND state = 'preparing'
  AND NOT EXISTS (
      SELECT FROM items
      WHERE vector IS NOT NULL
        AND items.model_version <> versions.model_version
        AND NOT EXISTS (SELECT FROM item_preparations AS prepared
                        WHERE prepared.item_id = items.item_id AND prepared.model_version = versions.model_version)
  )
