"""A seed in, the input stream and the fault schedule out: the same seed gives the same of both. Pure.

The stream has what producers do wrong: repeats, events out of order, events of items not known yet or never, records
that break their contract.
"""

from __future__ import annotations

import itertools
import json
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

START_MS = 1_760_000_000_000
"""Event time of the first event."""
STEP_MS = 50
USERS, ITEMS = 300, 200
TYPES = ("click", "click", "view", "view", "view", "like", "rating", "purchase", "impression", "dislike", "play")
GENRES = ("drama", "comedy", "horror", "western", "musical", "crime", "romance", "adventure")
ITEM_RATE, NEW_RATE, REQUEST_RATE = 12, 1, 6
"""Updates of items, new items and requests for content a second, beside the interactions."""
RECENT = 2_000
"""Repeats are of one of the last so many events."""


class Sent(NamedTuple):
    """One record to be sent; `partition` -1: where its key belongs."""

    topic: str
    key: str | None
    value: bytes | None
    partition: int = -1


class Input:
    """The stream of one seed: first `catalogue`, then `stream`."""

    def __init__(self, seed: int, rate: int, partitions: int) -> None:
        """`rate`: interactions a second that the stream is meant to be sent at."""
        self._random = random.Random(seed)
        self._rate, self._partitions = rate, partitions
        self._items = 0
        self._updates = 0
        self._deleted: set[int] = set()

    def catalogue(self) -> Iterator[Sent]:
        """Items that are there from the beginning."""
        for _ in range(ITEMS):
            yield self._new(START_MS)

    def stream(self) -> Iterator[Sent]:
        """Interactions without end, repeats and bad records among them, and what comes beside them."""
        draw = self._random
        recent: deque[Sent] = deque(maxlen=RECENT)
        late: list[tuple[int, Sent]] = []
        requests = 0
        for number in itertools.count():
            now = START_MS + number * STEP_MS
            if late and late[0][0] <= number:
                yield late.pop(0)[1]
            elif draw.random() < 0.03 and recent:
                yield draw.choice(recent)
            elif draw.random() < 0.002:
                yield self._bad(number, now)
            else:
                event = self._event(number, now)
                recent.append(event)
                if draw.random() < 0.05:
                    late.append((number + draw.randrange(1, 300), event))
                    late.sort(key=lambda held: held[0])
                    yield self._event(number, now, "rank_request")
                else:
                    yield event
            if number % max(1, self._rate // NEW_RATE) == 0:
                yield self._new(now)
            if number % max(1, self._rate // ITEM_RATE) == 0:
                yield self._update(number, now)
            if number % max(1, self._rate // REQUEST_RATE) == 0:
                requests += 1
                yield self._request(requests, now)

    def _event(self, number: int, now: int, kind: str = "") -> Sent:
        draw = self._random
        user = f"u{int(USERS * draw.random() ** 2)}"
        event = {
            "event_id": f"e{number}{kind}", "user_id": user, "type": kind or draw.choice(TYPES),
            "ts": now + draw.randrange(-10_000, 10_000),
        }  # fmt: skip
        if not kind:
            chance = draw.random()
            # Mostly known items; some that will come soon, some that never do.
            event["item_id"] = (
                f"ghost{draw.randrange(20)}" if chance < 0.01
                else f"i{self._items + draw.randrange(3)}" if chance < 0.03
                else f"i{int(self._items * draw.random() ** 1.5)}"
            )  # fmt: skip
            if event["type"] == "rating":
                event["value"] = draw.randrange(1, 6)
        return _json("interactions", user, event)

    def _new(self, now: int) -> Sent:
        number, self._items = self._items, self._items + 1
        return self._item(number, now)

    def _item(self, number: int, now: int) -> Sent:
        draw = self._random
        genres = draw.sample(GENRES, 2)
        item = {
            "item_id": f"i{number}", "title": f"Film {number} of {' and '.join(genres)}", "ts": now,
            "categories": genres, "description": f"A film about {draw.choice(GENRES)} number {draw.randrange(1000)}.",
        }  # fmt: skip
        return _json("items", f"i{number}", item, number % self._partitions)

    def _update(self, number: int, now: int) -> Sent:
        """Another text of an item, now and then its deletion; each partition in its turn."""
        draw = self._random
        self._updates += 1
        partition = self._updates % self._partitions
        if draw.random() < 0.01:
            return Sent("items", "bad", draw.choice((b"{", b'{"item_id": "i0", "title": "x"}')), partition)
        chosen = draw.randrange(self._items // self._partitions) * self._partitions + partition
        if chosen in self._deleted:
            return self._item(partition, now)
        if chosen >= ITEMS // 2 and draw.random() < 0.01:
            self._deleted.add(chosen)
            return Sent("items", f"i{chosen}", None, partition)
        return self._item(chosen, now)

    def _request(self, number: int, now: int) -> Sent:
        """For an item that is never deleted, of a user who asks once; each partition in its turn."""
        draw = self._random
        partition = number % self._partitions
        if draw.random() < 0.01:
            return Sent("requests", "r", draw.choice((b"[]", b'{"user_id": "r"}', b"\xff")), partition)
        item = f"i{draw.randrange(ITEMS // 2)}"
        request = {"request_id": f"q{number}", "user_id": f"r{number}", "ts": now, "item_id": item}
        return _json("requests", f"r{number}", request, partition)

    def _bad(self, number: int, now: int) -> Sent:
        """A record that breaks the contract of interactions, each in its own way."""
        good = {"event_id": f"b{number}", "user_id": "u1", "type": "click", "item_id": "i0", "ts": now}
        kinds = (
            Sent("interactions", "u1", b"{"),
            Sent("interactions", "u1", b"\xff\xfe\x00"),
            Sent("interactions", "u1", b"[1, 2]"),
            Sent("interactions", "u1", None),
            _json("interactions", None, good),
            _json("interactions", "u2", good),
            _json("interactions", "u1", good | {"type": "stared_at"}),
            _json("interactions", "u1", good | {"ts": 4_102_444_800_000}),
            _json("interactions", "u1", good | {"ts": 0}),
            _json("interactions", "u1", good | {"type": "rating"}),
            _json("interactions", "u1", {name: value for name, value in good.items() if name != "item_id"}),
        )
        return self._random.choice(kinds)


def _json(topic: str, key: str | None, value: object, partition: int = -1) -> Sent:
    return Sent(topic, key, json.dumps(value).encode(), partition)


@dataclass(frozen=True, slots=True)
class Fault:
    """`kill`: SIGKILL, and started again at once. `lose`: SIGKILL, and started again when another worker has its
    partitions. `freeze`: SIGSTOP until another worker has its partitions, or for `seconds` where it is a server.
    """

    kind: str
    target: str
    number: int
    after_s: float
    """Least time since the fault before."""
    seconds: float


MIX = {
    ("lose", "interactions"): 13, ("lose", "items"): 6, ("lose", "content"): 6, ("lose", "trends"): 2,
    ("freeze", "interactions"): 12, ("freeze", "items"): 4, ("freeze", "content"): 4,
    ("kill", "interactions"): 11, ("kill", "items"): 6, ("kill", "content"): 6, ("kill", "trends"): 5,
    ("kill", "broker"): 8, ("freeze", "broker"): 3, ("kill", "postgres"): 6, ("freeze", "postgres"): 3,
    ("kill", "triton"): 4, ("freeze", "triton"): 3,
}  # fmt: skip
"""Of about a hundred faults so many of each kind."""
SHORT = dict.fromkeys(MIX, 1)
"""One of each."""
NUMBERS = {"interactions": 3, "items": 2, "content": 2, "trends": 2, "broker": 3, "postgres": 1, "triton": 1}
"""How many there are of each target."""


def schedule(seed: int, mix: dict[tuple[str, str], int], gap_s: float) -> list[Fault]:
    """The faults of a mix in the seed's order, `gap_s` apart in the mean (exponential, at most three times that)."""
    draw = random.Random(f"faults {seed}")
    drawn = [kind for kind, count in mix.items() for _ in range(count)]
    draw.shuffle(drawn)
    return [
        Fault(kind, target, draw.randrange(NUMBERS[target]), min(3 * gap_s, draw.expovariate(1 / gap_s)),
              draw.uniform(4, 8))
        for kind, target in drawn
    ]  # fmt: skip
