"""An evaluation of rankings in; its plots out."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from upwell.evaluation import drawing
from upwell.evaluation.drawing import INK, MAIN, OTHER, Plot
from upwell.ranking.learner import STAGES

if TYPE_CHECKING:
    from upwell.evaluation.ranking import RankingEvaluation

OURS: Final = "Upwell"
STRETCHES: Final = 20
FEWEST: Final = 30
"""Targets below which a share is not drawn: it would be noise."""
DEEPEST: Final = 100


def plots(found: RankingEvaluation, shown: dict[str, Any]) -> list[Plot]:
    """Those for which there are figures.

    Args:
        shown: the figures, as `RankingEvaluation.as_dict` gives them.
    """
    made = [_peers(shown), _over_time(found, shown), _by_history(found, shown), _depth(found, shown), _ablation(shown)]
    return [*(plot for plot in made if plot is not None), *_new_items(shown)]


def best_peer(shown: dict[str, Any]) -> str | None:
    """Name of the measured peer with the most hits."""
    rates = {name: of.get("hr_at_10") for name, of in shown.get("peers", {}).items()}
    known = {name: rate for name, rate in rates.items() if rate is not None}
    return max(known, key=lambda name: known[name]) if known else None


def _peers(shown: dict[str, Any]) -> Plot | None:
    rates = {name: of["hr_at_10"] for name, of in shown.get("peers", {}).items() if of.get("hr_at_10") is not None}
    if not rates:
        return None
    rates = {OURS: shown["hr_at_10"], **rates}
    if (oracle := shown.get("oracle")) is not None:
        rates["oracle"] = oracle["hr_at_10"]
    return _bars("Ahead of whom", rates, "hit rate at 10")


def _new_items(shown: dict[str, Any]) -> list[Plot]:
    new = shown.get("new_items")
    if new is None or new.get("hr_at_10") is None:
        return []
    rates = {name: of["hr_at_10"] for name, of in new["peers"].items() if of["hr_at_10"] is not None}
    return [_bars("New items' first likings", {OURS: new["hr_at_10"], **rates}, "hit rate at 10")]


def _ablation(shown: dict[str, Any]) -> Plot | None:
    if not shown.get("ablation"):
        return None
    lost = {name: shown["hr_at_10"] - of["hr_at_10"] for name, of in shown["ablation"].items()}
    return _bars("What each scorer is worth", lost, "hit rate lost without it")


def _bars(title: str, rates: dict[str, float], label: str) -> Plot:
    figure, axes = drawing.axes()
    names = sorted(rates, key=lambda name: rates[name])
    figure.set_figheight(max(2.9, 0.9 + 0.24 * len(names)))
    colours = [MAIN if name == OURS or OURS not in rates else OTHER for name in names]
    bars = axes.barh([_name(name) for name in names], [rates[name] for name in names], color=colours, height=0.62)
    axes.bar_label(bars, [f"{rates[name]:.3f}" for name in names], padding=4, color=INK, fontsize=9)
    axes.margins(x=0.16)
    axes.set_xlabel(label)
    axes.grid(visible=False, axis="y")
    words = ", ".join(f"{_name(name)} {rates[name]:.3f}" for name in reversed(names))
    return Plot(title, words, drawing.svg(figure))


def _over_time(found: RankingEvaluation, shown: dict[str, Any]) -> Plot | None:
    stretch = np.arange(found.log.events) * STRETCHES // max(found.log.events, 1)
    return _lines(found, shown, stretch, STRETCHES, "Over time", "events", [
        f"{found.log.events * (n + 1) // STRETCHES:,}" if n % 5 == 4 else "" for n in range(STRETCHES)
    ])  # fmt: skip


def _by_history(found: RankingEvaluation, shown: dict[str, Any]) -> Plot | None:
    bounds = (0, *STAGES)
    ends = [f"{low}" if high == low + 1 else f"{low}-{high - 1}" for low, high in pairwise(bounds)]
    span = np.searchsorted(STAGES, found.replayed.history, side="right")
    names = [*ends, f"{bounds[-1]}+"]
    return _lines(found, shown, span, len(names), "By length of history", "events of the user before", names)


def _lines(
    found: RankingEvaluation, shown: dict[str, Any], group: NDArray[np.int64], groups: int, title: str, label: str,
    names: list[str],
) -> Plot | None:  # fmt: skip
    """Hit rates of groups of events, beside the best peer's."""
    own = _rates(found.replayed.rank, group, groups)
    if np.isfinite(own).sum() < 2:
        return None
    figure, axes = drawing.axes()
    at = np.arange(groups)
    axes.plot(at, own, color=MAIN, lw=2, marker="o", ms=4, label=OURS)
    if (peer := best_peer(shown)) is not None:
        axes.plot(
            at, _rates(found.peers[peer].rank, group, groups), color=OTHER, lw=2, marker="o", ms=4, label=_name(peer)
        )
    axes.set_xticks(at, names)
    axes.tick_params(axis="x", length=0)
    axes.set_xlabel(label)
    axes.set_ylim(0, None)
    drawing.legend(axes)
    known = np.flatnonzero(np.isfinite(own))
    words = f"Hit rate {own[known[0]]:.3f} at first, {own[known[-1]]:.3f} at last"
    return Plot(title, words, drawing.svg(figure))


def _rates(rank: NDArray[np.int64], group: NDArray[np.int64], groups: int) -> NDArray[np.float64]:
    """[groups] hit rate; not a number where there are few targets."""
    target = rank >= 0
    counts = np.bincount(group[target], minlength=groups)
    hits = np.bincount(group[target], rank[target] < 10, minlength=groups)
    return np.where(counts >= FEWEST, hits / np.maximum(counts, 1), np.nan)


def _depth(found: RankingEvaluation, shown: dict[str, Any]) -> Plot | None:
    if not shown["targets"]:
        return None
    figure, axes = drawing.axes()
    depth = np.arange(1, DEEPEST + 1)
    own = _within(found.replayed.rank)
    axes.plot(depth, own, color=MAIN, lw=2, label=OURS)
    if (peer := best_peer(shown)) is not None:
        axes.plot(depth, _within(found.peers[peer].rank), color=OTHER, lw=2, label=_name(peer))
    axes.set_xscale("log")
    axes.set_xticks([1, 3, 10, 30, 100], ["1", "3", "10", "30", "100"])
    axes.set_xlabel("places looked at")
    axes.set_ylim(0, None)
    drawing.legend(axes)
    words = f"The liked item is first in {own[0]:.1%} of the rankings, among the first {DEEPEST} in {own[-1]:.1%}"
    return Plot("How far down the liked item stands", words, drawing.svg(figure))


def _within(rank: NDArray[np.int64]) -> NDArray[np.float64]:
    """[DEEPEST] share of targets among the first 1, 2, … places."""
    counts = np.bincount(np.minimum(rank[rank >= 0], DEEPEST), minlength=DEEPEST + 1)
    found: NDArray[np.float64] = np.cumsum(counts)[:DEEPEST] / counts.sum()
    return found


def _name(key: str) -> str:
    return key.replace("_", " ")
