-- Prepared items of these partitions that are not under the version yet.
SELECT item_id, title, categories, attributes, quality, ts, deleted, vector_send(prepared.vector), prepared.modalities
FROM items JOIN item_preparations AS prepared USING (item_id)
WHERE topic_id = %(topic_id)s AND partition = ANY(%(partitions)s::int4[])
  AND prepared.model_version = %(model_version)s AND items.model_version <> %(model_version)s
ORDER BY item_id
LIMIT %(at_most)s
