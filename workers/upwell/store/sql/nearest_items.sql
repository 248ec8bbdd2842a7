-- Items nearest to one, with their titles and cosines, nearest first: among them a user's liked ones are looked for.
-- One more is asked for: the item itself is the nearest of all.
SELECT near.item_id, near.title, near.cosine
FROM items AS about, nearest_to(about.vector, about.model_version, %(most)s + 1) AS near
WHERE about.item_id = %(item_id)s AND near.item_id <> about.item_id
ORDER BY near.cosine DESC, near.item_id
LIMIT %(most)s
