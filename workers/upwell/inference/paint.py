"""A picture and a style in, the restyled picture out, from the style transfer on Triton."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from upwell.inference.client import Array
from upwell.inference.latest import LatestModel

Pixels = npt.NDArray[np.uint8]

STYLES: Final = 26
"""Fixed styles of the served model."""


class Painter(LatestModel):
    """The served style transfer; `timeout_s` is the deadline of one picture."""

    MODEL, TIMEOUT_S = "style_transfer", 20.0

    def like(self, content: Pixels, style: Pixels, strength: float = 1.0) -> Pixels:
        """Restyle after another picture.

        Args:
            content: uint8 [h, w, 3], RGB, sides of 32 to 1,024 pixels.
            style: the picture whose style is taken, in the same bounds.
            strength: 0 (content's own style) to 1.

        Returns:
            uint8 [h, w, 3], RGB, of content's size.

        Raises:
            InferenceUnavailable: the server does not answer.
            InferenceRejected: a size or the strength is out of bounds.
        """
        return self._call(content, {"STYLE": style}, strength)

    def in_style(self, content: Pixels, style: int, strength: float = 1.0) -> Pixels:
        """Restyle in one of the fixed styles, 0 to 25. Otherwise as `like`."""
        if not 0 <= style < STYLES:
            raise ValueError(f"style {style}: 0 to {STYLES - 1} are known")
        return self._call(content, {"STYLE_WEIGHTS": np.eye(STYLES, dtype=np.float32)[style]}, strength)

    def _call(self, content: Pixels, style: Mapping[str, Array], strength: float) -> Pixels:
        inputs = {"CONTENT": content, **style, "STRENGTH": np.array([strength], dtype=np.float32)}
        answer = self._infer({name: np.ascontiguousarray(value) for name, value in inputs.items()}, ("IMAGE",))
        image: Pixels = answer["IMAGE"]
        return image
