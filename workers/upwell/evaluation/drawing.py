"""Plots as SVG without colours of their own for text and ground, so that they suit a light and a dark page alike."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Any, Final

from upwell.events.hashing import key64

INK: Final = "#123456"
"""Stands for the page's own ink until the SVG is written."""
MAIN: Final = "#2f7f79"
OTHER: Final = "#d0803a"


@dataclass(frozen=True, slots=True)
class Plot:
    title: str
    summary: str
    """What it shows, in words: for those who do not see it."""
    svg: str


def axes() -> tuple[Any, Any]:
    """An empty figure and its axes."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 2.9), layout="constrained")
    FigureCanvasSVG(figure)
    drawn: Any = figure.add_subplot()
    for side in ("top", "right"):
        drawn.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        drawn.spines[side].set_color(INK)
    drawn.tick_params(colors=INK, labelsize=9)
    drawn.xaxis.label.set_color(INK)
    drawn.yaxis.label.set_color(INK)
    drawn.grid(alpha=0.18, color=INK)
    drawn.set_axisbelow(True)
    return figure, drawn


def legend(drawn: Any) -> None:
    """Above the plot, where it covers nothing."""
    drawn.figure.legend(loc="outside upper left", frameon=False, labelcolor=INK, fontsize=9, ncols=2)


def svg(figure: Any) -> str:
    """The figure as an SVG element: text as text, in the page's font and ink, on no ground."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "upwell"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Ids are unique in a page, and several plots are on this one.
    mark = f"p{key64(text):x}-"
    text = re.sub(r'\bid="', f'id="{mark}', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{mark}", text)
    text = re.sub(r"font: ([^;\"]*?)'[^\"]*?(?=[;\"])", r"font: \1sans-serif", text)
    return re.sub(r"<svg ", '<svg aria-hidden="true" ', text, count=1)
