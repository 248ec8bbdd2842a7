"""Every metric's name, in one place. Prometheus, on a loopback port. Each worker is one process with one registry."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from upwell.settings import ConfigError, Telemetry

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

# What came in and what became of it. `worker` is items, interactions, content or trends.
RECORDS = Counter("upwell_records", "Input records read", ["worker"])
DUPLICATES = Counter("upwell_duplicates", "Events dropped by the dedupe window", ["worker"])
DEDUPE_FORGOTTEN = Counter(
    "upwell_dedupe_forgotten", "Events that left the dedupe window: a repeat of one counts again"
)
DEAD_LETTERS = Counter("upwell_dead_letters", "Records sent to the dead letters", ["worker", "step"])
OUTPUTS = Counter("upwell_outputs", "Records published", ["worker", "topic"])
LAG = Gauge("upwell_lag_records", "Records between the position and the end of the log", ["worker"])

# The batch path.
BATCH_RECORDS = Histogram(
    "upwell_batch_records", "Records per batch", ["worker"], buckets=(1, 10, 100, 500, 1000, 2000, 5000, 10000)
)
STAGE_SECONDS = Histogram(
    "upwell_stage_seconds", "Time of one stage of one batch", ["worker", "stage"], buckets=_SECONDS
)
ABORTS = Counter("upwell_aborts", "Transactions aborted", ["worker"])
TAKEOVERS = Counter("upwell_takeovers", "Partitions taken over", ["worker"])

# Profiles and their write-behind.
PROFILES_CACHED = Gauge("upwell_profiles_cached", "Users in the cache")
PROFILES_DIRTY = Gauge("upwell_profiles_dirty", "Users not yet flushed")
FLUSH_SECONDS = Histogram("upwell_flush_seconds", "Time of one flush to Postgres", buckets=_SECONDS)
FLUSH_REFUSED = Counter("upwell_flush_refused", "Flushes refused by the watermark: the partition has another owner")

# Shared learning.
STATISTICS_LAG = Gauge("upwell_statistics_lag", "Records of `statistics` between the position and the end of the log")
STATISTICS_SECONDS = Histogram(
    "upwell_statistics_lag_seconds",
    "From a record's log time until it is learned, the oldest of each read",
    buckets=_SECONDS,
)
SNAPSHOT_SECONDS = Histogram(
    "upwell_snapshot_copy_seconds", "Time that copying the learned state keeps the worker", buckets=_SECONDS
)
LESSONS = Counter("upwell_lessons", "Lessons learned")
LESSONS_LEFT_OUT = Counter("upwell_lessons_left_out", "Events whose lesson is not told: statistics.lessons_per_second")
ITEMS_UNKNOWN = Gauge(
    "upwell_items_unknown", "Items named in events of which no features have come; ranking.unknown_items"
)
SEGMENTS = Gauge("upwell_segments", "Segments of users that likings are counted of; cold_start.segments")
EVENTS_UNNAMED = Counter("upwell_events_unnamed", "Events that nothing is learned from: too many such items")

# Business rules.
RULES = Gauge("upwell_rules", "Rules that are known, of the topic and of the file")
RULES_REFUSED = Counter(
    "upwell_rules_refused", "Records of `rules`, and changes of the rules file, that are no valid rules"
)

# Rankings. Hits by targets is the hit rate; a place by its item's popularity: 0 the least popular, 1 the most popular one.
RANKING_TARGETS = Counter("upwell_ranking_targets", "Likings of an item new to its user, who had a ranking")
RANKING_HITS = Counter("upwell_ranking_hits", "... whose item was on that ranking")
RANKING_MOVES = Counter("upwell_ranking_hit_rate_moves", "Moves of the hit rate that were noticed", ["direction"])
RANKING_PLACES = Counter("upwell_ranking_places", "Places of published rankings")
RANKING_EXPLORED = Counter("upwell_ranking_explored", "Rankings whose last places were drawn")
RANKING_NEW = Counter("upwell_ranking_places_new", "... that hold an item of few events")
RANKING_POPULARITY = Counter("upwell_ranking_places_popularity", "... by popularity of their items, summed")

# Models and content.
INFERENCE_SECONDS = Histogram("upwell_inference_seconds", "Time of one Triton request", ["model"], buckets=_SECONDS)
INFERENCE_FAILURES = Counter("upwell_inference_failures", "Triton requests that failed", ["model"])
CONTENT_OUTCOMES = Counter("upwell_content_outcomes", "Ended triggers", ["outcome"])
CONTENT_TOKENS = Counter("upwell_content_tokens", "Tokens generated")
CONTENT_REJECTED = Counter("upwell_content_rejected", "Candidate texts refused by the check")
CONTENT_UNSAFE = Counter("upwell_content_unsafe", "Refused before publication: text, facts or picture", ["kind"])
CONTENT_MEDIA = Counter("upwell_content_media", "Media asked for, and whether they were made", ["format", "outcome"])

NEAR_DUPLICATES = Counter("upwell_items_near_duplicates", "Items whose text is nearly that of another of their batch")

# Media of items.
MEDIA_PREPARED = Counter("upwell_media_prepared", "Items whose media were looked at", ["outcome"])
MEDIA_SECONDS = Histogram(
    "upwell_media_seconds", "Time of one stage of one piece of media", ["stage"], buckets=_SECONDS
)
MEDIA_DECODERS_STARTED = Counter("upwell_media_decoders_started", "Decoding processes started; many: hostile files")

# Trends.
TREND_COUNTS = Gauge("upwell_trend_counts", "Counts held: keys times windows")
TREND_DELTAS = Counter("upwell_trend_deltas", "Deltas of statistics records counted")
TREND_LATE = Counter("upwell_trend_late", "Deltas not counted: their window is closed")


def serve(telemetry: Telemetry) -> int:
    """Serve `/metrics`; returns the port that was taken.

    Raises:
        ConfigError: the port is in use, or the address is not this machine's.
    """
    try:
        server, _ = start_http_server(telemetry.metrics_port, addr=telemetry.metrics_host)
    except OSError as error:
        raise ConfigError(
            f"telemetry.metrics_port = {telemetry.metrics_port} on {telemetry.metrics_host}: "
            f"{error.strerror or error}; give each worker a port of its own, or 0 for a free one"
        ) from error
    return int(server.server_port)
