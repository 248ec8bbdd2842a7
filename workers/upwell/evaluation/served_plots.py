"""An evaluation of what was served in; its plots out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from upwell.evaluation import drawing
from upwell.evaluation.drawing import INK, MAIN, OTHER, Plot

if TYPE_CHECKING:
    from upwell.evaluation.served import ServedEvaluation


def plots(found: ServedEvaluation) -> list[Plot]:
    """Those for which there are figures."""
    made = [_over_time(found), _positions(found), _popularity(found), _groups(found), _reasons(found)]
    return [plot for plot in made if plot is not None]


def _over_time(found: ServedEvaluation) -> Plot | None:
    if len(found.periods) < 2:
        return None
    figure, axes = drawing.axes()
    at = [datetime.fromtimestamp(period.since / 1000, UTC) for period in found.periods]
    hr = [period.hr for period in found.periods]
    axes.fill_between(at, [p.low for p in found.periods], [p.high for p in found.periods], color=MAIN, alpha=0.18, lw=0)
    axes.plot(at, hr, color=MAIN, lw=2, label="hit rate, 95% interval")
    axes.plot(at, [period.ndcg for period in found.periods], color=OTHER, lw=2, label="NDCG")
    for time, _ in found.drift.moves:
        axes.axvline(datetime.fromtimestamp(time / 1000, UTC), color=INK, lw=1.5, ls=":")
    axes.set_ylim(0, None)
    _time(axes)
    drawing.legend(axes)
    words = f"From {hr[0]:.3f} in the first {found.periods[0].targets} likings to {hr[-1]:.3f} in the last ones"
    if found.drift.moves:
        words += f"; dotted: a move was noticed ({len(found.drift.moves)} in all)"
    return Plot("Hit rate and NDCG over time", words, drawing.svg(figure))


def _positions(found: ServedEvaluation) -> Plot | None:
    width = found.served.rankings.slate.shape[1]
    position = np.arange(1, width + 1)
    figure, axes = drawing.axes()
    if found.clicks is not None:
        rate = [taken / shown if shown else 0.0 for shown, taken in found.clicks]
        axes.bar(position, rate, color=MAIN, width=0.7)
        title, words = "Taken where it was shown", "Share of impressions at a position that were taken there"
    elif (found.hits >= 0).any():
        rate = (np.bincount(found.hits[found.hits >= 0], minlength=width) / len(found.hits)).tolist()
        axes.bar(position, rate, color=MAIN, width=0.7)
        title, words = "Where the next liked item stood", "Share of likings whose item stood at this position before"
    else:
        return None
    axes.set_xlabel("position")
    axes.set_xticks(position)
    _percent(axes.yaxis)
    axes.grid(visible=False, axis="x")
    return Plot(title, f"{words}: first {rate[0]:.1%}, last {rate[-1]:.1%}", drawing.svg(figure))


def _popularity(found: ServedEvaluation) -> Plot | None:
    shares = found.by_popularity
    if shares is None:
        return None
    figure, axes = drawing.axes()
    at = np.arange(len(shares.names))
    taken = np.divide(
        shares.exposure, shares.per_consumption, out=np.zeros(len(at)), where=np.nan_to_num(shares.per_consumption) > 0
    )
    axes.bar(at - 0.2, shares.exposure, width=0.38, color=MAIN, label="exposure")
    axes.bar(at + 0.2, taken, width=0.38, color=OTHER, label="likings")
    axes.set_xticks(at, shares.names)
    axes.set_xlabel("tenth of the items, least popular first")
    _percent(axes.yaxis)
    axes.grid(visible=False, axis="x")
    drawing.legend(axes)
    words = f"The most popular tenth gets {shares.exposure[-1]:.0%} of the exposure and {taken[-1]:.0%} of the likings"
    return Plot("Exposure by popularity", words, drawing.svg(figure))


def _groups(found: ServedEvaluation) -> Plot | None:
    rows = [group for group in found.groups if np.isfinite(group.quality.low)][:12]
    if len(rows) < 2:
        return None
    figure, axes = drawing.axes()
    figure.set_figheight(max(2.9, 0.9 + 0.22 * len(rows)))
    for at, group in enumerate(reversed(rows)):
        own = group.quality
        colour = OTHER if own.worse else MAIN
        axes.plot([max(own.low, 0), own.high], [at, at], color=colour, lw=2)
        axes.plot([own.mean], [at], "o", color=colour, ms=5)
    axes.set_yticks(range(len(rows)), [group.name[:26] for group in reversed(rows)])
    axes.axvline(found.hr, color=INK, lw=1, ls=":")
    axes.set_xlabel("hit rate, interval for all groups together")
    worse = [group.name for group in rows if group.quality.worse]
    return Plot("Groups of users", f"Worse than the others: {', '.join(worse) or 'none'}", drawing.svg(figure))


def _reasons(found: ServedEvaluation) -> Plot | None:
    reasons = found.served.reasons
    if not reasons:
        return None
    figure, axes = drawing.axes()
    total = reasons.total()
    kinds = reasons.most_common()[::-1]
    bars = axes.barh([kind for kind, _ in kinds], [part / total for _, part in kinds], color=MAIN, height=0.62)
    axes.bar_label(bars, [f"{part / total:.0%}" for _, part in kinds], padding=4, color=INK, fontsize=9)
    axes.margins(x=0.14)
    _percent(axes.xaxis)
    axes.grid(visible=False, axis="y")
    words = ", ".join(f"{kind} {part / total:.0%}" for kind, part in kinds[::-1])
    return Plot("What scores are made of", words, drawing.svg(figure))


def _percent(axis: Any) -> None:
    axis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")


def _time(axes: Any) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
