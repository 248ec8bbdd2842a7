SELECT model_version, served_as, state, features_offsets FROM model_versions ORDER BY created_at
