"""The model version that is to follow: items embedded under it in the background, and published under it at the switch.

Between batches and a little at a time, each worker those of its own partitions; what is live is not touched before the
switch. `upwell models` begins it and gives the word.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

import psycopg
import structlog

from upwell.bus.consumer import Partition, TransactionalConsumer
from upwell.bus.transactions import Output
from upwell.events.codec import encode
from upwell.events.contracts import Item, ItemFeatures
from upwell.inference.errors import InferenceUnavailable, ModelChanged
from upwell.inference.features import Features, ItemEncoder
from upwell.items.embedding import embed, text_only
from upwell.items.facts import facts
from upwell.items.reading import Reading
from upwell.media.errors import MediaUnavailable
from upwell.store.items import Embedding
from upwell.store.models import ModelStore, Prepared, State, Version

log = structlog.get_logger("upwell.items")

LOOK_S: Final = 1.0
ITEMS: Final = 64
"""Items prepared between two batches: a fraction of a second, so that what comes in need not wait."""
PUBLISHED: Final = 500
AGAIN_S: Final = 30.0
"""After so long an item whose media could not be fetched is tried again."""


class Switch:
    """What one worker does for the version that is to follow.

    Args:
        connect: the encoder that is served under a name.
        ends: partition of `item-features` to its end now.
    """

    def __init__(
        self,
        store: ModelStore,
        bus: TransactionalConsumer,
        topic_id: str,
        features_topic: str,
        connect: Callable[[str], ItemEncoder],
        ends: Callable[[], dict[int, int]],
        reading: Reading | None,
        facts: Sequence[str],
    ) -> None:
        self._store, self._bus, self._topic_id, self._features_topic = store, bus, topic_id, features_topic
        self._connect, self._ends, self._reading = connect, ends, reading
        self._facts = facts
        self.following: Version | None = None
        self.encoder: ItemEncoder | None = None
        """Of the version that is to follow."""
        self._look_at = 0.0
        self._done = False
        self._later: dict[str, float] = {}

    @property
    def switching(self) -> bool:
        """Whether new items belong to the version that is to follow already."""
        return self.following is not None and self.following.state is State.SWITCHING

    def step(self) -> ItemEncoder | None:
        """Do a little of it. Returns the encoder that is live from now on, once it is.

        Failures of servers cost nothing but time: it is tried again at the next step.
        """
        try:
            live = self._look()
            if live is not None:
                return live
            if self.following is not None and not self._done:
                self._work(self.following)
        except (psycopg.OperationalError, InferenceUnavailable) as error:
            log.warning("switch.waiting", error=str(error).strip())
            self._look_at = time.monotonic() + LOOK_S
        return None

    def _look(self) -> ItemEncoder | None:
        now = time.monotonic()
        if now < self._look_at:
            return None
        self._look_at = now + LOOK_S
        self._done = False
        versions = {version.model_version: version for version in self._store.versions()}
        following = next((v for v in versions.values() if v.state in {State.PREPARING, State.SWITCHING}), None)
        held = self.following
        if held is not None and (following is None or following.model_version != held.model_version):
            self.following, encoder, self.encoder = None, self.encoder, None
            if versions.get(held.model_version, held).state is State.LIVE:
                log.info("model.live", model_version=held.model_version)
                return encoder
            if encoder is not None:
                encoder.close()
        if following is None:
            return None
        if self.encoder is None:
            encoder = self._connect(following.served_as)
            if encoder.model_version != following.model_version:
                served = encoder.model_version
                encoder.close()
                log.error("model.other", served_as=following.served_as, wanted=following.model_version, serves=served)
                return None
            self.encoder = encoder
        if held is None or held.state is not following.state:
            log.info("model.following", model_version=following.model_version, state=following.state)
        self.following = following
        return None

    def _work(self, following: Version) -> None:
        mine = sorted(partition.number for partition in self._bus.assigned)
        if not mine:
            return
        if self._prepare(following, mine):
            return
        if following.state is State.SWITCHING and not self._publish(following, mine):
            # With the last item of all partitions it is live, whoever had that one.
            self._store.finish(following.model_version)
        self._done = following.state is not State.SWITCHING

    def _prepare(self, following: Version, mine: Sequence[int]) -> bool:
        """Embed some items; False where none of these partitions is left."""
        assert self.encoder is not None
        now = time.monotonic()
        self._later = {item_id: at for item_id, at in self._later.items() if at > now}
        items = self._store.unprepared(self._topic_id, mine, following.model_version, ITEMS, list(self._later))
        if not items:
            return False
        made: dict[str, Features] = {}
        if self._reading is not None:
            self._reading.begin()
        try:
            refused = embed(items, made, self.encoder, self._reading or text_only)
        except MediaUnavailable as error:
            refused = {}
            self._later |= {item.item_id: now + AGAIN_S for item in items if item.item_id not in made}
            log.info("media.waiting", items=len(items) - len(made), error=str(error))
        if refused:
            # What was taken once, and is not any more, is known by its words from now on.
            log.warning("items.without_media", items=sorted(refused), reason=next(iter(refused.values()))[1])
            bare = [_worded(item) for item in items if item.item_id in refused]
            if still := embed(bare, made, self.encoder, text_only):
                raise InferenceUnavailable(f"items are refused by {following.model_version}: {still}")
        self._store.prepare(
            following.model_version,
            {id_: Embedding(one.vector, one.weights, one.perceived) for id_, one in made.items()},
            {id_: one.parts for id_, one in made.items()},
        )
        return True

    def _publish(self, following: Version, mine: Sequence[int]) -> bool:
        """Publish some items under the version, and let them go over to it; False where none is left."""
        ready = self._store.unpublished(self._topic_id, mine, following.model_version, PUBLISHED)
        if not ready:
            return False
        outputs = [
            Output(
                self._features_topic, one.item_id.encode(), encode(_record(one, following.model_version, self._facts))
            )
            for one in ready
            if not one.deleted
        ]
        held = self._bus.committed(sorted(self._bus.assigned))
        positions: dict[Partition, int] = {p: offset for p, (offset, _) in held.items() if offset is not None}
        # A crash between the two publishes them again: the topic keeps the last record of an item, and they are equal.
        self._bus.publish(outputs, positions)
        self._store.published(following.model_version, [one.item_id for one in ready], self._ends())
        log.info("items.switched", items=len(ready), model_version=following.model_version)
        return True

    def check(self, model_version: str) -> None:
        """Whether items may be stored under a version.

        Raises:
            ModelChanged: they are stored under another one, and nobody is going over to this one.
        """
        held = self._store.of_items()
        if held and model_version not in {*held, *(version.model_version for version in self._store.versions())}:
            raise ModelChanged(
                f"The stored items have vectors of {', '.join(held)}, and the encoder is {model_version} now. Vectors of two "
                "models cannot be compared: serve the former again, and the new one beside it under a name of its own; "
                "`upwell models prepare` and `upwell models switch` go over to it."
            )

    def prepared(self, item_ids: Sequence[str]) -> dict[str, Embedding]:
        """What is prepared of these items for the version that is to follow."""
        return {} if self.following is None else self._store.prepared(item_ids, self.following.model_version)

    def close(self) -> None:
        if self.encoder is not None:
            self.encoder.close()


def _worded(item: Item) -> Item:
    return Item(item.item_id, title=item.title or item.item_id, categories=item.categories, attributes=item.attributes)


def _record(one: Prepared, model_version: str, wanted: Sequence[str]) -> ItemFeatures:
    return ItemFeatures(
        item_id=one.item_id,
        vector=one.vector.astype("<f4").tobytes(),
        model_version=model_version,
        title=one.title,
        categories=one.categories,
        modalities=one.modalities,
        quality=one.quality,
        ts=one.ts,
        facts=facts(one.attributes, wanted),
    )
