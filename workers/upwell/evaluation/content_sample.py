"""A running deployment in; its latest contents with the facts, reasons and users behind them out. Reads only.

Unpicked: the latest contents by publication, whatever they are. Facts and profiles are today's; where a catalogue or a
user has moved on since a text was written, the text is judged by what holds now.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from confluent_kafka import KafkaException, Message
from numpy.typing import NDArray

from upwell.bus import clients, topics
from upwell.bus.errors import Unavailable
from upwell.bus.reader import LogReader
from upwell.bus.topics import TRIGGERS, Topic
from upwell.content.asking import asked_of, evidence
from upwell.content.progress import outcomes
from upwell.content.prompt import Facts, facts_of
from upwell.events.codec import DecodeError, decode
from upwell.events.contracts import Content, ContentTrigger, Media, TextKind
from upwell.events.hashing import key64
from upwell.settings import Kafka, Settings
from upwell.store import database
from upwell.store.contents import ContentStore, ItemFacts
from upwell.store.history import largest_weights
from upwell.store.published import Entry, PublishedStore, User

MOST_ITEMS: Final = 200_000
"""Items of the catalogue that are looked at: names of others are known up to here."""

DRAWN: Final = 4
"""Times as many items are drawn as pictures are wanted: not all have one."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One published content, and what it was made of."""

    content: Content
    facts: Facts
    """Of its item, as Postgres holds them now."""
    known: bool
    """Whether Postgres holds the item."""
    because: tuple[str, ...] = ()
    """Titles of the user's items that the occasion named."""
    because_ids: tuple[str, ...] = ()
    reason: str = ""
    taste: tuple[str, ...] = ()
    """Categories that the occasion gave as the reason."""
    media: tuple[Media, ...] = ()
    """Of its item."""

    @property
    def by_model(self) -> bool:
        return self.content.source == "model"


@dataclass(frozen=True, slots=True)
class Sample:
    """What is evaluated."""

    pieces: list[Piece]
    """Latest last."""
    published: int
    """Contents on the topic."""
    outcomes: Counter[str] = field(default_factory=Counter)
    """All ended occasions so far, by outcome; empty where the worker has committed nothing."""
    users: dict[str, User] = field(default_factory=dict)
    item_vectors: dict[str, tuple[str, NDArray[np.float32]]] = field(default_factory=dict)
    catalogue: list[Entry] = field(default_factory=list)
    pictures: list[Media] = field(default_factory=list)
    """Pictures of items drawn from the catalogue, one of each."""
    cut: bool = False
    """The catalogue is larger than what was looked at."""


def sample(settings: Settings, limit: int, pictures: int, seed: int) -> Sample:
    """The latest `limit` contents of a deployment, and up to `pictures` pictures of other items, drawn by `seed`.

    Raises:
        Unavailable: the broker does not answer, or a topic is not there.
        psycopg.OperationalError: Postgres does not answer.
    """
    contents, published = _latest(settings.kafka, limit)
    occasions = _occasions(settings.kafka, {content.trigger_id for content in contents})
    with database.pool(settings.postgres) as connections:
        store, more = ContentStore(connections), PublishedStore(connections)
        ids = {item for content in contents for item in content.item_ids}
        ids |= {item for occasion in occasions.values() for item in occasion.because}
        items = store.facts(sorted(ids))
        media = store.media(sorted(ids))
        users = more.users(sorted({content.user_id for content in contents}))
        vectors = more.vectors(sorted(ids))
        catalogue = more.catalogue(MOST_ITEMS)
        drawn = np.random.default_rng(seed).permutation(len(catalogue))[: pictures * DRAWN]
        others = store.media([catalogue[n].item_id for n in drawn])
    pieces = [
        _piece(content, occasions.get(content.trigger_id), items, media.get(content.item_ids[0], []))
        for content in contents
        if content.item_ids
    ]
    ended = ended_by_outcome(settings.kafka)
    images = [first for media in others.values() if (first := next((m for m in media if m.kind == "image"), None))]
    cut = len(catalogue) == MOST_ITEMS
    return Sample(pieces, published, ended, users, vectors, catalogue, images[:pictures], cut)


def _latest(kafka: Kafka, limit: int) -> tuple[list[Content], int]:
    """The latest contents by publication, oldest first, and how many there are in all."""
    newest: list[tuple[int, int, int, bytes]] = []
    published = 0
    for messages in _all(kafka, Topic.CONTENTS):
        for message in messages:
            if message.value() is None:
                continue
            published += 1
            place = (message.timestamp()[1], message.partition(), message.offset(), message.value())
            (heapq.heappushpop if len(newest) >= limit else heapq.heappush)(newest, place)
    found = []
    for *_, raw in sorted(newest):
        try:
            content = decode(Content, raw)
        except DecodeError:
            published -= 1  # another producer's: no content of ours
            continue
        if content.text_kind == TextKind.RECOMMENDATION:  # the others have no reason to be judged by
            found.append(content)
    return found, published


def _occasions(kafka: Kafka, wanted: set[str]) -> dict[str, ContentTrigger]:
    """The triggers of contents, by id. Requests have none: they say no reason."""
    found = {}
    for topic in TRIGGERS.values():
        for messages in _all(kafka, topic):
            for message in messages:
                try:
                    trigger = decode(ContentTrigger, message.value() or b"")
                except DecodeError:
                    continue
                if trigger.trigger_id in wanted:
                    found[trigger.trigger_id] = trigger
    return found


def _all(kafka: Kafka, topic: Topic) -> Iterator[list[Message]]:
    reader = LogReader(kafka, topics.real(kafka, topic), "evaluation")
    try:
        yield from reader.to_end()
    finally:
        reader.close()


def ended_by_outcome(kafka: Kafka) -> Counter[str]:
    """All triggers and requests that have ended, by outcome, from the metadata of the content worker's offsets.

    Raises:
        Unavailable: the broker does not answer.
    """
    observer = clients.group_observer(kafka, "content")
    try:
        asked = [
            place
            for topic in (*TRIGGERS.values(), Topic.REQUESTS)
            for place in clients.all_partitions(observer, topics.real(kafka, topic), 0)
        ]
        found: Counter[str] = Counter()
        for place in observer.committed(asked, timeout=30.0):
            found.update(outcomes(place.metadata or ""))
        return found
    except KafkaException as error:
        raise Unavailable(f"cannot read the content worker's offsets: {error.args[0].str()}") from error
    finally:
        observer.close()


def _piece(
    content: Content, occasion: ContentTrigger | None, items: dict[str, ItemFacts], media: Sequence[Media]
) -> Piece:
    item_id = content.item_ids[0]
    item = items.get(item_id)
    if item is None:
        return Piece(content, Facts(""), known=False, media=tuple(media))
    if occasion is None:
        facts = facts_of(item.title or item_id, item.categories, item.attributes, item.description)
        return Piece(content, facts, known=True, media=tuple(media))
    asked, liked = asked_of(occasion, item_id, items), evidence(occasion, item_id, items)
    return Piece(content, asked.facts, True, asked.because, liked, asked.reason, asked.taste, tuple(media))


def histories(users: dict[str, User]) -> dict[str, dict[int, float]]:
    """Of each user the items of the stored events: xxh3 of the item's id to the largest weight."""
    return {user.user_id: largest_weights(user.events) for user in users.values()}


def likes(users: dict[str, User], catalogue: Sequence[Entry]) -> dict[str, Counter[str]]:
    """Of each user how often the categories of items with events of positive weight occur."""
    categories = {key64(entry.item_id): entry.categories for entry in catalogue}
    return {
        user: Counter(c for item, weight in seen.items() if weight > 0 for c in categories.get(item, ()))
        for user, seen in histories(users).items()
    }
