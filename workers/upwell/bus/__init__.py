"""Kafka: batches, the transaction, takeover, dead letters, topics. Records in, records out, offsets with them."""
