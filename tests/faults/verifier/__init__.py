"""What went in, what was published and what Postgres holds, recomputed in plain Python: nothing lost, nothing doubled?

Shares no code with what it judges: `confluent_kafka`, `psycopg` and the standard library only (a test keeps it so).
`outside` reads topics and tables, `judge` puts the rules together; each rule is a module of its own.
"""
