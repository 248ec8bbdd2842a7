-- Media of items that are there, or were deleted since a moment: a model that follows looks at them again.
SELECT piece->>'uri'
FROM items, jsonb_array_elements(media) AS piece
WHERE piece->>'uri' IS NOT NULL AND (NOT deleted OR updated_at >= %(since)s)
