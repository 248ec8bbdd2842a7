-- What may be said about these items.
SELECT item_id, title, description, language, categories, attributes, deleted
FROM items
WHERE item_id = ANY(%(item_ids)s::text[])
