-- Each row is the latest record of its item in the batch. An older record of the same log partition never overwrites.
-- Returns the accepted items, and whether this record is the one that first gave the item a vector: redelivered
-- after a crash, it still is.
INSERT INTO items AS held (
    item_id, topic_id, partition, log_offset, deleted, title, description, language, categories, attributes, media,
    vector, model_version, modalities, perceived, quality, ts, first_offset
)
SELECT item_id, %(topic_id)s, partition, log_offset, false, title, description, language,
       ARRAY(SELECT jsonb_array_elements_text(categories::jsonb)), attributes::jsonb, media::jsonb,
       vector, %(model_version)s, modalities::jsonb, perceived::jsonb, quality, ts, log_offset
FROM unnest(
    %(item_ids)s::text[], %(partitions)s::int4[], %(log_offsets)s::int8[], %(titles)s::text[],
    %(descriptions)s::text[], %(languages)s::text[], %(categories)s::text[], %(attributes)s::text[],
    %(media)s::text[], %(vectors)s::vector[], %(modalities)s::text[], %(perceived)s::text[], %(qualities)s::float4[],
    %(times)s::int8[]
) AS latest (
    item_id, partition, log_offset, title, description, language, categories, attributes, media, vector, modalities,
    perceived, quality, ts
)
ORDER BY item_id
ON CONFLICT (item_id) DO UPDATE SET
    topic_id = excluded.topic_id,
    partition = excluded.partition,
    log_offset = excluded.log_offset,
    deleted = false,
    title = excluded.title,
    description = excluded.description,
    language = excluded.language,
    categories = excluded.categories,
    attributes = excluded.attributes,
    media = excluded.media,
    vector = excluded.vector,
    model_version = excluded.model_version,
    modalities = excluded.modalities,
    perceived = excluded.perceived,
    quality = excluded.quality,
    ts = excluded.ts,
    first_offset = CASE
        WHEN held.first_offset IS NULL THEN excluded.log_offset
        WHEN (held.topic_id, held.partition) = (excluded.topic_id, excluded.partition) THEN held.first_offset
        ELSE -1  -- of another log: no record of this one was the first
    END,
    updated_at = now()
WHERE (held.topic_id, held.partition) <> (excluded.topic_id, excluded.partition)
   OR held.log_offset <= excluded.log_offset
RETURNING item_id, first_offset = log_offset
