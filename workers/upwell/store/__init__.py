"""Postgres: profiles, items, contents, snapshots. Rows in, rows out; no ranking arithmetic."""
