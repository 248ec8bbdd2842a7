"""Texts and pictures in, how likely each is unfit for publication out, from the two safety models on Triton."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from upwell.inference.client import ModelClient, text_column
from upwell.inference.errors import InferenceRejected

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


class TextSafety:
    """The served judge of texts.

    Args:
        url: Triton's gRPC address, host:port.
        timeout_s: deadline of one call.
        options: gRPC channel options.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str = "text_safety",
        timeout_s: float = 5.0,
        options: Mapping[str, str] | None = None,
        attempts: int = 2,
    ) -> None:
        self.client = ModelClient(url, model, timeout_s=timeout_s, options=options, attempts=attempts)
        self.model_version = ""
        """As of the latest answer."""

    def judge(self, texts: Sequence[str]) -> list[TextScore]:
        """One score per text, in their order.

        Raises:
            InferenceUnavailable: the server does not answer.
        """
        scores: list[TextScore] = []
        for start in range(0, len(texts), BATCH_TEXTS):
            column = text_column(texts[start : start + BATCH_TEXTS])
            answer = self.client.infer({"TEXT": column}, ("PROBABILITY", "FLAG", "VERSION"))
            self.model_version = answer["VERSION"].reshape(-1)[0].decode()
            pairs = zip(answer["PROBABILITY"].reshape(-1), answer["FLAG"].reshape(-1), strict=True)
            scores += [TextScore(float(probability), bool(flag)) for probability, flag in pairs]
        return scores

    def close(self) -> None:
        self.client.close()


class ImageSafety:
    """The served judge of pictures. Arguments as those of `TextSafety`."""

    def __init__(
        self,
        url: str,
        *,
        model: str = "image_safety",
        timeout_s: float = 10.0,
        options: Mapping[str, str] | None = None,
        attempts: int = 2,
    ) -> None:
        self.client = ModelClient(url, model, timeout_s=timeout_s, options=options, attempts=attempts)
        self.model_version = ""
        """As of the latest answer."""

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
            answer = self.client.infer({"IMAGE": rows}, ("SCORE", "VERSION"))
            self.model_version = answer["VERSION"].reshape(-1)[0].decode()
            scores += [float(score) for score in answer["SCORE"].reshape(-1)]
        if not np.isfinite(scores).all():
            raise InferenceRejected("the judge of pictures answered with numbers that are not finite")
        return scores

    def close(self) -> None:
        self.client.close()
