-- Compare and set: only the owner of the epoch, and only from where it believes the state to stand.
UPDATE watermark AS held
SET next_offset = moved.next_offset, updated_at = now()
FROM unnest(%(partitions)s::int4[], %(epochs)s::int8[], %(stored)s::int8[], %(next_offsets)s::int8[])
    AS moved (partition, epoch, stored, next_offset)
WHERE held.group_id = %(group_id)s
  AND held.topic = %(topic)s
  AND held.partition = moved.partition
  AND held.epoch = moved.epoch
  AND held.next_offset = moved.stored
RETURNING held.partition
