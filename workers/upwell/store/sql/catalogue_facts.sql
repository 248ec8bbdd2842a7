-- Titles, categories and attributes of the whole catalogue, as far as asked for.
SELECT item_id, title, categories, attributes
FROM items
WHERE NOT deleted AND title <> ''
ORDER BY item_id
LIMIT %(at_most)s
