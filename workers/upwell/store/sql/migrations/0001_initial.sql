-- Tables of the first release. Every statement runs inside the schema of `postgres.db_schema`.

-- Where stored state stands, per input partition. The state holds no event at or beyond next_offset.
CREATE TABLE watermark (
    group_id     text        NOT NULL,
    cluster_id   text        NOT NULL,
    topic_id     text        NOT NULL,
    topic        text        NOT NULL,
    partition    integer     NOT NULL,
    epoch        bigint      NOT NULL,  -- raised by each takeover; a flush of an older epoch is refused
    next_offset  bigint      NOT NULL,
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (group_id, topic, partition)
);

-- One row per user, written behind the Kafka transaction by the owner of the partition.
CREATE TABLE profiles (
    user_id        text     PRIMARY KEY,
    partition      integer  NOT NULL,
    state_version  smallint NOT NULL,
    model_version  text     NOT NULL,
    generation     integer  NOT NULL,  -- raised by erasure
    version        bigint   NOT NULL,  -- distinct events applied
    revision       bigint   NOT NULL,  -- re-issues at this version
    event_time     bigint   NOT NULL,  -- largest event time, ms
    base           bigint   NOT NULL,  -- the vector is relative to 2^base half-lives
    half_life_ms   double precision NOT NULL,  -- the unit of base
    vector         vector   NOT NULL,  -- float32 sum of item vectors
    events         bytea    NOT NULL,  -- packed last events (upwell.interactions.history.EVENT)
    slates         bytea    NOT NULL,  -- last slates with propensities, JSON
    slate_items    text[]   NOT NULL,  -- items of the newest slate: who must be told when one is deleted
    triggered      text,               -- item of the last head_changed trigger
    updated_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX profiles_partition ON profiles (partition);

-- One row per item ever seen; deleted ones keep their vector for the input's retention.
CREATE TABLE items (
    item_id        text     PRIMARY KEY,
    topic_id       text     NOT NULL,
    partition      integer  NOT NULL,
    log_offset     bigint   NOT NULL,  -- of the record this row stands for; an older record never overwrites it
    deleted        boolean  NOT NULL DEFAULT false,
    title          text     NOT NULL DEFAULT '',
    description    text     NOT NULL DEFAULT '',
    language       text     NOT NULL DEFAULT '',
    categories     text[]   NOT NULL DEFAULT '{}',
    attributes     jsonb    NOT NULL DEFAULT '{}',
    media          jsonb    NOT NULL DEFAULT '[]',
    vector         vector,
    model_version  text     NOT NULL DEFAULT '',
    modalities     jsonb    NOT NULL DEFAULT '{}',
    quality        real     NOT NULL DEFAULT 1,
    ts             bigint   NOT NULL DEFAULT 0,
    first_offset   bigint,             -- of the record that first gave it a vector: the one that looks for an audience
    updated_at     timestamptz NOT NULL DEFAULT now()
);

-- Results by the trigger that caused them: the insert decides between two workers.
CREATE TABLE contents (
    trigger_id  text PRIMARY KEY,
    content_id  text NOT NULL UNIQUE,
    user_id     text NOT NULL,
    source      text NOT NULL,
    payload     bytea NOT NULL,  -- the record as published on `contents`
    topic       text NOT NULL,   -- the trigger's place in the log: met again there, it is published again;
    partition   integer NOT NULL,  -- met elsewhere, it is a duplicate
    log_offset  bigint NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX contents_position ON contents (topic, partition, log_offset);
CREATE INDEX contents_user ON contents (user_id, created_at DESC);

-- Shared learning as of next_offset of the shard's log.
CREATE TABLE statistics_snapshots (
    shard          integer  PRIMARY KEY,
    topic_id       text     NOT NULL,
    state_version  smallint NOT NULL,
    next_offset    bigint   NOT NULL,
    state          bytea    NOT NULL,
    updated_at     timestamptz NOT NULL DEFAULT now()
);
