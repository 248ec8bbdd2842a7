-- Items of these partitions, deleted ones too since profiles are sums of them, that a version lacks.
SELECT item_id, title, description, language, categories, attributes, media
FROM items
WHERE topic_id = %(topic_id)s AND partition = ANY(%(partitions)s::int4[]) AND vector IS NOT NULL
  AND items.model_version <> %(model_version)s AND item_id <> ALL(%(but)s::text[])
  AND NOT EXISTS (SELECT FROM item_preparations AS prepared
                  WHERE prepared.item_id = items.item_id AND prepared.model_version = %(model_version)s)
ORDER BY item_id
LIMIT %(at_most)s
