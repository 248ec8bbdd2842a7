"""An evaluation of contents in, one HTML file out: every measure with its meaning, plots, and a gallery to look at and
listen to."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from upwell.content.safety import PASSED
from upwell.evaluation import content_plots as plots
from upwell.evaluation import page
from upwell.evaluation.content import Evaluation
from upwell.evaluation.content_measures import Measure
from upwell.evaluation.content_sample import Piece

FORMATS: Final = ("poster", "clip", "speech", "text")
MOST_BYTES: Final = 24 * 2**20
"""Media embedded in one report, bytes; what comes after is shown without them, and says so."""
PICTURE_SIDE: Final = 320
"""Pixels of an item's picture beside its poster."""


@dataclass(frozen=True, slots=True)
class Card:
    """One content in the gallery."""

    piece: Piece
    media: str
    """Data URI; empty where there is none."""
    left_out: bool
    picture: str
    facts: list[tuple[str, str]]
    findings: list[str]
    safety: str
    figures: list[tuple[str, str]]


def write(found: Evaluation, path: Path, gallery: int = 8) -> None:
    """Write the report.

    Args:
        path: of the HTML file; its folder is made.
        gallery: contents of each format to show, drawn by the evaluation's seed: unpicked.
    """
    measures = list(found.measures.values())
    groups = [(name, list(rows)) for name, rows in groupby(measures, key=lambda measure: measure.about.group)]
    page.write(
        "content_report.html",
        path,
        "upwell evaluate content --report",
        found=found,
        data=found.as_dict(),
        notes=found.notes,
        headlines=[found.measures[key] for key in _HEADLINES if key in found.measures],
        groups=groups,
        shown=shown,
        figures=plots.plots(found),
        galleries=[(name, cards) for name, cards in _galleries(found, gallery) if cards],
        compared=_compared(found),
        unsupported=[piece for piece in found.sample.pieces if found.findings.get(piece.content.content_id)],
    )


_HEADLINES: Final = (
    "faithful",
    "closer_to_own",
    "triggers_ended_by_model",
    "right_user_of_ten",
    "speech_wer",
    "model_texts",
)


def shown(measure: Measure) -> tuple[str, str]:
    """A measure's value and interval for people."""
    if measure.value is None:
        return "not measured", ""
    form = measure.about.form
    if form == "share":
        value = f"{measure.value:.1%}"
        interval = f"{measure.low:.1%} to {measure.high:.1%}" if measure.low is not None else ""
        return value, interval
    if form == "count":
        return f"{measure.value:,.0f}", ""
    return (f"{measure.value:.1f} dB" if form == "dB" else f"{measure.value:.3g}"), ""


def _compared(found: Evaluation) -> list[tuple[str, str, list[Any]]]:
    """Groups of users by what they are grouped by and by rate; the alarms first."""
    key = lambda group: (group.kind, group.rate)  # noqa: E731
    rows = sorted(found.groups, key=key)
    tables = [(kind, rate, list(each)) for (kind, rate), each in groupby(rows, key=key)]
    return sorted(tables, key=lambda table: not any(group.alarm for group in table[2]))


def _galleries(found: Evaluation, count: int) -> list[tuple[str, list[Card]]]:
    rng = np.random.default_rng(found.plan.seed)
    left = MOST_BYTES
    galleries = []
    for name in FORMATS:
        pieces = [p for p in found.sample.pieces if p.content.format == name]
        if name != "text":
            pieces = [p for p in pieces if p.content.content_id in found.seen.data]
        chosen = [pieces[n] for n in sorted(rng.permutation(len(pieces))[:count])]
        cards = []
        for piece in chosen:
            data = found.seen.data.get(piece.content.content_id, b"")
            fits = len(data) <= left
            left -= len(data) if fits else 0
            cards.append(_card(found, piece, data if fits else b"", left_out=not fits))
        galleries.append((name, cards))
    return galleries


def _card(found: Evaluation, piece: Piece, data: bytes, *, left_out: bool) -> Card:
    content = piece.content
    picture = found.seen.pictures.get(content.item_ids[0])
    facts = [("year", str(piece.facts.year))] if piece.facts.year is not None else []
    facts += [("categories", ", ".join(piece.facts.categories))] if piece.facts.categories else []
    for key, value in piece.facts.attributes.items():
        facts.append((key.replace("_", " "), value if isinstance(value, str) else ", ".join(value)))
    if piece.facts.description:
        facts.append(("description", piece.facts.description))
    details = found.seen.details.get(content.content_id, {})
    figures = []
    if content.content_id in found.scores:
        figures.append(("profanity", f"{found.scores[content.content_id]:.2f}"))
    if "nsfw" in details:
        figures.append(("not safe for work", f"{details['nsfw']:.2f}"))
    if "ssim" in details:
        figures.append(("SSIM", f"{details['ssim']:.2f}"))
    if "wer" in details:
        figures += [("word error rate", f"{details['wer']:.0%}"), ("heard", f"“{details['heard']}”")]
    again = found.verdicts.get(content.content_id, "")
    safety = content.safety if again in {"", PASSED} else f"{content.safety}; judged again: {again}"
    return Card(
        piece, _uri(data, content.mime or "application/octet-stream") if data else "", left_out,
        _uri(_small(picture), "image/webp") if picture is not None else "", facts,
        found.findings.get(content.content_id, []), safety, figures,
    )  # fmt: skip


def _uri(data: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def _small(picture: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    image = Image.fromarray(picture)
    image.thumbnail((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=82)
    return buffer.getvalue()
