-- Which model made the items' vectors, and which one is to follow it.
CREATE TABLE model_versions (
    model_version    text PRIMARY KEY,
    served_as        text NOT NULL,  -- its name on Triton
    state            text NOT NULL CHECK (state IN ('preparing', 'switching', 'live', 'retired')),
    features_offsets jsonb NOT NULL DEFAULT '{}',  -- item-features: partition → all items are published under it below
    created_at       timestamptz NOT NULL DEFAULT now(),
    switched_at      timestamptz
);
CREATE UNIQUE INDEX model_versions_live ON model_versions ((true)) WHERE state = 'live';
CREATE UNIQUE INDEX model_versions_next ON model_versions ((true)) WHERE state IN ('preparing', 'switching');

-- Items under the version that is to follow, beside the one that is live.
CREATE TABLE item_preparations (
    item_id        text NOT NULL REFERENCES items ON DELETE CASCADE,
    model_version  text NOT NULL REFERENCES model_versions ON DELETE CASCADE,
    vector         vector NOT NULL,
    modalities     jsonb  NOT NULL,
    perceived      jsonb  NOT NULL,
    PRIMARY KEY (item_id, model_version)
);

-- The offset of each partition of interactions at which its profiles went over to a version.
CREATE TABLE model_switches (
    group_id       text    NOT NULL,
    topic          text    NOT NULL,
    partition      integer NOT NULL,
    model_version  text    NOT NULL,
    next_offset    bigint  NOT NULL,
    switched_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (group_id, topic, partition, model_version)
);
