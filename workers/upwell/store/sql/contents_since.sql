SELECT payload FROM contents WHERE created_at >= %(since)s
