"""`items` in; rows in Postgres, `item-features`, triggers for new items' audiences and dead letters out.

Read from top to bottom: `run` opens the parts, `Pipeline.step` is what happens to a batch. The row is written before the
Kafka transaction and guarded by its place in the log, so that a crash between the two only writes it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec
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
from upwell.events.contracts import ContentTrigger, Item, ItemFeatures
from upwell.inference.encode import TextEncoder
from upwell.inference.errors import InferenceUnavailable, ModelChanged
from upwell.inference.features import Features, FusionEncoder, ItemEncoder, TextFeatures
from upwell.items.audience import Audience
from upwell.items.cleaning import clean_item, quality
from upwell.items.embedding import embed_newest, text_only
from upwell.items.facts import facts
from upwell.items.keeping import Keeper, mark_near_duplicates
from upwell.items.reading import Reading
from upwell.items.switching import Switch
from upwell.lifecycle import Stop, Stopped, insist
from upwell.media.errors import MediaUnavailable
from upwell.media.prepare import Preparer
from upwell.media.store import open_store
from upwell.settings import Settings
from upwell.store import database
from upwell.store.items import Embedding, ItemRow, ItemStore, Place
from upwell.store.models import ModelStore
from upwell.telemetry import metrics

log = structlog.get_logger("upwell.items")

WORKER: Final = "items"
BATCH: Final = 256
"""Items of one transaction: encoding them is what takes time, a fraction of a second."""
WAIT_S: Final = 0.25
ALIVE_S: Final = 5.0
"""How often the group hears of a worker that encodes; the broker gives up after librdkafka's `max.poll.interval.ms`."""
UNAVAILABLE: Final = (InferenceUnavailable, MediaUnavailable, psycopg.OperationalError)

Result = TypeVar("Result")


def run(settings: Settings, slot: int, stop: Stop, metrics_port: int = 0) -> None:
    """Run the worker until `stop`.

    Raises:
        Fenced, Unavailable, Inconsistent: see `upwell.bus.errors`.
    """
    kafka = settings.kafka
    name = topics.real(kafka, Topic.ITEMS)
    admin = clients.admin(kafka)
    topic_id, features_topic = identity.topic_id(admin, name), topics.real(kafka, Topic.ITEM_FEATURES)
    reading = _reading(settings)
    with database.pool(settings.postgres) as connections:
        models = ModelStore(connections)
        encoder = connect(settings, _live_as(models))
        bus = TransactionalConsumer(kafka, WORKER, slot, [name])
        store, audience = ItemStore(connections, topic_id), Audience(connections, settings.content)
        switch = Switch(
            models, bus, topic_id, features_topic, lambda served_as: connect(settings, served_as),
            lambda: identity.ends(admin, features_topic), reading, settings.items.facts,
        )  # fmt: skip
        pipeline = Pipeline(settings, stop, bus, encoder, reading, store, audience, switch)
        log.info("ready", metrics_port=metrics_port)
        try:
            while not stop:
                pipeline.step()
        except Stopped:
            log.info("left_batch", reason="asked to stop while a server did not answer; it will be read again")
        finally:
            bus.close()
            pipeline.keeper.close()
            pipeline.encoder.close()
            switch.close()
            if reading is not None:
                reading.close()
    log.info("stopped")


def connect(settings: Settings, served_as: str = "") -> ItemEncoder:
    """The encoder of texts alone, or of all modalities that the settings name.

    Args:
        served_as: its name on Triton; empty: as the settings say.
    """
    triton, options = settings.triton, settings.triton.options
    if settings.items.modalities == ["text"]:
        model = served_as or triton.text_encoder
        return TextFeatures(TextEncoder(triton.url, model=model, timeout_s=triton.encode_timeout_s, options=options))
    model = served_as or triton.item_features
    return FusionEncoder(
        triton.url, model=model, modalities=settings.items.modalities, timeout_s=triton.fuse_timeout_s, options=options
    )


def _reading(settings: Settings) -> Reading | None:
    """What reads the media of items, where there is more than their text to read."""
    if settings.items.modalities == ["text"]:
        return None
    return Reading(Preparer(settings.media), settings.items.modalities, settings.items.media_patience_s)


def _live_as(models: ModelStore) -> str:
    for attempt in database.retrying():
        with attempt:
            return models.live_as()
    raise AssertionError("unreachable")


@dataclass(slots=True)
class Change:
    """A valid record of one item."""

    message: Message
    item: Item

    @property
    def place(self) -> Place:
        return Place(self.message.partition(), self.message.offset())


class Pipeline:
    """One batch after the other."""

    def __init__(
        self,
        settings: Settings,
        stop: Stop,
        bus: TransactionalConsumer,
        encoder: ItemEncoder,
        reading: Reading | None,
        store: ItemStore,
        audience: Audience,
        switch: Switch,
    ) -> None:
        self.stop = stop
        self.bus = bus
        self.encoder = encoder
        self.reading = reading
        self.store = store
        self.audience = audience
        self.keeper = Keeper(open_store(settings.media), settings.media.max_bytes)
        self.switch = switch
        self.checked: set[str] = set()
        """Model versions that items may be stored under."""
        self.suspects = Suspects((*UNAVAILABLE, ModelChanged, Stopped))
        self.bad_data = BadData(WORKER, settings.dead_letters)
        self.refused: dict[Place, str] = {}
        """Records of the batch in hand that go to the dead letters, and why."""
        self.rules = validate.Rules.of(settings)
        self.batch_size = min(BATCH, settings.kafka.batch_max_records)
        self.features_topic = topics.real(settings.kafka, Topic.ITEM_FEATURES)
        self.facts = settings.items.facts
        self.triggers_topic = topics.real(settings.kafka, topics.TRIGGERS["low"])

    def step(self) -> None:
        """Poll, process, commit; after an abort the batch is read again, after an unknown failure in halves."""
        metrics.LAG.labels(WORKER).set(self.bus.lag())
        self._switch()
        batch = self.bus.poll(self.suspects.limit(self.batch_size, self.bus.assigned), WAIT_S)
        if batch is None:
            return
        metrics.RECORDS.labels(WORKER).inc(len(batch.records))
        metrics.BATCH_RECORDS.labels(WORKER).observe(len(batch.records))
        try:
            outputs = self._process(batch)
            with metrics.STAGE_SECONDS.labels(WORKER, "commit").time():
                self.bus.commit(batch, outputs)
        except Aborted as error:
            log.warning("batch.aborted", reason=str(error))
            metrics.ABORTS.labels(WORKER).inc()
            self.bus.restart()
        except Exception as error:
            self.suspects.failed(batch.records, batch.positions, error)
            self.bus.restart()
        else:
            self.suspects.passed(batch.records, batch.positions)
            self.bad_data.passed()
            for output in outputs:
                metrics.OUTPUTS.labels(WORKER, output.topic).inc()

    def _switch(self) -> None:
        """A little for the model version that is to follow; once it is live, it is this worker's."""
        try:
            live = self.switch.step()
        except Aborted as error:
            log.warning("switch.aborted", reason=str(error))
            self.bus.restart()
        else:
            if live is not None:
                self.encoder.close()
                self.encoder = live

    def _process(self, batch: Batch) -> list[Output]:
        self.refused.clear()
        valid, outputs = self._read(batch)
        changes, made, model_version, refused = self._embed(batch, valid)
        outputs += refused
        self._check(batch)
        deleted = {id_: change.place for id_, change in changes.items() if change.item.op == "delete"}
        rows = self._insist(batch, lambda: self.keeper.keep(made))
        with metrics.STAGE_SECONDS.labels(WORKER, "store").time():
            accepted, gone = self._insist(batch, lambda: self.store.write(rows, deleted, model_version))
        stale = len(rows) + len(deleted) - len(accepted) - len(gone)
        if stale:
            log.info("items.stale", count=stale, reason="a newer record of their partition is stored already")
        for row in rows:
            if row.item.item_id in accepted:
                outputs.append(self._features(row, model_version, changes[row.item.item_id].message))
        outputs += [
            Output(self.features_topic, id_.encode(), None, trace(changes[id_].message)) for id_ in sorted(gone)
        ]
        new = [row for row in rows if accepted.get(row.item.item_id)]
        with metrics.STAGE_SECONDS.labels(WORKER, "audience").time():
            triggers = self._insist(batch, lambda: self.audience.triggers(new, model_version))
        return outputs + [self._trigger(trigger) for trigger in triggers]

    def _check(self, batch: Batch) -> None:
        places = [Place(message.partition(), message.offset()) for message in batch.records]
        bad = [number for number, place in enumerate(places) if place in self.refused]
        why = at(batch.records[bad[-1]], self.refused[places[bad[-1]]]) if bad else ""
        self.bad_data.check(len(places), bad, why)

    def _read(self, batch: Batch) -> tuple[dict[str, list[Change]], list[Output]]:
        """Decode, validate, clean: valid records by item, oldest first, and dead letters."""
        changes: dict[str, list[Change]] = {}
        letters: list[Output] = []
        latest = self.rules.latest()
        for message in batch.records:
            try:
                if (failed := self.suspects.reason(message)) is not None:
                    raise validate.InvalidRecord(failed, "process")
                item = validate.item(message.key(), message.value(), self.rules, latest)
                if item.op != "delete":
                    item = clean_item(item)
                    if not (item.title or item.description or item.media):
                        raise validate.InvalidRecord("nothing is left of title and description after cleaning", "clean")
                    if not item.ts:
                        item = msgspec.structs.replace(item, ts=max(0, message.timestamp()[1]))
            except validate.InvalidRecord as error:
                letters.append(self._refuse(message, error.step, str(error)))
            else:
                changes.setdefault(item.item_id, []).append(Change(message, item))
        return changes, letters

    def _embed(
        self, batch: Batch, valid: dict[str, list[Change]]
    ) -> tuple[dict[str, Change], list[ItemRow], str, list[Output]]:
        """The record of each item that counts, which is the last one that the encoder takes, or a deletion; the rows of
        those that are no deletions, all of one model version; dead letters."""
        ids = [item_id for item_id, changes in valid.items() if changes[-1].item.op != "delete"]
        if not ids:
            return {item_id: changes[-1] for item_id, changes in valid.items()}, [], "", []
        following = self.switch.encoder if self.switch.switching else None
        encoder = following or self.encoder
        model_version = self._insist(batch, lambda: encoder.model_version)
        if model_version not in self.checked:
            self._insist(batch, lambda: self.switch.check(model_version))
            self.checked.add(model_version)
        with metrics.STAGE_SECONDS.labels(WORKER, "known").time():
            stored = self._insist(batch, lambda: self.store.known(ids, model_version))
            if following is not None:
                stored = self._insist(batch, lambda: self.switch.prepared(ids)) | stored
        known = {id_: Features(one.vector, one.modalities, {}, one.perceived) for id_, one in stored.items()}
        if self.reading is not None:
            self.reading.begin()
        read = self.reading or text_only
        with metrics.STAGE_SECONDS.labels(WORKER, "encode").time():
            records = {item_id: [change.item for change in changes] for item_id, changes in valid.items()}
            alive = self._alive(batch)
            newest = self._insist(batch, lambda: embed_newest(records, known, encoder, read, alive))
        letters = [
            self._refuse(valid[item_id][index].message, step, why) for item_id, index, step, why in newest.refused
        ]
        counting = {item_id: valid[item_id][index] for item_id, index in newest.counting.items()}
        rows = [self._row(change, known[id_]) for id_, change in counting.items() if change.item.op != "delete"]
        return counting, self._marked(rows), model_version, letters

    @staticmethod
    def _marked(rows: list[ItemRow]) -> list[ItemRow]:
        marked, duplicates = mark_near_duplicates(rows)
        if duplicates:
            metrics.NEAR_DUPLICATES.inc(duplicates)
            log.info("items.near_duplicates", count=duplicates, of=len(rows))
        return marked

    @staticmethod
    def _row(change: Change, made: Features) -> ItemRow:
        embedding = Embedding(made.vector, made.weights, made.perceived)
        return ItemRow(change.item, change.place, embedding, made.parts, quality(change.item))

    def _features(self, row: ItemRow, model_version: str, message: Message) -> Output:
        features = ItemFeatures(
            item_id=row.item.item_id,
            vector=row.embedding.vector.astype("<f4").tobytes(),
            model_version=model_version,
            title=row.item.title,
            categories=row.item.categories,
            modalities=row.embedding.modalities,
            quality=row.quality,
            ts=row.item.ts,
            facts=facts(row.item.attributes, self.facts),
        )
        return Output(self.features_topic, row.item.item_id.encode(), encode(features), trace(message))

    def _trigger(self, trigger: ContentTrigger) -> Output:
        return Output(self.triggers_topic, trigger.user_id.encode(), encode(trigger))

    def _alive(self, batch: Batch) -> Callable[[], None]:
        """Media and their encoding may take minutes: says now and then that this worker is there, and leaves the batch
        where it is asked to stop. Raises: Aborted, Stopped."""
        last = time.monotonic()

        def meanwhile() -> None:
            nonlocal last
            if time.monotonic() - last < ALIVE_S:
                return
            if self.stop:
                raise Stopped
            self.bus.keep_alive(0.01, batch)
            last = time.monotonic()

        return meanwhile

    def _insist(self, batch: Batch, action: Callable[[], Result]) -> Result:
        return insist(action, UNAVAILABLE, self.stop, lambda seconds: self.bus.keep_alive(seconds, batch))

    def _refuse(self, message: Message, step: str, reason: str) -> Output:
        self.refused[Place(message.partition(), message.offset())] = reason
        metrics.DEAD_LETTERS.labels(WORKER, step).inc()
        log.info("dead_letter", step=step, reason=reason, partition=message.partition(), offset=message.offset())
        return dead_letter(message, step, reason)
