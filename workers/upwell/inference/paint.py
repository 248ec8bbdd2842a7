"""A picture and a style in, the restyled picture out, from the style transfer on Triton."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from upwell.inference.client import Array, ModelClient

Pixels = npt.NDArray[np.uint8]

STYLES: Final = 26
"""Fixed styles of the served model."""


class Painter:
    """The served style transfer.

    Args:
        url: Triton's gRPC address, host:port.
        timeout_s: deadline of one picture.
        options: gRPC channel options.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str = "style_transfer",
        timeout_s: float = 20.0,
        options: Mapping[str, str] | None = None,
        attempts: int = 2,
    ) -> None:
        self.client = ModelClient(url, model, timeout_s=timeout_s, options=options, attempts=attempts)
        self.model_version = ""
        """`name@hash` of the weights, as of the latest answer."""

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
        answer = self.client.infer(
            {name: np.ascontiguousarray(value) for name, value in inputs.items()}, ("IMAGE", "VERSION")
        )
        self.model_version = answer["VERSION"].reshape(-1)[0].decode()
        image: Pixels = answer["IMAGE"]
        return image

    def close(self) -> None:
        self.client.close()
