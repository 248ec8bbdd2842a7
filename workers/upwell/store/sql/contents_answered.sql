-- Results of these triggers, with the place of the trigger that caused each.
SELECT trigger_id, topic, partition, log_offset, source, payload
FROM contents
WHERE trigger_id = ANY(%(trigger_ids)s::text[])
