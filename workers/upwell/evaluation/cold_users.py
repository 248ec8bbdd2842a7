"""New users whose attributes are known: how well rankings foresee what they like, with segments and without.

Test, then learn, as in `evaluation/ranking.py`, with the ranker that a worker holds. Both rankings are made of the same
events; what is compared is the segments' part in the score alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from upwell.evaluation.datasets import Dataset, DatasetError, atomic
from upwell.evaluation.own_data import read_table
from upwell.evaluation.ranking import PLACES, figures
from upwell.evaluation.ranking_log import RankingLog
from upwell.interactions.segments import segment
from upwell.ranking import learner
from upwell.ranking.catalogue import Catalogue
from upwell.ranking.ranker import Raised, Ranker
from upwell.ranking.segments import EVERYBODY, Segments
from upwell.settings import ColdStart

DAY_MS: Final = 86_400_000
Attributes = dict[str, dict[str, str]]
"""By user, by attribute."""


def read_users(path: Path, notes: list[str]) -> Attributes:
    """A CSV file with a column `user`; all others are attributes.

    Raises:
        DatasetError: it cannot be read, or has no attribute.
    """
    refused: list[str] = []
    columns, rows = read_table(path, needed=("user",), refused=refused, notes=notes)
    if len(columns) == 1:
        raise DatasetError(f"{path.name} says nothing of its users: it has the column user alone")
    found = {row.cells["user"]: row.cells for row in rows if "user" in row.cells}
    if refused:
        notes.append(f"{len(refused):,} rows of {path.name} were refused, the first: {refused[0]}")
    return found


def movielens_users(path: Path) -> Attributes:
    """MovieLens-100K's users: age by decade, gender, occupation.

    Raises:
        DatasetError: it is missing, or not what it should be.
    """
    if not path.is_file():
        raise DatasetError(f"{path.name} is missing in {path.parent}: `make setup` fetches it")
    return {
        user: {"age": f"{int(age) // 10}0s", "gender": gender, "occupation": occupation}
        for user, age, gender, occupation, _ in atomic(path, 5)
    }


def segments_of(
    dataset: Dataset, log: RankingLog, attributes: Attributes, names: Iterable[str]
) -> list[tuple[str, ...]]:
    """Each slot's segments, as a worker would make them of events' `context`."""
    found: list[tuple[str, ...]] = [()] * log.users
    for slot, number in zip(log.stream.user.tolist(), log.order.tolist(), strict=True):
        if not found[slot]:
            told = attributes.get(dataset.interactions[number].user_id, {})
            found[slot] = tuple(each for name in names if (each := segment(name, told.get(name))))
    return found


def compare(
    log: RankingLog,
    segments: Sequence[tuple[str, ...]],
    settings: ColdStart,
    done: Callable[[int, int], None] = lambda *_: None,
) -> dict[str, Any]:
    """Figures of the targets of users with fewer than `cold_start.segment_events` events, whose segments are known.

    Args:
        segments: by slot.
        done: told how many events of how many have been replayed.
    """
    learned = Segments(settings.segment_half_life_days * DAY_MS)
    without, with_them = replay_cold(log, segments, settings, learned, done)
    half = np.arange(log.events) < log.events // 2
    difference = np.where(with_them < PLACES, 1.0, 0.0) - np.where(without < PLACES, 1.0, 0.0)

    def of(where: NDArray[np.bool_]) -> dict[str, Any]:
        judged = where & (without >= 0)
        apart = difference[judged]
        return {
            "without": _of(np.where(where, without, -1)),
            "with": _of(np.where(where, with_them, -1)),
            "difference": round(float(apart.mean()), 4) if len(apart) else None,
            "standard_error": round(float(apart.std() / max(len(apart), 1) ** 0.5), 4) if len(apart) else None,
        }

    return {
        "attributes": sorted({name.partition("=")[0] for own in segments for name in own}),
        "users": sum(1 for own in segments if own),
        **of(np.ones(log.events, bool)),
        "halves": [of(half), of(~half)],
    }


def bare_ranker(log: RankingLog) -> Ranker:
    """A worker's ranker of a log's items, row by row, that looks at no vectors and has learned nothing yet."""
    catalogue = Catalogue(len(log.items))
    for row, name in enumerate(log.items):
        own = [log.categories[number - 1] for number in log.category[row].tolist() if number]
        catalogue.put(name, np.ones(1, np.float32), name, own, 1.0)
        if not log.live[row]:
            catalogue.remove(name)
    ranker = Ranker(catalogue, content=0.0)
    ranker.fit()
    return ranker


def replay_cold(
    log: RankingLog,
    segments: Sequence[tuple[str, ...]],
    settings: ColdStart,
    learned: Segments,
    done: Callable[[int, int], None] = lambda *_: None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """[e] places of what came, without and with segments; `PLACES` where it was not on the slate, -1 for no target."""
    ranker = bare_ranker(log)
    catalogue = ranker.catalogue
    recent, into = ranker.users(log.users), learner.lessons(1, ranker.tuning)
    none, stream, targets = np.zeros((1, 1), np.float32), log.stream, log.targets
    had = [list[int]() for _ in range(log.users)]
    found = np.full((2, log.events), -1, np.int64)
    for event in range(log.events):
        user, item = int(stream.user[event]), int(stream.item[event])
        valence, time = float(stream.valence[event]), int(stream.time[event])
        gone, left = np.array(had[user], np.int32), settings.segment_events - int(recent.events[user])
        if targets[event] and left > 0 and segments[user]:
            rows, lift = learned.lift(segments[user])
            lift *= np.float32(settings.segment_weight * left / settings.segment_events)
            for at, raised in enumerate((None, Raised(rows, lift, np.array([0, len(rows)])))):
                (slate,) = ranker.rank(
                    recent, [user], np.array([time]), [gone], none, catalogue.ties, PLACES, raised
                )  # fmt: skip
                place = np.flatnonzero(slate.rows == item)
                found[at, event] = place[0] if len(place) else PLACES
        ranker.teach(recent, user, item, valence, time, gone, into, 0)
        ranker.learn(into, 1)
        if valence >= ranker.tuning.liked:
            learned.learn(time, [(name, item, 1) for name in (EVERYBODY, *segments[user])])
        ranker.remember(recent, user, item, valence, time)
        had[user].append(item)
        if (event + 1) % 1_000 == 0 or event + 1 == log.events:
            done(event + 1, log.events)
    return found[0], found[1]


def _of(places: NDArray[np.int64]) -> dict[str, Any]:
    shown = figures(places)
    return {key: shown[key] for key in ("targets", "hr_at_10", "ndcg_at_10")}
