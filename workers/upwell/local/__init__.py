"""The local stack: real Apache Kafka, PostgreSQL with pgvector and Triton, supervised on one machine, loopback only."""
