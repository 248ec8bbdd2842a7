DELETE FROM item_preparations WHERE model_version = %(model_version)s
