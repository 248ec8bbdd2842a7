"""An evaluation in; its plots as SVG without colours of their own for text and ground out, so that they suit a light and a
dark page alike."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from upwell.events.hashing import key64

if TYPE_CHECKING:
    from upwell.evaluation.content import Evaluation

INK: Final = "#123456"
"""Stands for the page's own ink until the SVG is written."""
MAIN: Final = "#2f7f79"
OTHER: Final = "#d0803a"
BARS: Final = 16


@dataclass(frozen=True, slots=True)
class Plot:
    title: str
    summary: str
    """What it shows, in words: for those who do not see it."""
    svg: str


def plots(found: Evaluation) -> list[Plot]:
    """Those for which there are figures."""
    made = [_outcomes(found), _sources(found), _cosines(found), _safety(found), _speech(found)]
    return [plot for plot in made if plot is not None]


def _outcomes(found: Evaluation) -> Plot | None:
    counts = sorted(found.sample.outcomes.items(), key=lambda pair: pair[1])
    if not counts:
        return None
    names, values = [name.replace("_", " ") for name, _ in counts], [count for _, count in counts]
    figure, axes = _axes()
    bars = axes.barh(names, values, color=[MAIN if name == "generated" else OTHER for name in names], height=0.62)
    axes.bar_label(bars, [f"{value:,}" for value in values], padding=4, color=INK, fontsize=9)
    axes.set_xlabel("occasions")
    axes.margins(x=0.14)
    axes.grid(visible=False, axis="y")
    words = ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))
    return Plot("How occasions ended", words, _svg(figure))


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
    figure, axes = _axes()
    bottom = np.zeros(len(formats))
    for (source, values), colour in zip(counts.items(), (MAIN, OTHER), strict=True):
        bars = axes.bar(formats, values, bottom=bottom, label=source, color=colour, width=0.55)
        axes.bar_label(bars, [str(v) if v else "" for v in values], label_type="center", color="white", fontsize=9)
        bottom += values
    axes.set_ylabel("contents")
    axes.set_xlim(-0.6, max(1.6, len(formats) - 0.4))
    axes.grid(visible=False, axis="x")
    _legend(axes)
    words = "; ".join(
        f"{f}: {counts['model'][n]} by the model, {counts['template'][n]} from a template"
        for n, f in enumerate(formats)
    )
    return Plot("Formats, by source", words, _svg(figure))


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
    figure, axes = _axes()
    words = []
    for values, name, colour in ((profane, "texts: profane", MAIN), (nsfw, "posters: not safe for work", OTHER)):
        if len(values):
            axes.plot(np.sort(values), np.arange(1, len(values) + 1) / len(values), label=name, color=colour, lw=2)
            words.append(f"{name}: nine of ten below {np.quantile(values, 0.9):.2f}, largest {values.max():.2f}")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("probability")
    axes.set_ylabel("share of contents below")
    _legend(axes)
    return Plot("What the judges say", "; ".join(words), _svg(figure))


def _speech(found: Evaluation) -> Plot | None:
    rates = np.array([row["wer"] for row in found.seen.details.values() if "wer" in row])
    if not len(rates):
        return None
    figure, axes = _axes()
    axes.hist(rates, bins=list(np.linspace(0, max(1.0, float(rates.max())), BARS + 1)), color=MAIN)
    axes.set_xlabel("word error rate of a recording")
    axes.set_ylabel("recordings")
    words = f"{int((rates == 0).sum())} of {len(rates)} recordings without an error, median {np.median(rates):.0%}"
    return Plot("Speech, read back", words, _svg(figure))


def _two(title: str, label: str, one: tuple[Any, str], other: tuple[Any, str], words: str) -> Plot:
    figure, axes = _axes()
    low, high = (float(f([f(one[0]), f(other[0])])) for f in (np.min, np.max))
    bins: Sequence[float] = list(np.linspace(low, high + 1e-9, BARS + 1))
    for (values, name), colour in ((other, OTHER), (one, MAIN)):
        axes.hist(values, bins=bins, label=name, color=colour, alpha=0.75)
    axes.set_xlabel(label)
    axes.set_ylabel("texts")
    _legend(axes)
    return Plot(title, words, _svg(figure))


def _axes() -> tuple[Any, Any]:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 2.9), layout="constrained")
    FigureCanvasSVG(figure)
    axes: Any = figure.add_subplot()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(INK)
    axes.tick_params(colors=INK, labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.grid(alpha=0.18, color=INK)
    axes.set_axisbelow(True)
    return figure, axes


def _legend(axes: Any) -> None:
    """Above the plot, where it covers nothing."""
    axes.figure.legend(loc="outside upper left", frameon=False, labelcolor=INK, fontsize=9, ncols=2)


def _svg(figure: Any) -> str:
    """The figure as an SVG element: text as text, in the page's font and ink, on no ground."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "upwell"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Ids are unique in a page, and several plots are on this one.
    mark = f"p{key64(svg):x}-"
    svg = re.sub(r'\bid="', f'id="{mark}', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{mark}", svg)
    svg = re.sub(r"font: ([^;\"]*?)'[^\"]*?(?=[;\"])", r"font: \1sans-serif", svg)
    return re.sub(r"<svg ", '<svg aria-hidden="true" ', svg, count=1)
