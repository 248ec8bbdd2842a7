"""Who had which ranking when something happened, and how often an item had been taken by then: arrays in, arrays out. Pure.

Times are ms; *before* is strictly before. Owners are numbers from 0, times of one array need not be sorted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from upwell.evaluation.served_log import Happened, Rankings

Ints = NDArray[np.int64]


def before(owner: Ints, time: Ints, asked: Ints, at: Ints) -> tuple[Ints, Ints]:
    """Of records of owners, for each question: how many its owner had before a time, and which is the latest of them.

    Args:
        owner, time: [n] of the records; of equal times the last one is the latest.
        asked, at: [q] owners and times of the questions.

    Returns:
        [q] counts, and [q] indices of records, -1 where there is none.
    """
    if not len(owner) or not len(asked):
        return np.zeros(len(asked), np.int64), np.full(len(asked), -1, np.int64)
    start = min(time.min(), at.min())
    span = int(max(time.max(), at.max()) - start) + 1
    keys = owner * span + (time - start)
    order = np.argsort(keys, kind="stable")
    sorted_keys = keys[order]
    place = np.searchsorted(sorted_keys, asked * span + (at - start), side="left")
    first = np.searchsorted(sorted_keys, asked * span, side="left")
    count = place - first
    return count, np.where(count > 0, order[np.maximum(place - 1, 0)], -1)


def seen(rankings: Rankings, events: Happened) -> Ints:
    """[e] the ranking that each event is judged by: the one it names, or the latest that its user had before; -1 for none."""
    _, latest = before(rankings.user, rankings.published, events.user, events.logged)
    return np.where(events.ranking >= 0, events.ranking, latest)


def news(events: Happened) -> NDArray[np.bool_]:
    """[e] events whose user had no event with the item before that was a preference; those without an item are none."""
    width = int(events.item.max(initial=0)) + 1
    telling = np.flatnonzero((events.weight != 0) & (events.item >= 0))
    found = np.zeros(len(events.user), bool)
    _, first = np.unique(events.user[telling] * width + events.item[telling], return_index=True)
    found[telling[first]] = True
    return found


def places(rankings: Rankings, ranking: Ints, item: Ints) -> Ints:
    """[n] where an item stands on a ranking's slate, from 0; -1 where it does not, or there is no ranking."""
    if not len(rankings.user):
        return np.full(len(ranking), -1, np.int64)
    same = (rankings.slate[ranking] == item[:, None]) & (ranking >= 0)[:, None] & (item >= 0)[:, None]
    return np.where(same.any(axis=1), same.argmax(axis=1), -1)


def clicks(rankings: Rankings, events: Happened, among: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Places that were shown, and those of them whose item was liked there, by events that name the ranking.

    Args:
        among: [e] the events that are looked at.

    Returns:
        Each place once, ascending, as ranking * k + place, of k places of a slate.
    """
    place = places(rankings, events.ranking, events.item)
    key = events.ranking * rankings.slate.shape[1] + place
    there = among & (place >= 0)
    shown = np.unique(key[events.shown & there])
    return shown, np.intersect1d(shown, key[events.liked & there])


def taken_before(rankings: Rankings, events: Happened) -> tuple[Ints, Ints]:
    """Of every place of every ranking, how many events its item had had by then; and how many all items had had.

    Returns:
        [r, k], -1 where there is no place; [r].
    """
    took = np.flatnonzero((events.weight != 0) & (events.item >= 0))
    shown = rankings.slate >= 0
    row, _ = np.nonzero(shown)
    own, _ = before(events.item[took], events.logged[took], rankings.slate[shown], rankings.published[row])
    found = np.full(shown.shape, -1, np.int64)
    found[shown] = own
    return found, np.searchsorted(events.logged[took], rankings.published, side="left")


def surprise(own: Ints, everything: Ints, items: int) -> NDArray[np.float64]:
    """[r, k] bits of surprise of each place: -log2 of its item's share of the events before (Zhou et al. 2010), smoothed by
    1 for each of `items`; nan where there is no place. `own` and `everything` are those of `taken_before`."""
    return np.where(own >= 0, -np.log2((np.maximum(own, 0) + 1) / (everything + items)[:, None]), np.nan)
