-- The version that is to follow. Before the first one, the live one is noted too.
WITH live AS (
    INSERT INTO model_versions (model_version, served_as, state)
    SELECT %(live)s, %(live_as)s, 'live'
    WHERE NOT EXISTS (SELECT FROM model_versions WHERE state = 'live')
)
INSERT INTO model_versions (model_version, served_as, state, created_at)
VALUES (%(next)s, %(next_as)s, 'preparing', clock_timestamp())
ON CONFLICT (model_version) DO UPDATE SET served_as = excluded.served_as, state = 'preparing', features_offsets = '{}'
WHERE model_versions.state = 'retired'
