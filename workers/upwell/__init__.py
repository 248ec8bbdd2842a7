"""Upwell: an event-driven streaming recommender worker.

Interactions and items flow in from Kafka; re-rankings, content, features and trends flow out, exactly once.
"""

__version__ = "0.1.0"
