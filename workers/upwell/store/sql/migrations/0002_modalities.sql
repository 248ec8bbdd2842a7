-- What an item's fused vector was made of: fusion learns from it, and a new fusion needs no encoder again.
CREATE TABLE item_modalities (
    item_id        text    NOT NULL REFERENCES items ON DELETE CASCADE,
    modality       text    NOT NULL,  -- text, image, audio or speech
    model_version  text    NOT NULL,  -- of the vector in items
    vector         vector  NOT NULL,
    PRIMARY KEY (item_id, model_version, modality)
);

-- What was heard and seen in its media: {"transcript": …, "labels": […]}.
ALTER TABLE items ADD COLUMN perceived jsonb NOT NULL DEFAULT '{}';
