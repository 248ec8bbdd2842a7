"""What a deployment showed, and what came of it, in; a log for off-policy evaluation, and its CSV file, out.

The judged policy is the deployment's own with another share of explored slates, 0 for none. Its probabilities follow from the
logged ones: an item has p = (1 - s) [own] + s m at its place, where s is the share and m the chance of being drawn there. What
is the slate's own has p >= 1 - s, anything else p <= s, so that below s = 1/2 a propensity tells m and which of both it is.
A place with propensity 1 is no chance: the judged policy shows the same there. So it is with new items that are owed a place.

A reward is 1 where the user's first liking of an item is judged by this ranking (`served_joins.seen`), and 0 otherwise. The
prediction of a reward is its place's mean, whatever item stands there: it says nothing of items, and takes variance away.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

import numpy as np

from upwell.evaluation import served_joins
from upwell.evaluation.datasets import DatasetError
from upwell.evaluation.off_policy import Floats, Ints, Log
from upwell.evaluation.served_log import Served

ROUNDING: Final = 1e-9


def policy_log(served: Served, share: float, judged: float) -> Log:
    """Every place of every ranking of the stretch that holds something.

    Args:
        share: of explored slates, as the rankings were published with.
        judged: share of the judged policy.

    Returns:
        Slates as `shown` has them, clustered by user.

    Raises:
        DatasetError: no ranking has an item, or propensities are of another share.
    """
    own = shown(served)
    if not len(own):
        raise DatasetError("no ranking in this stretch holds an item")
    rankings = served.rankings
    slate, position = np.nonzero(rankings.slate[own] >= 0)
    propensity = rankings.propensity[own[slate], position]
    reward = _rewards(served)[own[slate], position]
    mean = np.bincount(position, reward) / np.bincount(position)
    return Log(
        slate, position, reward, propensity, shifted(propensity, share, judged), mean[position], mean[position],
        rankings.user[own],
    )  # fmt: skip


def shown(served: Served) -> Ints:
    """[n] rankings of the stretch that hold something."""
    rankings = served.rankings
    found: Ints = rankings.earlier + np.flatnonzero((rankings.slate[rankings.earlier :] >= 0).any(axis=1))
    return found


def shifted(propensity: Floats, share: float, judged: float) -> Floats:
    """[m] probabilities of the same under another share of explored slates.

    Args:
        propensity: [m] within (0, 1], under `share` < 1/2.

    Raises:
        DatasetError: some of them are not of this share.
    """
    drawn = propensity < 1
    own = propensity >= 1 - share - ROUNDING
    if wrong := int((drawn & ~own & (propensity > share + ROUNDING)).sum()):
        raise DatasetError(
            f"{wrong:,} propensities cannot be of exploration.share = {share:g}: the rankings were published with another one. "
            "Give that one with --set, or a stretch (--hours) in which it did not change"
        )
    chance = np.where(own, propensity - (1 - share), propensity) / share if share else np.ones_like(propensity)
    found: Floats = np.where(drawn, (1 - judged) * own + judged * np.clip(chance, 0, 1), 1.0)
    return found


def write(served: Served, log: Log, path: Path) -> None:
    """The same as a file that `read_log` reads, with the items that stand on the places."""
    own, rankings = shown(served).tolist(), served.rankings
    columns = [log.propensity, log.target, log.reward, log.predicted, log.expected]
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["slate", "user", "position", "item", "propensity", "target", "reward", "predicted", "expected"])
        for number, place, *values in zip(
            log.slate.tolist(), log.position.tolist(), *(column.tolist() for column in columns if column is not None),
            strict=True,
        ):  # fmt: skip
            at = own[number]
            rows.writerow([number, rankings.user[at], place, served.items[rankings.slate[at, place]], *values])


def _rewards(served: Served) -> Floats:
    """[r, k] 1 where the item of a place was liked by its ranking."""
    events, rankings = served.events, served.rankings
    found = np.zeros(rankings.slate.shape)
    ranking = served_joins.seen(rankings, events)
    place = served_joins.places(rankings, ranking, events.item)
    liked = events.liked & served_joins.news(events) & (place >= 0)
    found[ranking[liked], place[liked]] = 1.0
    return found
