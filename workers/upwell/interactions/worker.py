"""The hot path: `interactions` in; `rankings`, `content-triggers`, `statistics` and dead letters out, exactly once.

Read from top to bottom: `run` opens the parts, `Pipeline.step` is what happens to a batch. The Kafka transaction is the
commit point; profiles reach Postgres behind it, together with the watermark that says what they contain.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import psycopg
import structlog
from confluent_kafka import Message

from upwell.bus import clients, identity, topics
from upwell.bus.bad_data import BadData, at
from upwell.bus.consumer import Batch, TransactionalConsumer
from upwell.bus.dead_letters import dead_letter
from upwell.bus.errors import Aborted
from upwell.bus.headers import trace
from upwell.bus.suspects import Suspects
from upwell.bus.topics import Topic
from upwell.bus.transactions import Output
from upwell.events import validate
from upwell.events.codec import encode
from upwell.events.contracts import (
    ControlType,
    Interaction,
    InteractionType,
)
from upwell.events.hashing import arm_of, key64
from upwell.interactions.counts import Counts
from upwell.interactions.eliciting import wanted
from upwell.interactions.groupings import Groupings
from upwell.interactions.lessons import Taught
from upwell.interactions.ownership import COMMITTED_BY_UPWELL, Ownership
from upwell.interactions.policies import Policies
from upwell.interactions.profiles import OtherModel, Profiles
from upwell.interactions.publishing import Rankings, Touched
from upwell.interactions.rate import Rate
from upwell.interactions.readers import SHARD, FeatureReader, StatisticsReader
from upwell.interactions.rulebook import Rulebook
from upwell.interactions.segments import SegmentPriors
from upwell.interactions.slate import had
from upwell.interactions.write_behind import WriteBehind
from upwell.lifecycle import Stop
from upwell.ranking.arms import Arms, react
from upwell.ranking.catalogue import Catalogue
from upwell.ranking.learner import Tuning
from upwell.ranking.newcomers import FirstImpressions
from upwell.ranking.ranker import Ranker, valence_of, warm
from upwell.ranking.segments import Segments
from upwell.settings import Settings
from upwell.store import database
from upwell.store.models import ModelStore
from upwell.store.profiles import Log, ProfileStore
from upwell.store.snapshots import SnapshotStore
from upwell.telemetry import metrics

log = structlog.get_logger("upwell.interactions")

WORKER = "interactions"
DAY_MS = 86_400_000
SWEPT = 50
"""Profiles rebuilt at a time."""


def run(settings: Settings, slot: int, stop: Stop, metrics_port: int = 0) -> None:
    """Run the worker until `stop`.

    Raises:
        Fenced, Unavailable, Inconsistent: see `upwell.bus.errors`.
    """
    kafka = settings.kafka
    admin = clients.admin(kafka)
    name = topics.real(kafka, Topic.INTERACTIONS)
    catalogue = Catalogue(most_named=settings.ranking.unknown_items)
    arms = Arms(settings.content.feedback_half_life_days * DAY_MS)
    snapshots = SnapshotStore(settings.postgres)
    warm()
    tuning = Tuning(learned_items=settings.ranking.learned_items)
    ranker = Ranker(catalogue, settings.ranking.weight_content, tuning)
    impressions = FirstImpressions(settings.cold_start.impressions, settings.cold_start.share)
    learned = Segments(settings.cold_start.segment_half_life_days * DAY_MS)
    statistics = StatisticsReader(settings, admin, catalogue, ranker, arms, impressions, learned, snapshots)
    groupings = Groupings(catalogue, any(own.shaping.calibration > 0 for own in settings.by_variant().values()))
    rulebook = Rulebook(settings, catalogue, ranker, groupings)
    with database.pool(settings.postgres) as connections:
        features = FeatureReader(settings, catalogue, ModelStore(connections))
        features.to_end()
        statistics.to_end()
        rulebook.to_end()
        log.info("ready", items=len(catalogue), model_version=features.model_version, metrics_port=metrics_port)
        source = Log(clients.group_id(kafka, WORKER), identity.cluster_id(admin), identity.topic_id(admin, name), name)
        store = ProfileStore(connections, source)
        half_life_ms = settings.profiles.half_life_days * DAY_MS
        profiles = Profiles(settings.profiles.cache_users, catalogue, half_life_ms, ranker)
        features.keep_deleted(store.deleted_vectors(features.model_version))
        write_behind = WriteBehind(store, settings.profiles.flush_ms / 1000, settings.profiles.flush_rows)
        ownership = Ownership(store, profiles, write_behind)
        ownership.bus = bus = TransactionalConsumer(kafka, WORKER, slot, [name], ownership)
        policies = Policies(settings, catalogue, groupings)
        pipeline = Pipeline(
            settings, bus, ownership, profiles, write_behind, features, statistics, rulebook, policies, groupings
        )
        try:
            while not stop:
                pipeline.step()
            # Leaving releases the partitions, and that flushes what is not in Postgres yet.
            bus.close()
            statistics.snapshot()
        finally:
            write_behind.close(flush=False)
            features.close()
            rulebook.close()
            statistics.close()
            snapshots.close()
    log.info("stopped")


class Pipeline:
    """One batch after the other, and between them what has no input record: learning, re-issues, takeovers."""

    def __init__(
        self,
        settings: Settings,
        bus: TransactionalConsumer,
        ownership: Ownership,
        profiles: Profiles,
        write_behind: WriteBehind,
        features: FeatureReader,
        statistics: StatisticsReader,
        rulebook: Rulebook,
        policies: Policies,
        groupings: Groupings,
    ) -> None:
        self.settings = settings
        self.bus = bus
        self.ownership = ownership
        self.profiles = profiles
        self.write_behind = write_behind
        self.features = features
        self.statistics = statistics
        self.rulebook = rulebook
        self.groupings = groupings
        self.segments = SegmentPriors(settings.cold_start, profiles, statistics.segments)
        self.rankings = Rankings(
            settings, profiles, statistics.arms, statistics.impressions, rulebook, policies, groupings, self.segments
        )
        self.catalogue = profiles.catalogue
        self.ranker = profiles.ranker
        self.suspects = Suspects((psycopg.OperationalError,))
        self.bad_data = BadData(WORKER, settings.dead_letters)
        self.rules = validate.Rules.of(settings)
        self.keep = settings.profiles.history
        self.window_ms = settings.profiles.dedupe_minutes * 60_000
        self.batches = 0
        self.deleted: set[str] = set()
        """Items, deleted or taken out by a rule, that rankings may still hold."""
        self._reissue_after = 0.0
        self._sweeping = True
        """Stored profiles of an older model may be left."""
        self._paused = False
        self._rate = Rate()
        self.statistics_topic = topics.real(settings.kafka, Topic.STATISTICS)

    def step(self) -> None:
        """Learn what has come, take over what was refused, then one batch."""
        self.write_behind.check()
        self._learn()
        if refused := self.write_behind.refused():
            self.bus.restart([p for p in self.bus.assigned if p.number in refused])
        try:
            if self.deleted and self.ownership.live and time.monotonic() >= self._reissue_after:
                self._reissue_gone()
            if self.write_behind.full:
                self.bus.pause()
                self._paused = True
            elif self._paused:
                self.bus.resume()
                self._paused = False
            kafka = self.settings.kafka
            most = self.suspects.limit(kafka.batch_max_records, self.bus.assigned)
            batch = self.bus.poll(most, kafka.batch_max_wait_ms / 1000, kafka.batch_gather_ms / 1000)
            metrics.LAG.labels(WORKER).set(self.bus.lag())
            if batch is not None:
                self._try(batch)
            elif self._sweeping and self.ownership.live:
                self._sweep()
        except OtherModel as error:
            if not self.features.expects(error.model_version):
                raise
            log.info("model.ahead", model_version=error.model_version, reason="another worker has gone over already")
            self.bus.restart()
        except Aborted:
            metrics.ABORTS.labels(WORKER).inc()
            self.bus.restart()

    def _try(self, batch: Batch) -> None:
        """Process a batch; where it fails for a reason that nobody knows, what it changed is dropped, and the record
        to blame is looked for."""
        positions = dict(batch.positions)
        try:
            self._process(batch)
        except Aborted:
            raise
        except Exception as error:
            self.suspects.failed(batch.records, positions, error)
            # What was committed before is stored first: the smaller batches begin where this one began.
            self.write_behind.flush_now()
            self.bus.restart()
        else:
            self.suspects.passed(batch.records, positions)

    def _process(self, batch: Batch) -> None:
        started = time.perf_counter()
        self.batches += 1
        metrics.RECORDS.labels(WORKER).inc(len(batch.records))
        metrics.BATCH_RECORDS.labels(WORKER).observe(len(batch.records))
        events, outputs = self._decode(batch)
        decoded = time.perf_counter()
        self.profiles.load(
            {(event.user_id, message.partition()) for message, event in events},
            self.ownership.store.read,
            self.batches,
            self.write_behind.landed,
        )
        loaded = time.perf_counter()
        self.rulebook.at(max(message.timestamp()[1] for message in batch.records))
        share = self._rate.share(len(events), self.settings.statistics.lessons_per_second)
        counts = Counts(self.settings.statistics.window_s * 1000, Taught(self.ranker.tuning, share))
        changed: set[int] = set()
        for wave in self._waves(events):
            touched = self._apply(wave, counts, changed)
            outputs += self.rankings.outputs(touched, self.features.model_version, shown=counts.shown)
        key = str(SHARD).encode()
        outputs += [Output(self.statistics_topic, key, encode(record)) for record in counts.records(self.catalogue)]
        ranked = time.perf_counter()
        positions = {p.number: offset for p, offset in batch.positions.items()}
        # A committed offset never moves back: partitions still catching up have nothing to commit.
        batch.positions = {
            p: offset for p, offset in batch.positions.items() if offset > self.ownership.live_from[p.number]
        }
        if batch.positions:
            self.bus.commit(batch, outputs, dict.fromkeys(batch.positions, COMMITTED_BY_UPWELL))
            self.ownership.committed.update({p.number: offset for p, offset in batch.positions.items()})
        self.bad_data.passed()
        committed = time.perf_counter()
        self._behind(sorted(changed), self.ownership.advance(positions))
        done = time.perf_counter()
        for stage, seconds in (
            ("decode", decoded - started), ("load", loaded - decoded), ("rank", ranked - loaded),
            ("commit", committed - ranked), ("submit", done - committed),
        ):  # fmt: skip
            metrics.STAGE_SECONDS.labels(WORKER, stage).observe(seconds)

    def _decode(self, batch: Batch) -> tuple[list[tuple[Message, Interaction]], list[Output]]:
        """Valid events in log order, and dead letters of the others where those are not published yet."""
        events: list[tuple[Message, Interaction]] = []
        letters: list[Output] = []
        refused: list[int] = []
        old, why = 0, ""
        decode, rules, future = validate.interaction, self.rules, self.rules.max_future_ms
        suspects = self.suspects
        for message in batch.records:
            try:
                if (failed := suspects.reason(message)) is not None:
                    raise validate.InvalidRecord(failed, "process")
                # Log time, not the clock: what was refused once is refused again when the log is read again.
                event = decode(message.key(), message.value(), rules, message.timestamp()[1] + future)
            except validate.InvalidRecord as error:
                if message.offset() < self.ownership.live_from[message.partition()]:
                    old += 1
                else:
                    refused.append(len(events) + len(refused) + old)
                    why = at(message, str(error))
                    letters.append(dead_letter(message, error.step, str(error)))
                    metrics.DEAD_LETTERS.labels(WORKER, error.step).inc()
            else:
                events.append((message, event))
        self.bad_data.check(len(batch.records), refused, why)
        return events, letters

    def _waves(self, events: list[tuple[Message, Interaction]]) -> list[list[tuple[Message, Interaction]]]:
        """Parts of the batch after each of which the touched users are ranked."""
        if self.settings.ranking.emit == "coalesced":
            return [events] if events else []
        waves: list[list[tuple[Message, Interaction]]] = []
        turn: dict[str, int] = defaultdict(int)
        for message, event in events:
            number = turn[event.user_id]
            turn[event.user_id] += 1
            if number == len(waves):
                waves.append([])
            waves[number].append((message, event))
        return waves

    def _apply(self, events: list[tuple[Message, Interaction]], counts: Counts, changed: set[int]) -> list[Touched]:
        """Apply events one by one in log order; returns the users to be ranked, in order of appearance."""
        touched: dict[str, Touched] = {}
        applied_to, live_from = self.ownership.applied_to, self.ownership.live_from
        profiles = self.profiles
        duplicates = 0
        for message, event in events:
            partition, offset = message.partition(), message.offset()
            slot = profiles.slots[event.user_id]
            live = offset >= live_from[partition]
            user = touched.get(event.user_id) or Touched(event.user_id, slot)
            if offset < applied_to[partition]:
                if not live:
                    continue
                user.moved = True
            elif event.type == ControlType.RANK_REQUEST:
                self.segments.take(slot, event.context)
                if live:
                    user.asked = True
                    user.elicit |= wanted(event)
                else:
                    # Its answer was published: the number that it may have taken is not used again.
                    profiles.revisions[slot] += 1
                    changed.add(slot)
                    continue
            else:
                weight = self.settings.events.weight(event.type, event.value)
                assert event.item_id is not None
                new = profiles.apply(
                    slot, key64(event.event_id), event.item_id, event.ts, message.timestamp()[1], weight,
                    self.keep, self.window_ms,
                )  # fmt: skip
                if not new:
                    duplicates += 1
                    continue
                changed.add(slot)
                self.segments.take(slot, event.context)
                reaction = self._react(slot, event, weight)
                self._remember(slot, event, message.timestamp()[1], weight, counts if live else None)
                if not live:
                    continue
                user.events += 1
                counts.add(event.item_id, event.ts, weight)
                if reaction is not None:
                    counts.react(reaction[0], event.ts, *reaction[1])
            user.trace = trace(message)
            touched[event.user_id] = user
        if duplicates:
            metrics.DUPLICATES.labels(WORKER).inc(duplicates)
        if profiles.forgotten:
            metrics.DEDUPE_FORGOTTEN.inc(profiles.forgotten)
            profiles.forgotten = 0
        again = [user for user in touched.values() if user.events == 0]
        for user in again:
            profiles.revisions[user.slot] += 1
            changed.add(user.slot)
        self._write_ahead([user.slot for user in again if user.moved])
        return list(touched.values())

    def _remember(self, slot: int, event: Interaction, logged: int, weight: float, counts: Counts | None) -> None:
        """Let the ranking know of an event just applied, which was logged at a time, ms; what it teaches goes into `counts`."""
        if not weight:
            return
        ranker, recent = self.ranker, self.profiles.recent
        assert event.item_id is not None
        row = self.catalogue.find(event.item_id)
        if row < 0:
            metrics.EVENTS_UNNAMED.inc()
            return
        if counts is not None:
            ranker.fit()
            taught = counts.taught
            gone = had(self.profiles.histories[slot].events()[:-1])
            if taught.takes(key64(event.event_id)):
                at = taught.place()  # may move the rows
                ranker.teach(recent, slot, row, weight, event.ts, gone, taught.rows, at)
                if valence_of(weight) >= ranker.tuning.liked:
                    counts.like(event.item_id, self.segments.counted(slot))
            else:
                metrics.LESSONS_LEFT_OUT.inc()
            if row not in gone:
                self.rankings.watch.happened(self.profiles.slates[slot], event.item_id, weight, logged)
        ranker.remember(recent, slot, row, weight, event.ts)

    def _react(self, slot: int, event: Interaction, weight: float) -> tuple[str, tuple[int, int]] | None:
        """Take feedback to a content into the profile; its arm, and what it adds to shown and liked."""
        if event.content_id is None or (name := arm_of(event.content_id)) not in validate.ARMS:
            return None
        added = react(self.profiles.reactions[slot], name, weight, impression=event.type == InteractionType.IMPRESSION)
        return (name, added) if any(added) else None

    def _learn(self) -> None:
        """Take in new item features and statistics; both only ever between batches."""
        self.features.poll()
        if self.features.following:
            self._go_over()
        self.statistics.poll()
        metrics.ITEMS_UNKNOWN.set(self.catalogue.named)
        self.profiles.model_version = self.features.model_version
        self.profiles.fit_dimension()
        self.profiles.retired = frozenset(self.features.retired)
        self.write_behind.model_version = self.features.model_version
        self.rulebook.poll()
        self.groupings.poll()
        if self.features.arrived:
            arrived, self.features.arrived = self.features.arrived, []
            slots = {slot for item in arrived for slot in self.profiles.arrived(item)}
            self._behind(sorted(slots), self._state_of(slots))
        if self.features.deleted or self.rulebook.closed:
            # Such an item is replaced in slates soon, but several of them are one re-issue.
            if not self.deleted:
                self._reissue_after = time.monotonic() + self.settings.ranking.reissue_ms / 2000
            self.deleted.update(self.features.deleted, self.rulebook.closed)
            self.features.deleted = []
            self.rulebook.closed.clear()
        if self.ownership.taken:
            # The former owner may have died before it replaced what was deleted or taken out.
            self.ownership.taken = False
            self._sweeping = True
            self.deleted.update(self.features.tombstones, self.rulebook.barred())

    def _go_over(self) -> None:
        """Go over to the model that is live now, at the offsets where the partitions stand."""
        model_version, store = self.features.following, self.ownership.store
        # What was made with the old model is stored as the old model's.
        self.write_behind.flush_now()
        if self.write_behind.refused():
            return
        self.features.go_over(store.deleted_vectors(model_version))
        self.profiles.change_model(model_version, self.features.retired)
        store.record_switch(model_version, self.ownership.state)
        self._sweeping = True
        log.info("model.live", model_version=model_version, offsets=dict(self.ownership.state))

    def _sweep(self) -> None:
        """Rebuild some stored profiles of an older model while nothing comes in; those of users who do are anyway."""
        if not self.features.model_version:
            return
        users = self.ownership.store.stale_users(sorted(self.ownership.state), self.features.model_version, SWEPT)
        self._sweeping = bool(users)
        if users:
            self.profiles.load(users, self.ownership.store.read, self.batches, self.write_behind.landed)
            slots = [self.profiles.slots[user_id] for user_id, _ in users]
            self._behind(slots, self._state_of(slots))
            self.write_behind.flush_now()

    def _reissue_gone(self) -> None:
        """Publish anew the rankings whose newest slate holds an item that was deleted or taken out by a rule."""
        rows = {item: self.catalogue.row(item) for item in self.deleted}
        self.ranker.fit()
        gone = {item for item, row in rows.items() if not self.ranker.shared.live[row]}
        shown = self.ownership.store.users_shown(sorted(gone), sorted(self.ownership.state))
        self.profiles.load(shown, self.ownership.store.read, self.batches, self.write_behind.landed)
        touched = [
            Touched(user_id, slot)
            for user_id, slot in self.profiles.slots.items()
            if (slates := self.profiles.slates[slot]) and any(item in gone for item, _ in slates[-1].items)
        ]
        if touched:
            deleted = any(not self.catalogue.live[rows[item]] for item in gone)
            self._reissue(touched, "item_deleted" if deleted else "item_blocked")
            log.info("rankings.reissued", items=len(gone), users=len(touched))
        self.deleted.clear()

    def _reissue(self, touched: list[Touched], cause: str) -> None:
        slots = [user.slot for user in touched]
        self.profiles.revisions[slots] += 1
        self._write_ahead(slots)
        outputs = self.rankings.outputs(touched, self.features.model_version, cause)
        concerned = {int(self.profiles.partitions[slot]) for slot in slots}
        positions = {p: self.ownership.committed[p.number] for p in self.bus.assigned if p.number in concerned}
        self.bus.publish(outputs, positions, COMMITTED_BY_UPWELL)
        self._behind(slots, self._state_of(slots))

    def _write_ahead(self, slots: list[int]) -> None:
        """Store revision numbers that no log record stands for before they are published: a crash then skips a number
        instead of using it twice."""
        if slots:
            self._behind(slots, self._state_of(slots))
            self.write_behind.flush_now()
            if self.write_behind.refused():
                raise Aborted("the revision numbers could not be stored: another owner, or an answer that got lost")

    def _state_of(self, slots: Any) -> dict[int, int]:
        numbers = {int(self.profiles.partitions[slot]) for slot in slots}
        return {number: self.ownership.state[number] for number in numbers}

    def _behind(self, slots: list[int], positions: dict[int, int]) -> None:
        rows = [self.profiles.copy(slot) for slot in slots]
        if rows or positions:
            self.profiles.changed[slots] = self.write_behind.submit(rows, positions)
        metrics.PROFILES_CACHED.set(len(self.profiles))
