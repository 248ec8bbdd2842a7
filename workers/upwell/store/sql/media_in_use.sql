-- Media of items that are there, or were deleted since a moment (a model that follows looks at them again) ...
SELECT piece->>'uri'
FROM items, jsonb_array_elements(media) AS piece
WHERE piece->>'uri' IS NOT NULL AND (NOT deleted OR updated_at >= %(since)s)
UNION
-- ... and of contents made since. Of their payloads, which are JSON, only the addresses are sent. A NUL in a text beside
-- them, which Postgres refuses, becomes a space.
SELECT replace(convert_from(payload, 'UTF8'), '\u0000', '\u0020')::json ->> 'uri'
FROM contents
WHERE created_at >= %(since)s AND replace(convert_from(payload, 'UTF8'), '\u0000', '\u0020')::json ->> 'uri' IS NOT NULL
