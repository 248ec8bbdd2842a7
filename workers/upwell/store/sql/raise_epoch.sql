-- Take a partition over: from here on a flush of the former owner is refused. Returns where the stored state stands.
INSERT INTO watermark AS held (group_id, cluster_id, topic_id, topic, partition, epoch, next_offset)
VALUES (%(group_id)s, %(cluster_id)s, %(topic_id)s, %(topic)s, %(partition)s, 1, %(log_start)s)
ON CONFLICT (group_id, topic, partition) DO UPDATE SET epoch = held.epoch + 1, updated_at = now()
RETURNING epoch, next_offset, cluster_id, topic_id
