-- When no item is left under another version, the one that follows is live.
UPDATE model_versions SET state = 'retired'
WHERE state = 'live'
  AND EXISTS (SELECT FROM model_versions WHERE model_version = %(model_version)s AND state = 'switching')
  AND NOT EXISTS (SELECT FROM items WHERE vector IS NOT NULL AND model_version <> %(model_version)s)
