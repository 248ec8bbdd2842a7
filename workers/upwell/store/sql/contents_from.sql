-- Results stored for triggers at or beyond an offset: at takeover, those whose publication is not known.
SELECT log_offset, trigger_id, source, payload
FROM contents
WHERE topic = %(topic)s AND partition = %(partition)s AND log_offset >= %(log_offset)s
