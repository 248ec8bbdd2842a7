"""Texts and pictures in, how likely each is unfit for publication out, from the two safety models on Triton."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from upwell.inference.client import text_column
from upwell.inference.errors import InferenceRejected
from upwell.inference.latest import LatestModel

BATCH_TEXTS: Final = 64
BATCH_PICTURES: Final = 8
"""The models' own `max_batch_size`."""
SIDE: Final = 224


@dataclass(frozen=True, slots=True)
class TextScore:
    """What the models say of one text."""

    probability: float
    """That it is profane, 0 to 1."""
    flag: bool
    """A word list knows one of its words."""


class TextSafety(LatestModel):
    """The served judge of texts."""

    MODEL, TIMEOUT_S = "text_safety", 5.0

    def judge(self, texts: Sequence[str]) -> list[TextScore]:
        """One score per text, in their order.

        Raises:
            InferenceUnavailable: the server does not answer.
        """
        scores: list[TextScore] = []
        for start in range(0, len(texts), BATCH_TEXTS):
            column = text_column(texts[start : start + BATCH_TEXTS])
            answer = self._infer({"TEXT": column}, ("PROBABILITY", "FLAG"))
            pairs = zip(answer["PROBABILITY"].reshape(-1), answer["FLAG"].reshape(-1), strict=True)
            scores += [TextScore(float(probability), bool(flag)) for probability, flag in pairs]
        return scores


class ImageSafety(LatestModel):
    """The served judge of pictures."""

    MODEL, TIMEOUT_S = "image_safety", 10.0

    def judge(self, pictures: npt.NDArray[np.uint8]) -> list[float]:
        """Probabilities that pictures are not safe for work.

        Args:
            pictures: uint8 [n, 224, 224, 3], RGB, as `upwell.content.safety.for_judging` makes them.

        Raises:
            InferenceUnavailable: the server does not answer.
            InferenceRejected: the shape is another one, or the model answered with a number that is none.
        """
        if pictures.shape[1:] != (SIDE, SIDE, 3) or pictures.dtype != np.uint8:
            raise InferenceRejected(f"uint8 [n, {SIDE}, {SIDE}, 3] expected, not {pictures.dtype} {pictures.shape}")
        scores: list[float] = []
        for start in range(0, len(pictures), BATCH_PICTURES):
            rows = np.ascontiguousarray(pictures[start : start + BATCH_PICTURES])
            answer = self._infer({"IMAGE": rows}, ("SCORE",))
            scores += [float(score) for score in answer["SCORE"].reshape(-1)]
        if not np.isfinite(scores).all():
            raise InferenceRejected("the judge of pictures answered with numbers that are not finite")
        return scores
