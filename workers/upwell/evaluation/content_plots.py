"""An evaluation of contents in; its plots out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from upwell.evaluation import drawing
from upwell.evaluation.drawing import INK, MAIN, OTHER, Plot

if TYPE_CHECKING:
    from upwell.evaluation.content import Evaluation

BARS: Final = 16


def plots(found: Evaluation) -> list[Plot]:
    """Those for which there are figures."""
    made = [_outcomes(found), _sources(found), _cosines(found), _safety(found), _speech(found)]
    return [plot for plot in made if plot is not None]


def _outcomes(found: Evaluation) -> Plot | None:
    counts = sorted(found.sample.outcomes.items(), key=lambda pair: pair[1])
    if not counts:
        return None
    names, values = [name.replace("_", " ") for name, _ in counts], [count for _, count in counts]
    figure, axes = drawing.axes()
    bars = axes.barh(names, values, color=[MAIN if name == "generated" else OTHER for name in names], height=0.62)
    axes.bar_label(bars, [f"{value:,}" for value in values], padding=4, color=INK, fontsize=9)
    axes.set_xlabel("occasions")
    axes.margins(x=0.14)
    axes.grid(visible=False, axis="y")
    words = ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))
    return Plot("How occasions ended", words, drawing.svg(figure))


def _sources(found: Evaluation) -> Plot | None:
    formats = [
        f for f in ("text", "poster", "speech", "clip") if any(p.content.format == f for p in found.sample.pieces)
    ]
    if not formats:
        return None
    counts = {
        source: [
            sum(p.content.format == f and p.content.source == source for p in found.sample.pieces) for f in formats
        ]
        for source in ("model", "template")
    }
    figure, axes = drawing.axes()
    bottom = np.zeros(len(formats))
    for (source, values), colour in zip(counts.items(), (MAIN, OTHER), strict=True):
        bars = axes.bar(formats, values, bottom=bottom, label=source, color=colour, width=0.55)
        axes.bar_label(bars, [str(v) if v else "" for v in values], label_type="center", color="white", fontsize=9)
        bottom += values
    axes.set_ylabel("contents")
    axes.set_xlim(-0.6, max(1.6, len(formats) - 0.4))
    axes.grid(visible=False, axis="x")
    drawing.legend(axes)
    words = "; ".join(
        f"{f}: {counts['model'][n]} by the model, {counts['template'][n]} from a template"
        for n, f in enumerate(formats)
    )
    return Plot("Formats, by source", words, drawing.svg(figure))


def _cosines(found: Evaluation) -> Plot | None:
    if not found.cosines:
        return None
    own, others = (np.array(column) for column in zip(*found.cosines, strict=True))
    title = "Texts and profiles"
    return _two(
        title, "cosine of text and profile", (own, "own user"), (others, "other users, mean"),
        f"Mean cosine with the own user's profile {own.mean():.2f}, with others' {others.mean():.2f}",
    )  # fmt: skip


def _safety(found: Evaluation) -> Plot | None:
    profane = np.array(list(found.scores.values()))
    nsfw = np.array([row["nsfw"] for row in found.seen.details.values() if "nsfw" in row])
    if not len(profane) and not len(nsfw):
        return None
    figure, axes = drawing.axes()
    words = []
    for values, name, colour in ((profane, "texts: profane", MAIN), (nsfw, "posters: not safe for work", OTHER)):
        if len(values):
            axes.plot(np.sort(values), np.arange(1, len(values) + 1) / len(values), label=name, color=colour, lw=2)
            words.append(f"{name}: nine of ten below {np.quantile(values, 0.9):.2f}, largest {values.max():.2f}")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("probability")
    axes.set_ylabel("share of contents below")
    drawing.legend(axes)
    return Plot("What the judges say", "; ".join(words), drawing.svg(figure))


def _speech(found: Evaluation) -> Plot | None:
    rates = np.array([row["wer"] for row in found.seen.details.values() if "wer" in row])
    if not len(rates):
        return None
    figure, axes = drawing.axes()
    axes.hist(rates, bins=list(np.linspace(0, max(1.0, float(rates.max())), BARS + 1)), color=MAIN)
    axes.set_xlabel("word error rate of a recording")
    axes.set_ylabel("recordings")
    words = f"{int((rates == 0).sum())} of {len(rates)} recordings without an error, median {np.median(rates):.0%}"
    return Plot("Speech, read back", words, drawing.svg(figure))


def _two(title: str, label: str, one: tuple[Any, str], other: tuple[Any, str], words: str) -> Plot:
    figure, axes = drawing.axes()
    low, high = (float(f([f(one[0]), f(other[0])])) for f in (np.min, np.max))
    bins: Sequence[float] = list(np.linspace(low, high + 1e-9, BARS + 1))
    for (values, name), colour in ((other, OTHER), (one, MAIN)):
        axes.hist(values, bins=bins, label=name, color=colour, alpha=0.75)
    axes.set_xlabel(label)
    axes.set_ylabel("texts")
    drawing.legend(axes)
    return Plot(title, words, drawing.svg(figure))
