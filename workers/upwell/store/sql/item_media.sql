-- Media of items that are still there, without their bytes.
SELECT item_id, media
FROM items
WHERE item_id = ANY(%(item_ids)s::text[]) AND NOT deleted
