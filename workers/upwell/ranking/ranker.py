"""A catalogue's items, what users did last and what all of them taught in; everybody's best items with their reasons' arithmetic out.

What is learned (`learner.Shared`) is bound to the catalogue's rows and grows with it. Items that few events are known of
are judged by their vectors as well: content counts as 1 / sqrt(events + 1).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from upwell.ranking import kernel, learner
from upwell.ranking.catalogue import Catalogue
from upwell.ranking.learner import CATEGORIES, STAGES, Lessons, Recent, Tuning
from upwell.ranking.reasons import NOBODY, Kind

KINDS: Final = (
    Kind.SIMILAR, Kind.SIMILAR, Kind.SIMILAR, Kind.SIMILAR,
    Kind.POPULAR, Kind.POPULAR, Kind.POPULAR, Kind.POPULAR, Kind.POPULAR, Kind.TASTE, Kind.NEW, Kind.POPULAR,
)  # fmt: skip
"""What each of `SCORERS`, and content and the user's segments after them, says as a reason."""
CONTENT, SEGMENTS = -2, -1
"""Where the last two are among contributions."""
FEW: Final = 20
"""An item of fewer events is judged by its vector as well."""
MOST_FRESH: Final = 4_096
"""... the latest so many of them."""
ROOM: Final = 1_024
"""Items that there is room for at first."""
REFRESH_S: Final = 1.0
"""While items come in, everybody's best items are looked for this often."""
_BOUNDS: Final = np.asarray(STAGES)
_NONE: Final = np.zeros(0, np.int32)


class Raised(NamedTuple):
    """What is added to scores because of who u users are."""

    rows: NDArray[np.int64]
    """[n], those of user i from begins[i] to begins[i + 1], distinct."""
    lift: NDArray[np.float32]
    """[n]."""
    begins: NDArray[np.int64]
    """[u + 1]."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The k best items of one user, best first."""

    rows: NDArray[np.int64]
    """[k]."""
    scores: NDArray[np.float32]
    """[k] log odds; only differences between items of one ranking mean something."""
    contributions: NDArray[np.float32]
    """[k, scorers + 2] what each scorer added beyond what it gives an item that nothing is known of; content and segments
    last."""

    def take(self, at: NDArray[np.int64]) -> Chosen:
        """Some of them, in the order of their indices `at`."""
        return Chosen(self.rows[at], self.scores[at], self.contributions[at])


class Ranker:
    """Everything that is learned from all users, and how a user is ranked with it. Of one thread."""

    def __init__(self, catalogue: Catalogue, content: float, tuning: Tuning = Tuning()) -> None:
        """
        Args:
            catalogue: rows, vectors, categories; whatever is put into it is taken over by `fit`.
            content: weight of the cosine of an item without events, in units of the score.
        """
        self.catalogue = catalogue
        self.content = np.float32(content)
        self.base_tuning = tuning
        self.tuning = learner.sized(tuning, ROOM)
        self.shared = learner.new(ROOM, self.tuning)
        self.scratch = learner.scratch(ROOM, ROOM)
        self._nothing = _nothing(tuning)
        self._open: NDArray[np.bool_] | None = None
        self._numbers: dict[str, int] = {}
        self._refresh_at = 0.0
        self._stale = False
        """Items have come or gone since everybody's best items were looked for."""

    def users(self, count: int) -> Recent:
        """Room for so many users' last events."""
        return learner.users(count, self.tuning)

    def fit(self) -> None:
        """Take over what was put into the catalogue, and removed from it, since the last time."""
        if len(self.catalogue) > len(self.shared.counts):
            self._grow(2 * len(self.catalogue))
        if self.catalogue.changed:
            self._follow()
        if self._stale and time.monotonic() >= self._refresh_at:
            self._refresh_at = time.monotonic() + REFRESH_S
            self._stale = False
            kernel.refresh(self.shared, self.tuning)

    def admit(self, open_: NDArray[np.bool_] | None) -> list[int]:
        """Say which items may be candidates; None: all that are in the catalogue.

        Args:
            open_: [n] bool by row. Rows that come after are none until this is called again.

        Returns:
            Rows that were candidates and are none any more.
        """
        self.fit()
        self._open = open_
        rows = np.arange(len(self.catalogue))
        live = self._candidates(rows)
        before = self.shared.live[: len(rows)].copy()
        self.shared.live[: len(rows)] = live
        self._stale |= bool((live != before).any())
        closed: list[int] = np.flatnonzero(before & ~live).tolist()
        return closed

    def _candidates(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """[n] bool, which rows are candidates by catalogue and rules."""
        live: NDArray[np.bool_] = self.catalogue.live[rows]  # a copy
        if self._open is not None:
            inside = rows < len(self._open)
            live[inside] &= self._open[rows[inside]]
            live[~inside] = False
        return live

    def _follow(self) -> None:
        changed, self.catalogue.changed = self.catalogue.changed, set()
        rows = sorted(changed)
        self.shared.live[rows] = self._candidates(np.array(rows))
        for row in rows:
            own = [self._number(name) for name in self.catalogue.categories[row][:CATEGORIES]]
            self.shared.category[row] = own + [0] * (CATEGORIES - len(own))
        if len(self._numbers) + 1 > len(self.scratch.interest):
            self.scratch = learner.scratch(len(self.shared.counts), 2 * len(self._numbers))
        kernel.derive(self.shared, self.tuning, np.array(rows))
        self._stale = True

    def state(self) -> dict[str, NDArray[Any]]:
        """What a snapshot holds, as copies; rows are the catalogue's, those of items just named as well."""
        self.fit()
        return learner.snapshot(self.shared, len(self.catalogue), self.tuning)

    def restore(self, held: Mapping[str, NDArray[Any]], rows: NDArray[np.int64]) -> None:
        """Take over a state whose item `a` is row `rows[a]` of the catalogue.

        Raises:
            ValueError: it was made with another tuning.
        """
        items = max(ROOM, 2 * len(self.catalogue))
        self.tuning = learner.sized(self.base_tuning, items)
        self._bind(learner.restore(held, rows, items, self.tuning))

    @property
    def stages(self) -> int:
        return len(self.shared.mix)

    def remember(self, recent: Recent, slot: int, row: int, weight: float, time: int) -> None:
        """Append an event to a user's last ones. time: ms."""
        kernel.remember(self.tuning, recent, slot, row, valence_of(weight), time)

    def recall(self, recent: Recent, slot: int, events: NDArray[np.void]) -> None:
        """Set a user's last events from a history: those with a preference whose items have rows."""
        told = events[(events["weight"] != 0) & (events["row"] >= 0)]
        ring = self.tuning.last + 1
        last, count = told[-ring:], len(told)
        at = np.arange(count - len(last), count) % ring
        recent.item[slot, at] = last["row"]
        recent.valence[slot, at] = np.clip(last["weight"], -1, 1)
        recent.time[slot, at] = last["time"]
        recent.events[slot] = count

    def teach(
        self,
        recent: Recent,
        slot: int,
        row: int,
        weight: float,
        time: int,
        gone: NDArray[np.int32],
        into: Lessons,
        at: int,
    ) -> None:
        """Write down what an event teaches, before it is remembered.

        Args:
            gone: [g] int32 rows that the user has had before it.
            into, at: where to.
        """
        kernel.teach(
            self.shared, self.tuning, recent, slot, row, valence_of(weight), time, gone, _BOUNDS, self.scratch, into, at
        )

    def learn(self, lessons: Lessons, count: int) -> None:
        """Apply the first `count` lessons, in their order."""
        kernel.apply(self.shared, self.tuning, lessons, count)

    def rank(
        self,
        recent: Recent,
        slots: Sequence[int],
        times: NDArray[np.int64],
        gone: Sequence[NDArray[np.int32]],
        interests: NDArray[np.float32],
        ties: NDArray[np.uint64],
        places: int,
        raised: Raised | None = None,
    ) -> list[Chosen]:
        """The best items of each of u users.

        Args:
            times: [u] int64 ms, what a burst is measured from.
            gone: per user the rows that are no candidates.
            interests: [u, d] float32, what content is compared with; a zero row compares nothing.
            ties: [items] uint64; of two equal items the one with the smaller number comes first.
            places: items of each user, at most.
            raised: what is added to items' scores; they are candidates then.
        """
        users, scorers = len(slots), len(self._nothing)
        fresh = self.few()
        lift = np.zeros((users, 0), np.float32)
        if len(fresh):
            lift = interests @ self.catalogue.vectors[fresh].T
            lift *= self.content * self.shared.fixed[fresh, 4]
        rows, held = np.empty((users, places), np.int64), np.empty(users, np.int64)
        scores, added = np.empty((users, places), np.float32), np.empty((users, places, scorers + 2), np.float32)
        gone_from = np.cumsum([0, *map(len, gone)])
        if raised is None:
            raised = Raised(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(users + 1, np.int64))
        kernel.rank(
            self.shared, self.tuning, recent, np.asarray(slots, np.int64), times,
            np.concatenate([_NONE, *gone]), gone_from, _BOUNDS, self.scratch, self._nothing, fresh, lift,
            *raised, ties, rows, scores, added, held,
        )  # fmt: skip
        return [Chosen(rows[u, :n], scores[u, :n], added[u, :n]) for u, n in enumerate(held.tolist())]

    def evidence(
        self, recent: Recent, slot: int, now: int, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For each item of a user's slate the event without which its score would be lowest.

        Args:
            rows: [k] int64, distinct.
            now: ms, of the ranking.

        Returns:
            [k] int64 rows of the events' items, NOBODY where none lifted the item; [k] int64 ms.
        """
        ring = self.tuning.last + 1
        part, back = np.empty((len(rows), ring, 6), np.float32), np.empty(len(rows), np.int64)
        kernel.evidence(self.shared, self.tuning, recent, slot, now, _BOUNDS, rows, self.scratch, part, back)
        at = (int(recent.events[slot]) - 1 - back) % ring
        some = back >= 0
        found = np.where(some, recent.item[slot, at], NOBODY).astype(np.int64)
        return found, np.where(some, recent.time[slot, at], 0)

    def with_last(
        self, chosen: Chosen, places: int, recent: Recent, slot: int, row: int, interest: NDArray[np.float32]
    ) -> Chosen:
        """A slate of `places` whose last one is given to an item that is not among the chosen.

        Its score is that of an item in nobody's company, and not above the place before.

        Args:
            interest: [d] float32, as for `rank`.
        """
        kept = chosen.take(np.arange(min(len(chosen.rows), places - 1)))
        one = self.alone(int(recent.events[slot]), np.array([row]), interest)
        return Chosen(
            np.append(kept.rows, row),
            np.append(kept.scores, min(float(one.scores[0]), *kept.scores[-1:])).astype(np.float32),
            np.concatenate([kept.contributions, one.contributions]),
        )

    def alone(self, events: int, rows: NDArray[np.int64], interest: NDArray[np.float32]) -> Chosen:
        """Items in nobody's company, in the given order.

        Args:
            events: of the user.
            rows: [k].
            interest: [d] float32, as for `rank`.
        """
        stage, fixed = int(np.searchsorted(_BOUNDS, events, "right")), self.shared.fixed[rows]
        mix, nothing = self.shared.mix[stage], self._nothing
        own = np.tile(nothing, (len(rows), 1))
        own[:, 4:9] = fixed[:, [0, 1, 2, 5 + stage, 3]]
        lift = self.content * fixed[:, 4] * (self.catalogue.vectors[rows] @ interest)
        scores = self.shared.base[stage, rows] + (mix[:4] * nothing[:4]).sum() + lift
        added = np.column_stack([mix * (own - nothing), lift, np.zeros(len(rows))])
        return Chosen(rows, scores.astype(np.float32), added.astype(np.float32))

    def company(self, rows: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.float64]:
        """[n, m] float64, how often each of n items was taken near each of m others, as far as it is kept."""
        places, at = self.tuning.neighbours, np.full(len(self.shared.counts), -1)
        at[others] = np.arange(len(others))
        found = np.zeros((len(rows), len(others)))
        for number, row in enumerate(rows.tolist()):
            first = int(self.shared.block[row]) * places
            held = slice(first, first + int(self.shared.filled[row]))  # empty where there is no block
            own = at[self.shared.neighbour[held]]
            kept = own >= 0
            found[number, own[kept]] = self.shared.weight[4 * held.start : 4 * held.stop : 4][kept]
        return found

    def few(self) -> NDArray[np.int64]:
        """[f] int64 rows of candidates that nobody or few had, ascending; the latest MOST_FRESH of them."""
        count = len(self.catalogue)
        few = self.shared.live[:count] & (self.shared.counts[:count] < FEW) & self.catalogue.known[:count]
        return np.flatnonzero(few)[-MOST_FRESH:]

    def _number(self, category: str) -> int:
        return self._numbers.setdefault(category, len(self._numbers) + 1)

    def _grow(self, items: int) -> None:
        self.tuning = learner.sized(self.base_tuning, items)
        self._bind(learner.wider(self.shared, items, self.tuning))

    def _bind(self, shared: learner.Shared) -> None:
        old = min(len(self.shared.live), len(shared.live))
        shared.live[:old] = self.shared.live[:old]
        shared.category[:old] = self.shared.category[:old]
        self.shared = shared
        self.scratch = learner.scratch(len(shared.live), 2 * len(self._numbers) + 8)
        kernel.refresh(shared, self.tuning)


def valence_of(weight: float) -> np.float32:
    """An event's weight as the learner knows it, in [-1, 1]."""
    return np.float32(max(-1.0, min(1.0, weight)))


def _nothing(tuning: Tuning) -> NDArray[np.float32]:
    """[scorers] features of an item that nothing is known of: to the bit those of a candidate in nobody's company."""
    sums = np.array([tuning.prior, tuning.prior_next, tuning.prior_burst], np.float32)
    kernel.logarithms(sums, len(sums), np.empty_like(sums))
    of_item = np.log([1, 0.1, 0.05, 0.1, 0.5])
    return np.array([sums[0], sums[1], 0, sums[2], *of_item, 0], np.float32)


def warm() -> None:
    """Compile what ranking and learning need, or read what was compiled before: seconds, which no event should wait."""
    catalogue = Catalogue(2)
    for name in ("a", "b"):
        catalogue.put(name, np.ones(1, np.float32), name, ["c"], 1.0)
    ranker = Ranker(catalogue, 1.0)
    ranker.fit()
    recent, into, none = ranker.users(1), learner.lessons(1, ranker.tuning), np.zeros(0, np.int32)
    for row in (0, 1):
        ranker.teach(recent, 0, row, 1.0, row, none, into, 0)
        ranker.learn(into, 1)
        ranker.remember(recent, 0, row, 1.0, row)
    (one,) = ranker.rank(recent, [0], np.zeros(1, np.int64), [none], np.zeros((1, 1), np.float32), catalogue.ties, 1)
    ranker.evidence(recent, 0, 0, one.rows)
    ranker.restore(ranker.state(), np.arange(2))
