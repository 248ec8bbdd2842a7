"""Two streams of known structure: a seed in; items, clicks in time order and the ceiling that no ranking can pass out.

Each click is drawn from a distribution over the items that its user has not had, so ranking by that very distribution is
the best that can be done (the oracle). Sizes are those of MovieLens-100K, so that figures are had in a minute.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from upwell.evaluation.datasets import Dataset
from upwell.events.contracts import Interaction, InteractionType, Item

SHOP_SEED: Final = 20261
NEWS_SEED: Final = 20262
START_MS: Final = 1_760_000_000_000
HOUR_MS: Final = 3_600_000


@dataclass(frozen=True)
class Stream:
    """A generated stream and its ceiling."""

    dataset: Dataset
    oracle: NDArray[np.int64]
    """[events] rank, 0 the best, that the true distribution gives the item that was taken."""


def shop(seed: int = SHOP_SEED, users: int = 4_000, items: int = 2_000, events: int = 60_000) -> Stream:
    """A shop: short sessions with one intent each, interests that drift, things that are bought together.

    An item belongs to one of 40 departments; a few items complete each other across departments. A session (4 clicks on
    average) draws its department from the user's interests, which walk at random from session to session. A click is on
    a complement of the click before (30%), on something of the session's department by its popularity (60%), or on
    anything popular (10%). Popularity walks as well: what sells in autumn does not in spring.
    """
    rng = np.random.default_rng(seed)
    departments, complements = 40, 6
    department = rng.integers(departments, size=items)
    appeal = rng.normal(0, 1.3, items)
    goes_with = rng.integers(items, size=(items, complements))
    goes_weight = rng.dirichlet(np.full(complements, 0.7), items)
    interest = rng.normal(0, 1.8, (users, departments))
    busy = rng.dirichlet(np.full(users, 0.4))
    members = [np.flatnonzero(department == each) for each in range(departments)]
    seen = np.zeros((users, items), bool)
    clicks: list[tuple[int, int, int]] = []
    oracle: list[int] = []
    now = START_MS
    while len(clicks) < events:
        now += int(rng.exponential(HOUR_MS / 4))
        if rng.random() < 0.05:
            appeal += rng.normal(0, 0.12, items)
        user = int(rng.choice(users, p=busy))
        interest[user] = 0.97 * interest[user] + rng.normal(0, 0.45, departments)
        aim = members[int(rng.choice(departments, p=_softmax(interest[user])))]
        popular = _softmax(appeal)
        of_aim = np.zeros(items)
        of_aim[aim] = popular[aim] / max(popular[aim].sum(), 1e-12)
        before, moment = -1, now
        for _ in range(int(rng.geometric(0.25))):
            chance = 0.6 * of_aim + 0.1 * popular
            if before < 0:
                # The session's intent is known to nobody before its first click: the oracle has the user's interests.
                ahead = 0.1 * popular + 0.6 * (_softmax(interest[user])[department] * _within(popular, department))
            else:
                np.add.at(chance, goes_with[before], 0.3 * goes_weight[before])
                ahead = chance
            chance = np.where(seen[user], 0, chance)
            taken = int(rng.choice(items, p=chance / chance.sum()))
            oracle.append(_rank(np.where(seen[user], 0, ahead), taken))
            clicks.append((user, taken, moment))
            seen[user, taken] = True
            before = taken
            moment += int(rng.exponential(60_000)) + 1_000
            if len(clicks) == events or seen[user].sum() > items // 2:
                break
    goods = [
        Item(f"g{row}", title=f"Thing {row}", categories=[f"department {department[row]}"]) for row in range(items)
    ]
    return _stream("a shop", goods, clicks, oracle)


def news(seed: int = NEWS_SEED, users: int = 2_500, items: int = 3_000, events: int = 60_000) -> Stream:
    """News: an article lives for hours, readers have lasting topics, a few articles are what everybody reads.

    Articles of 25 topics come out one after the other and lose half of their appeal every six hours. A reader's click
    is drawn over what is out by appeal and the reader's taste for its topic, which drifts slowly; a tenth of all clicks
    follow a story: the next article of the thread that the last one belongs to.
    """
    rng = np.random.default_rng(seed)
    topics, threads, half_life = 25, 600, 6 * HOUR_MS
    span = 30 * 24 * HOUR_MS
    released = np.sort(rng.integers(0, span, items))
    thread = (np.arange(items) // 12 * 3 + rng.integers(3, size=items)) % threads
    topic_of = rng.integers(topics, size=threads)
    topic = topic_of[thread]
    appeal = rng.normal(0, 1.2, items)
    taste = rng.normal(0, 1.2, (users, topics))
    busy = rng.dirichlet(np.full(users, 0.6))
    seen = np.zeros((users, items), bool)
    last = np.full(users, -1)
    clicks: list[tuple[int, int, int]] = []
    oracle: list[int] = []
    for moment in np.sort(rng.integers(2 * HOUR_MS, span, events)):
        user = int(rng.choice(users, p=busy))
        taste[user] += rng.normal(0, 0.05, topics)
        age = moment - released
        lively = np.where(
            (age >= 0) & ~seen[user], np.exp(appeal + taste[user][topic] - np.log(2) * age / half_life), 0
        )
        chance = lively / max(lively.sum(), 1e-300)
        if last[user] >= 0:
            follows = lively * (thread == thread[last[user]])
            if follows.sum() > 0:
                chance = 0.9 * chance + 0.1 * follows / follows.sum()
        if chance.sum() <= 0:
            continue
        taken = int(rng.choice(items, p=chance / chance.sum()))
        oracle.append(_rank(chance, taken))
        clicks.append((user, taken, START_MS + int(moment)))
        seen[user, taken] = True
        last[user] = taken
    articles = [Item(f"a{row}", title=f"Article {row}", categories=[f"topic {topic[row]}"]) for row in range(items)]
    return _stream("news", articles, clicks, oracle)


STREAMS: Final[dict[str, Callable[[], Stream]]] = {"shop": shop, "news": news}
"""By name, at the seeds and sizes that are reported."""


def _stream(name: str, items: list[Item], clicks: list[tuple[int, int, int]], oracle: list[int]) -> Stream:
    order = np.argsort([moment for _, _, moment in clicks], kind="stable")
    events = [
        Interaction(f"{name}-{at}", f"u{clicks[at][0]}", InteractionType.CLICK.value, clicks[at][2], f"{items[clicks[at][1]].item_id}")
        for at in order
    ]  # fmt: skip
    return Stream(Dataset(name, items, events), np.asarray(oracle)[order])


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    raised = np.exp(logits - logits.max())
    return raised / raised.sum()  # type: ignore[no-any-return]


def _within(weights: NDArray[np.float64], group: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each weight as a share of its group's sum."""
    return weights / np.bincount(group, weights, minlength=int(group.max()) + 1)[group]


def _rank(chance: NDArray[np.float64], taken: int) -> int:
    """Items likelier than the one taken."""
    return int((chance > chance[taken]).sum())
