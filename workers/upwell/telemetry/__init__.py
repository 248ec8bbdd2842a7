"""Logs and metrics: what a worker tells about itself."""
