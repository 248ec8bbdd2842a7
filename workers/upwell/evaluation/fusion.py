"""A log of interactions and vectors of its items in; held-out next-item ranking figures out.

Test, then learn: before each event of the later part of the log the user's profile, as the product keeps it, ranks all
items that this user has not consumed; then the event goes into the profile. No random numbers but the cold items' choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from upwell.events.contracts import Interaction
from upwell.ranking.popularity import Popularity
from upwell.ranking.profile import EMPTY_BASE, add, decay
from upwell.settings import Settings

Vectors = NDArray[np.float32]
DAY_MS: Final = 86_400_000
TOP: Final = 10
LEAST: Final = 500
"""Events that a test needs: the last fifth of them asks, and below a hundred questions errors are wider than gains."""
BLOCK: Final = 512
"""Questions ranked by one matrix product."""


@dataclass(frozen=True, slots=True)
class Log:
    """Interactions as arrays, in time order."""

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    """Rows of the features."""
    weights: NDArray[np.float32]
    """Of the events' types: what they add to a profile; above 0 is consumption."""
    times: NDArray[np.int64]
    """ms."""

    def __len__(self) -> int:
        return len(self.items)

    def part(self, kept: NDArray[np.bool_] | slice) -> Log:
        return Log(self.users[kept], self.items[kept], self.weights[kept], self.times[kept])


def log_of(events: Sequence[Interaction], items: Sequence[str], settings: Settings) -> Log:
    """The events of known items and types whose weight is not 0, in time order (stable)."""
    rows = {item: row for row, item in enumerate(items)}
    users: dict[str, int] = {}
    found = []
    for event in sorted(events, key=lambda event: event.ts):
        weight = settings.events.weight(event.type, event.value)
        if event.item_id in rows and weight:
            found.append((users.setdefault(event.user_id, len(users)), rows[event.item_id], weight, event.ts))
    columns = list(zip(*found, strict=True)) or [(), (), (), ()]
    return Log(
        np.array(columns[0], np.int32),
        np.array(columns[1], np.int32),
        np.array(columns[2], np.float32),
        np.array(columns[3], np.int64),
    )


@dataclass(frozen=True, slots=True)
class Split:
    """A log cut by time into what is learned from, what training stops by, and what is reported."""

    log: Log
    """Without the earlier events of the cold items."""
    fit: int
    """Events before it are learned from ..."""
    test: int
    """... from there up to it decide when to stop, and those after it are the test."""
    cold: NDArray[np.bool_]
    """bool [items]: nothing of it happened before the test."""


def split(log: Log, items: int, *, fit: float = 0.7, valid: float = 0.1, cold: float = 0.1, seed: int = 0) -> Split:
    """Cut a log by time.

    Args:
        items: how many there are.
        fit, valid: shares of the events.
        cold: share of the items that are made to appear with the test only: what happened to them before is left out.

    Raises:
        ValueError: there are fewer than `LEAST`, or a part would be empty.
    """
    if len(log) < LEAST:
        raise ValueError(f"{len(log):,} interactions with known items are too few to learn from: {LEAST:,} are needed")
    test = round(len(log) * (fit + valid))
    chosen = np.zeros(items, bool)
    chosen[np.random.default_rng(seed).permutation(items)[: round(items * cold)]] = True
    early = np.arange(len(log)) < test
    kept = log.part(~(early & chosen[log.items]))
    test -= len(log) - len(kept)
    begin = round(test * fit / (fit + valid))
    if not 0 < begin < test < len(kept):
        raise ValueError(f"{len(log)} interactions are too few to learn from and to test with")
    return Split(kept, begin, test, np.bincount(kept.items[:test], minlength=items) == 0)


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one way to rank; standard errors (`_se`) count a user's questions as one cluster (Liang and Zeger 1986)."""

    questions: int
    hr: float
    hr_se: float
    ndcg: float
    ndcg_se: float

    def as_dict(self) -> dict[str, Any]:
        return {
            "questions": self.questions,
            "hr@10": round(self.hr, 4),
            "hr@10_se": round(self.hr_se, 4),
            "ndcg@10": round(self.ndcg, 4),
            "ndcg@10_se": round(self.ndcg_se, 4),
        }


@dataclass(frozen=True, slots=True)
class Difference:
    """Of two ways to rank the same questions, in NDCG@10; the standard error as in `Figures`."""

    ndcg: float
    se: float

    def as_dict(self) -> dict[str, Any]:
        return {"ndcg@10": round(self.ndcg, 4), "se": round(self.se, 4)}


@dataclass(slots=True)
class Exam:
    """The questions of a stretch of a log: the next item of a user who has a profile and has not consumed it yet."""

    log: Log
    begin: int
    end: int
    items: int
    half_life_ms: float
    _users: NDArray[np.int32] = field(init=False)
    _targets: NDArray[np.int32] = field(init=False)
    _events: NDArray[np.int64] = field(init=False)
    """Index into the log of each question."""
    _seen: list[NDArray[np.int64]] = field(init=False)
    """Per question what is no candidate."""

    def __post_init__(self) -> None:
        log = self.log
        consumed: dict[int, dict[int, None]] = {}
        events, seen = [], []
        for i in range(self.end):
            user, item = int(log.users[i]), int(log.items[i])
            held = consumed.setdefault(user, {})
            if log.weights[i] > 0:
                if i >= self.begin and held and item not in held:
                    events.append(i)
                    seen.append(np.fromiter(held, np.int64))
                held[item] = None
        self._events, self._seen = np.array(events, np.int64), seen
        self._users, self._targets = log.users[self._events], log.items[self._events]

    def __len__(self) -> int:
        return len(self._events)

    def asks(self, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which questions are answered by one of the items of `rows`, bool [items]: bool [questions]."""
        found: NDArray[np.bool_] = rows[self._targets]
        return found

    def ranks(self, vectors: Vectors) -> NDArray[np.int64]:
        """[questions] rank of the answer, 1 the best, by cosine with the profile; equal ones count as better.

        Args:
            vectors: [items, d] float32, unit length; zero for an item of which nothing is known.
        """
        profiles = self._profiles(vectors)
        return self._ranked(lambda block: profiles[block] @ vectors.T)

    def popularity_ranks(self, half_life_ms: float) -> NDArray[np.int64]:
        """The same by decayed popularity (`upwell.ranking.popularity`), which learns on through the test."""
        log, popularity = self.log, Popularity(half_life_ms)
        table = np.empty((len(self), self.items), np.float32)
        done = 0
        for number, event in enumerate(self._events):
            part = slice(done, event)
            popularity.learn(log.items[part].tolist(), log.times[part].tolist(), log.weights[part].tolist())
            table[number], done = popularity.scores(self.items), int(event)
        return self._ranked(lambda block: table[block])

    def figures(self, ranks: NDArray[np.int64], only: NDArray[np.bool_] | None = None) -> Figures:
        """HR@10 and NDCG@10 (one relevant item: 1 / log2(1 + rank), Järvelin and Kekäläinen 2002) of ranks [questions].

        `only`: bool [questions], those that count.
        """
        chosen = np.ones(len(self), bool) if only is None else only
        if not chosen.any():
            return Figures(0, 0.0, 0.0, 0.0, 0.0)
        hits, gains = hits_of(ranks[chosen]), gains_of(ranks[chosen])
        users = self._users[chosen]
        return Figures(
            int(chosen.sum()), float(hits.mean()), clustered_error(hits, users), float(gains.mean()),
            clustered_error(gains, users),
        )  # fmt: skip

    def difference(self, ranks: NDArray[np.int64], other: NDArray[np.int64]) -> Difference:
        """NDCG@10 of `ranks` less that of `other`, question by question."""
        gain = gains_of(ranks) - gains_of(other)
        return Difference(float(gain.mean()), clustered_error(gain, self._users))

    def _profiles(self, vectors: Vectors) -> Vectors:
        """[questions, d] the profile of each question's user just before it."""
        log = self.log
        users = int(log.users.max(initial=-1)) + 1
        sums, bases = np.zeros((users, vectors.shape[1]), np.float32), np.full(users, EMPTY_BASE, np.int64)
        found = np.empty((len(self), vectors.shape[1]), np.float32)
        number = 0
        for i in range(self.end):
            user = int(log.users[i])
            if number < len(self) and self._events[number] == i:
                found[number] = sums[user]
                number += 1
            base, factor = decay(int(log.times[i]), self.half_life_ms)
            add(sums, bases, user, vectors[log.items[i]], float(log.weights[i]), base, factor)
        return found

    def _ranked(self, scores: Any) -> NDArray[np.int64]:
        ranks = np.empty(len(self), np.int64)
        for start in range(0, len(self), BLOCK):
            block = slice(start, min(start + BLOCK, len(self)))
            table = scores(block)
            numbers = np.arange(len(table))
            better = table >= table[numbers, self._targets[block]][:, None]
            for row, gone in enumerate(self._seen[block]):
                better[row, gone] = False
            ranks[block] = better.sum(1)
        return ranks


def hits_of(ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    return (ranks <= TOP).astype(np.float64)


def gains_of(ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    gains: NDArray[np.float64] = np.where(ranks <= TOP, 1 / np.log2(1.0 + ranks), 0.0)
    return gains


def clustered_error(values: NDArray[np.float64], clusters: NDArray[np.int32]) -> float:
    """Standard error of the mean of values whose clusters, not themselves, are independent."""
    if len(values) < 2:
        return 0.0
    sums = np.bincount(clusters, weights=values - values.mean())
    groups = len(np.unique(clusters))
    correction = groups / (groups - 1) if groups > 1 else 1.0
    return float(np.sqrt(correction * np.square(sums).sum()) / len(values))


def table(report: Mapping[str, Any]) -> str:
    """The report of `training.fusion_runs` as lines for people: strategies down, what is at hand across."""
    missing = next(iter(report["strategies"].values()))["missing"]
    heads = ["all", "cold items", *(f"no {name}" for name in missing)]
    lines = [f"{'':<14}" + "".join(f"{head:>16}" for head in heads) + f"{'against mean':>18}"]

    def cell(figures: Mapping[str, Any]) -> str:
        return f"{figures['ndcg@10']:.3f} ± {figures['ndcg@10_se']:.3f}"

    for name, found in report["strategies"].items():
        cells = [found["all"], found["cold"], *found["missing"].values()]
        against = f"{found['against_mean']['ndcg@10']:+.3f} ± {found['against_mean']['se']:.3f}"
        lines.append(f"{name:<14}" + "".join(f"{cell(c):>16}" for c in cells) + f"{against:>18}")
    popular = report["popularity"]
    lines.append(f"{'popularity':<14}{cell(popular['all']):>16}{cell(popular['cold']):>16}")
    lines.append(f"NDCG@10 ± standard error, over {report['questions']:,} held-out events, {report['items']:,} items")
    return "\n".join(lines)


def plot(report: Mapping[str, Any], path: Any) -> None:
    """The same as bars, to a PNG or SVG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    strategies = report["strategies"]
    missing = list(next(iter(strategies.values()))["missing"])
    groups = ["all", "cold items", *(f"no {name}" for name in missing)]
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    width = 0.8 / len(strategies)
    for number, (name, found) in enumerate(strategies.items()):
        cells = [found["all"], found["cold"], *found["missing"].values()]
        places = np.arange(len(groups)) + (number - (len(strategies) - 1) / 2) * width
        axes.bar(
            places, [cell["ndcg@10"] for cell in cells], width, label=name,
            yerr=[cell["ndcg@10_se"] for cell in cells], error_kw={"elinewidth": 0.8, "alpha": 0.6},
        )  # fmt: skip
    axes.axhline(
        report["popularity"]["all"]["ndcg@10"], color="grey", linewidth=0.9, linestyle="--", label="popularity"
    )
    axes.set_xticks(np.arange(len(groups)), groups)
    axes.set_ylabel("NDCG@10")
    axes.set_title(f"Held-out next item: {report['data']}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=4, fontsize="small")
    figure.savefig(path, dpi=150)
