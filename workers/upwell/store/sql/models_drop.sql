DELETE FROM model_versions WHERE model_version = %(model_version)s AND state = 'preparing'
