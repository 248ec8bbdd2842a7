UPDATE model_versions SET state = 'live', switched_at = now()
WHERE model_version = %(model_version)s AND state = 'switching'
  AND NOT EXISTS (SELECT FROM model_versions WHERE state = 'live')
