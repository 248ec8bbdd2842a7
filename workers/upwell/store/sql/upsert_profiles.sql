-- The latest committed state of each changed user.
INSERT INTO profiles AS held (
    user_id, partition, state_version, model_version, generation, version, revision, event_time,
    base, half_life_ms, vector, events, slates, slate_items, triggered, reactions, segments
)
SELECT user_id, partition, %(state_version)s, %(model_version)s, generation, version, revision, event_time,
       base, half_life_ms, vector, events, slates, string_to_array(slate_items, chr(31)), triggered,
       reactions, string_to_array(segments, chr(31))
FROM unnest(
    %(user_ids)s::text[], %(partitions)s::int4[], %(generations)s::int4[], %(versions)s::int8[],
    %(revisions)s::int8[], %(event_times)s::int8[], %(bases)s::int8[], %(half_lives)s::float8[], %(vectors)s::vector[],
    %(events)s::bytea[], %(slates)s::bytea[], %(slate_items)s::text[], %(triggered)s::text[],
    %(reactions)s::bytea[], %(segments)s::text[]
) AS changed (
    user_id, partition, generation, version, revision, event_time, base, half_life_ms, vector, events, slates,
    slate_items, triggered, reactions, segments
)
ON CONFLICT (user_id) DO UPDATE SET
    partition = excluded.partition,
    state_version = excluded.state_version,
    model_version = excluded.model_version,
    generation = excluded.generation,
    version = excluded.version,
    revision = excluded.revision,
    event_time = excluded.event_time,
    base = excluded.base,
    half_life_ms = excluded.half_life_ms,
    vector = excluded.vector,
    events = excluded.events,
    slates = excluded.slates,
    slate_items = excluded.slate_items,
    triggered = excluded.triggered,
    reactions = excluded.reactions,
    segments = excluded.segments,
    updated_at = now()
-- A user has one owner: a row of another partition is not overwritten, and the worker stops.
WHERE held.partition = excluded.partition
