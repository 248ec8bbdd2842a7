"""What an interactions worker learns from other topics: items from `item-features`, how to rank from `statistics`.

Both are functions of their log: read to the end before the first ranking, then kept up between batches.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from typing import Any

import msgspec
import numpy as np
import psycopg
import structlog
from confluent_kafka.admin import AdminClient
from numpy.typing import NDArray

from upwell.bus import topics
from upwell.bus.errors import Inconsistent
from upwell.bus.identity import topic_id
from upwell.bus.reader import LogReader, bounds
from upwell.bus.topics import Topic
from upwell.events.codec import DecodeError, decode
from upwell.events.contracts import STATISTICS_VERSION, ItemFeatures, Statistics
from upwell.interactions import lessons
from upwell.ranking.arms import Arms
from upwell.ranking.catalogue import Catalogue
from upwell.ranking.newcomers import FirstImpressions
from upwell.ranking.ranker import Ranker
from upwell.ranking.segments import Held, Segments
from upwell.settings import Settings
from upwell.store.models import ModelStore, State, Version
from upwell.store.snapshots import NewerSnapshot, SnapshotStore
from upwell.telemetry import metrics

log = structlog.get_logger("upwell.interactions")


class LearnedSegments(msgspec.Struct, array_like=True):
    """`ranking.segments.Segments.state`; rows are places in `Learned.items`."""

    base: int
    all: lessons.Array
    counts: dict[str, Held]


class Learned(msgspec.Struct, array_like=True):
    """A snapshot of what is learned from `statistics`."""

    arms_base: int
    arms: dict[str, list[float]]
    """Arm to [shown, liked]."""
    items: list[str] = []
    ranking: dict[str, lessons.Array] = {}
    """State of the ranking, its items in the order of `items`."""
    began: int = 0
    """Log time of the first statistics, ms."""
    shown: dict[str, int] = {}
    """First impressions of new items."""
    segments: LearnedSegments | None = None
    """None where no segments are configured, and in snapshots of older releases: counted from then on."""


LOOK_S = 1.0
"""How often it is asked which model is live."""
SHARD = 0
"""There is one statistics shard, partition 0."""


class FeatureReader:
    """Keeps the catalogue as `item-features` says, under one model version at a time.

    Records of a version that is to follow are kept aside until it is live and all of them have been read.
    """

    def __init__(self, settings: Settings, catalogue: Catalogue, models: ModelStore) -> None:
        self.catalogue = catalogue
        self.model_version = ""
        self.retired: set[str] = set()
        """Versions that were live before."""
        self.arrived: list[str] = []
        """Items whose vector has become known since the list was last taken."""
        self.deleted: list[str] = []
        """Items deleted since the list was last taken."""
        self.tombstones: set[str] = set()
        """All items whose deletion the topic still tells."""
        self._models = models
        self._live: Version | None = None
        self._ahead: set[str] = set()
        """Versions that are to follow."""
        self._aside: dict[str, dict[str, ItemFeatures]] = {}
        """Their records, by item."""
        self._look_at = 0.0
        self._reader = LogReader(settings.kafka, topics.real(settings.kafka, Topic.ITEM_FEATURES), "item-features")

    def to_end(self) -> None:
        self._look()
        if self._live is not None:
            self.model_version = self._live.model_version
        for batch in self._reader.to_end():
            self._learn(batch)

    def keep_deleted(self, vectors: Iterable[tuple[str, NDArray[np.float32]]]) -> None:
        """Items whose tombstone is all that the topic still tells: profiles go on needing their vectors."""
        for item_id, vector in vectors:
            if item_id not in self.catalogue.rows or not self.catalogue.known[self.catalogue.rows[item_id]]:
                self.catalogue.put(item_id, vector, "", [], 0.0)
                self.catalogue.remove(item_id)

    def poll(self) -> None:
        if batch := self._reader.read():
            self._learn(batch)
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_S
            try:
                self._look()
            except psycopg.OperationalError as error:
                log.warning("models.unread", error=str(error).strip())

    @property
    def following(self) -> str:
        """The version to go over to now: it is live, and everything under it has been read. Empty: none."""
        live = self._live
        if live is None or not self.model_version or live.model_version == self.model_version:
            return ""
        positions = self._reader.positions
        read = all(positions.get(number, 0) >= offset for number, offset in live.features_offsets.items())
        return live.model_version if read else ""

    def go_over(self, deleted: Iterable[tuple[str, NDArray[np.float32]]]) -> None:
        """Make the catalogue that of `following`.

        Args:
            deleted: vectors of deleted items, under it.
        """
        self.retired.add(self.model_version)
        self.model_version = self.following
        self._ahead.discard(self.model_version)
        self.catalogue.forget_vectors()
        for features in self._aside.pop(self.model_version, {}).values():
            self._put(features, 0)  # another model's vectors make nothing new
        self.keep_deleted(deleted)
        self.arrived = []

    def expects(self, model_version: str) -> bool:
        """Whether this worker is to go over to a version that it has met: another one did so before."""
        self._look()
        return model_version in self._ahead

    def close(self) -> None:
        self._reader.close()

    def _look(self) -> None:
        versions = self._models.versions()
        self._live = next((v for v in versions if v.state is State.LIVE), None)
        self.retired |= {v.model_version for v in versions if v.state is State.RETIRED} - {self.model_version}
        self._ahead = {v.model_version for v in versions if v.state is not State.RETIRED} - {self.model_version}
        self._aside = {version: kept for version, kept in self._aside.items() if version in self._ahead}

    def _learn(self, batch: list) -> None:  # type: ignore[type-arg]
        for message in batch:
            raw = message.value()
            if raw is None:
                item_id = message.key().decode("utf-8", "replace")
                for kept in self._aside.values():
                    kept.pop(item_id, None)
                self.catalogue.remove(item_id)
                self.deleted.append(item_id)
                self.tombstones.add(item_id)
                continue
            try:
                features = decode(ItemFeatures, raw)
                if self.model_version and features.model_version != self.model_version:
                    self._keep_aside(features)
                    continue
                new = self._put(features, message.timestamp()[1])
            except (DecodeError, ValueError) as error:
                # Only Upwell writes here; a foreign record is passed over, and said.
                log.error(
                    "item-features.unreadable", partition=message.partition(), offset=message.offset(), error=str(error)
                )
                continue
            self.model_version = features.model_version
            self.tombstones.discard(features.item_id)
            if new:
                self.arrived.append(features.item_id)

    def _put(self, features: ItemFeatures, logged: int) -> bool:
        vector = np.frombuffer(features.vector, "<f4")
        _, new = self.catalogue.put(
            features.item_id, vector, features.title, features.categories, features.quality, logged,
            [(fact.predicate, fact.object) for fact in features.facts],
        )  # fmt: skip
        return new

    def _keep_aside(self, features: ItemFeatures) -> None:
        """A record of another version: of one that is to follow, or of one that was.

        Raises:
            Inconsistent: of neither.
        """
        version = features.model_version
        if version not in self.retired and version not in self._ahead:
            self._look()
        if version in self._ahead:
            self._aside.setdefault(version, {})[features.item_id] = features
        elif version not in self.retired:
            raise Inconsistent(
                f"item {features.item_id!r} has features of model {version}, others of {self.model_version}: the encoder "
                "was changed under stored profiles. Put the old model back, and let `upwell models prepare` the new one"
            )


class StatisticsReader:
    """Learns from `statistics` in its order, its own worker's part included; starts at the snapshot."""

    def __init__(
        self,
        settings: Settings,
        admin: AdminClient,
        catalogue: Catalogue,
        ranker: Ranker,
        arms: Arms,
        impressions: FirstImpressions,
        segments: Segments,
        store: SnapshotStore,
    ) -> None:
        name = topics.real(settings.kafka, Topic.STATISTICS)
        self.catalogue = catalogue
        self.ranker = ranker
        self.arms = arms
        self.impressions = impressions
        self.segments = segments
        self._store = store
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="snapshot")
        self._topic_id = topic_id(admin, name)
        self._snapshot_s = settings.statistics.snapshot_s
        self._next_snapshot = time.monotonic() + self._snapshot_s
        start = self._restore(*bounds(settings.kafka, name, SHARD))
        self._stored = start
        self._passed_over = False
        """Lessons of an older release have been met, and said."""
        self._writing: Future[bool] = self._writer.submit(store.elected, SHARD)
        """Whether this worker is the elected writer, as it was last told."""
        self._reader = LogReader(settings.kafka, name, "statistics", {SHARD: start} if start else None)

    def _restore(self, low: int, high: int) -> int:
        """Take the snapshot over where it fits this log and these settings; returns where reading starts."""
        try:
            snapshot = self._store.read(SHARD, self._topic_id)
        except NewerSnapshot as error:
            raise Inconsistent(str(error)) from error
        if snapshot is None:
            return low
        offset, state = snapshot
        try:
            if offset > high:
                raise ValueError(f"the log ends at {high}")
            held = msgspec.msgpack.decode(state, type=Learned)
            rows = np.array([self.catalogue.row(item) for item in held.items], np.int64)
            self.ranker.restore(lessons.unpacked(held.ranking, self.ranker.tuning), rows)
        except (ValueError, KeyError) as error:  # msgspec's are ValueErrors
            log.warning("snapshot.ignored", offset=offset, again_from=low, reason=str(error))
            return low
        if offset < low:
            log.warning("snapshot.gap", offset=offset, log_start=low, reason="records between have expired")
        self.arms.base, self.arms.sums = held.arms_base, held.arms
        self.impressions.began = held.began
        for item, times in held.shown.items():
            self.impressions.learn(self.catalogue.row(item), times)
        if (told := held.segments) is not None:
            self.segments.restore(told.base, lessons.unpacked_array(told.all), told.counts, rows)
        return max(offset, low)

    def to_end(self) -> None:
        for batch in self._reader.to_end():
            self._learn(batch)

    def poll(self) -> None:
        if batch := self._reader.read():
            self._learn(batch)
            oldest = min(message.timestamp()[1] for message in batch)
            metrics.STATISTICS_SECONDS.observe(max(time.time() - oldest / 1000, 0))
        metrics.STATISTICS_LAG.set(self._reader.behind())
        if time.monotonic() >= self._next_snapshot:
            self.snapshot()

    def snapshot(self) -> None:
        """Write a snapshot, where something was learned since the last one and this worker is the elected writer.

        What is learned is copied here, and packed and written by another thread: a large state takes a while.
        """
        self._next_snapshot = time.monotonic() + self._snapshot_s
        position = self._reader.positions.get(SHARD, 0)
        if position <= self._stored or not self._writing.done():
            return
        if (error := self._writing.exception()) is not None:
            log.error("snapshot.failed", shard=SHARD, error=repr(error))
        if error is not None or not self._writing.result():
            # Only the elected writer makes copies: they may be large.
            self._writing = self._writer.submit(self._store.elected, SHARD)
            return
        started = time.perf_counter()
        held = Learned(self.arms.base, deepcopy(self.arms.sums), list(self.catalogue.ids))
        held.began, shown = self.impressions.began, self.impressions.shown
        held.shown = {held.items[row]: int(shown[row]) for row in np.flatnonzero(shown).tolist()}
        if self.segments.total:
            base, everybody, counts = self.segments.state()
            held.segments = LearnedSegments(base, lessons.packed_array(everybody[: len(held.items)]), counts)
        state = self.ranker.state()
        metrics.SNAPSHOT_SECONDS.observe(time.perf_counter() - started)
        self._writing = self._writer.submit(self._write, position, held, state)
        self._stored = position

    def _write(self, position: int, held: Learned, state: dict[str, NDArray[Any]]) -> bool:
        held.ranking = lessons.packed(state, self.ranker.base_tuning)
        return self._store.write(SHARD, self._topic_id, position, msgspec.msgpack.encode(held))

    def close(self) -> None:
        self._writer.shutdown(wait=True)
        self._reader.close()

    def _learn(self, batch: list) -> None:  # type: ignore[type-arg]
        for message in batch:
            try:
                statistics = decode(Statistics, message.value() or b"")
            except DecodeError as error:
                log.error("statistics.unreadable", offset=message.offset(), error=str(error))
                continue
            if statistics.state_version > STATISTICS_VERSION:
                what = f"the record of statistics at offset {message.offset()}"
                raise Inconsistent.newer(what, statistics.state_version, STATISTICS_VERSION)
            self.impressions.began = self.impressions.began or message.timestamp()[1]
            for item in statistics.shown:
                self.impressions.learn(self.catalogue.row(item.item_id), item.times)
            if statistics.segments:
                row = self.catalogue.row
                likings = [(liked.segment, row(liked.item_id), liked.likings) for liked in statistics.segments]
                self.segments.learn(statistics.ts, likings)
                metrics.SEGMENTS.set(len(self.segments.counts))
            for reaction in statistics.reactions:
                self.arms.learn(reaction.arm, reaction.window, reaction.shown, reaction.liked)
            if statistics.taught is not None:
                self._take_lessons(message.offset(), statistics.lesson_items, statistics.taught)
            elif statistics.lesson_items and not self._passed_over:
                self._passed_over = True
                log.warning(
                    "lessons.passed_over", offset=message.offset(), reason="told by an older release, as others may be"
                )

    def _take_lessons(self, offset: int, items: list[str], taught: bytes) -> None:
        ranker = self.ranker
        rows = [self.catalogue.row(item) for item in items]
        ranker.fit()
        try:
            told, count = lessons.read(rows, taught, ranker.tuning, ranker.stages)
            ranker.learn(told, count)
            metrics.LESSONS.inc(count)
        except ValueError as error:
            log.error("lessons.unreadable", offset=offset, error=str(error))
