"""Variants of an experiment compared by what their users did: arrays in, JSON-able figures out. Pure.

Each user is watched for a time after the first ranking under a variant, and counts once that time is over: what still grows
is no outcome, and who came first is not compared with who came last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from upwell.evaluation import experiment, served_joins
from upwell.evaluation.experiment import Outcomes
from upwell.evaluation.served_log import Ints, Served

if TYPE_CHECKING:
    from upwell.evaluation.served import Plan

LIKINGS: Final = "likings from the slates a user"
"""What decides."""


def compare(
    served: Served, plan: Plan, judged: NDArray[np.bool_], place: Ints, notes: list[str]
) -> dict[str, Any] | None:
    """Every variant against the control, by likings from the slates, by hit rate, and by click-through.

    Args:
        judged: [e] likings of something new by users who had a ranking before.
        place: [e] where their items stand on that ranking; -1 for nowhere.
        notes: what is left out is added.

    Returns:
        The figures of likings, which decide, at the top; None where rankings have fewer than two variants.
    """
    rankings, events, users = served.rankings, served.events, served.users
    names = _names(served, plan)
    if len(names) < 2:
        return None
    number = np.array([names.index(name) if name in names else -1 for name in served.variants])
    inside = np.flatnonzero(rankings.variant >= 0)
    inside = inside[number[rankings.variant[inside]] >= 0]
    user, variant = rankings.user[inside], number[rankings.variant[inside]]
    least, most = np.full(users, len(names)), np.full(users, -1)
    begun = np.full(users, np.iinfo(np.int64).max)
    np.minimum.at(least, user, variant)
    np.maximum.at(most, user, variant)
    np.minimum.at(begun, user, rankings.published[inside])
    own = np.where(least == most, most, -1)
    end, window = int(events.logged.max(initial=0)), int(plan.window_s * 1000)
    finished = (own >= 0) & (begun <= end - window)
    if moved := int(((most >= 0) & (own < 0)).sum()):
        notes.append(f"{moved} users changed their variant and are left out")
    if unfinished := int(((own >= 0) & ~finished).sum()):
        notes.append(f"{unfinished} users had their first ranking under a variant less than {plan.window_s:g} s ago")
    if others := sorted(set(served.variants) - set(names)):
        notes.append(f"rankings of variants that the settings do not name are left out: {', '.join(others)}")

    since = begun[events.user]
    watched = finished[events.user] & (events.logged >= since)
    watched[watched] = (events.logged - since)[watched] < window
    of = [finished & (own == n) for n in range(len(names))]

    def each(counted: NDArray[np.bool_]) -> NDArray[np.float64]:
        """[users] events of each."""
        return np.bincount(events.user[counted & watched], minlength=users).astype(np.float64)

    hits, targets = each(judged & (place >= 0)), each(judged)
    shown, taken = _clicks(served, watched)
    measured = {"hit_rate": (hits, targets)} | ({"click_through": (taken, shown)} if shown.any() else {})
    found = experiment.report(names, [Outcomes.of(hits[mine]) for mine in of], plan.planned)
    rates = {
        name: experiment.report(names, [Outcomes.of_rate(part[mine], whole[mine]) for mine in of], plan.planned)
        for name, (part, whole) in measured.items()
    }
    counts = [int((own == n).sum()) for n in range(len(names))]
    sharing = experiment.sharing(names, counts, [plan.shares[name] for name in names]) if plan.shares else None
    believed = sharing is None or sharing["as_planned"]
    said = experiment.words(found, LIKINGS) if believed else ["users were not shared out as planned: no figure counts"]
    return found | {
        "window_s": plan.window_s,
        "decided": believed and all(one["verdict"] != "open" for one in found["variants"]),
        "in_words": said,
        "hit_rate": rates["hit_rate"],
        "click_through": rates.get("click_through"),
        "sharing": sharing,
    }


def _names(served: Served, plan: Plan) -> list[str]:
    """Variants of the settings, the control first, where anybody had one of them; without settings all that there are, by
    name."""
    if plan.shares:
        return list(plan.shares) if set(plan.shares) & set(served.variants) else []
    return sorted(served.variants)


def _clicks(served: Served, watched: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """[users] places that each was shown, and those of them taken, by events that name the ranking."""
    rankings = served.rankings
    shown, taken = (
        np.bincount(rankings.user[places // rankings.slate.shape[1]], minlength=served.users).astype(np.float64)
        for places in served_joins.clicks(rankings, served.events, watched)
    )
    return shown, taken


def tables(found: dict[str, Any]) -> list[tuple[str, list[tuple[str, ...]]]]:
    """What is measured, and rows of text about it, of all that was."""
    measures = ((LIKINGS, found), ("hit rate", found["hit_rate"]), ("click-through", found["click_through"]))
    return [(title, experiment.table(each)) for title, each in measures if each is not None]
