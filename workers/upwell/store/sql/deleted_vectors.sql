-- Vectors of deleted items: kept for profiles, which are sums of them.
SELECT item_id, vector_send(vector)
FROM items
WHERE deleted AND vector IS NOT NULL AND model_version = %(model_version)s
