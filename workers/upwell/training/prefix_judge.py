"""A generator with its mapper, and held-out texts with their vectors, in; how often the right text is found out."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from upwell.content.prompt import SHOWN_PROMPT
from upwell.training.prefix import Shown

AMONG: Final = 10


def found_among(generator: Any, held_out: Sequence[Shown], *, vectors: bool = True, seed: int = 0) -> dict[str, float]:
    """How often the right text is the likeliest of ten, given its vectors; with `vectors` False, given nothing.

    Args:
        generator: `generator.Generator` of the served model's folder.
        held_out: what the mapper has never seen; the nine others are drawn from it.

    Returns:
        likelihood: share where log p(text | vectors) is highest; gain: where it rose most over log p(text), which does not
        favour texts that are likely anyway; error: standard error of `likelihood` over items; chance: of a guess.
    """
    rng = random.Random(seed)
    texts = sorted({shown.text for shown in held_out})
    plain = dict(zip(texts, _scores(generator, [generator.row(SHOWN_PROMPT)] * len(texts), texts), strict=True))
    best: dict[str, list[bool]] = {"likelihood": [], "gain": []}
    for shown in held_out:
        wrong = [text for text in texts if text != shown.text]
        asked = [shown.text, *rng.sample(wrong, AMONG - 1)]
        row = generator.row(SHOWN_PROMPT, item=shown.item, user=shown.user) if vectors else None
        scores = _scores(generator, [row] * len(asked), asked) if row else [plain[text] for text in asked]
        best["likelihood"].append(_first(scores))
        best["gain"].append(_first([score - plain[text] for score, text in zip(scores, asked, strict=True)]))
    rates = {name: round(float(np.mean(shares)), 4) for name, shares in best.items()}
    error = float(np.std(best["likelihood"])) / math.sqrt(max(1, len(held_out)))
    return rates | {"error": round(error, 4), "chance": 1 / AMONG}


def _first(scores: Sequence[float]) -> bool:
    return scores[0] > max(scores[1:])


def _scores(generator: Any, rows: Sequence[Any], texts: Sequence[str]) -> list[float]:
    found: list[float] = []
    for start in range(0, len(rows), AMONG):
        found += generator.likelihood(rows[start : start + AMONG], texts[start : start + AMONG])[0]
    return found
