"""Conditions and seeds in, pictures out, from the VAE or the GAN on Triton."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from upwell.inference.client import ModelClient, text_column

BATCH: Final = 16
"""Pictures of a call: 3.5 MB with the large ones."""


@dataclass(frozen=True, slots=True)
class Painted:
    """n pictures, in the conditions' order."""

    images: npt.NDArray[np.uint8]
    """[n, 64, 64, 3], RGB; [n, 256, 256, 3] where large ones were asked for."""
    version: str
    """`name@hash` of the generator that painted them."""


class ImageGenerator:
    """The served picture generators.

    Args:
        url: Triton's gRPC address, host:port.
        timeout_s: deadline of one call of up to 16 pictures.
        options: gRPC channel options.
        in_flight: concurrent calls.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str = "image_generator",
        timeout_s: float = 10.0,
        options: Mapping[str, str] | None = None,
        in_flight: int = 2,
    ) -> None:
        self.client = ModelClient(url, model, timeout_s=timeout_s, options=options, in_flight=in_flight)

    def paint(
        self,
        conditions: npt.NDArray[np.float32],
        seeds: Sequence[int],
        kind: Literal["vae", "gan"] = "gan",
        *,
        large: bool = False,
    ) -> Painted:
        """One picture per condition: the same condition and seed give the same picture.

        Args:
            conditions: float32 [n, d], n > 0, as the generator was trained on.
            seeds: n numbers of 0 to 2**63 - 1.
            large: four times the size, enlarged where they are made.

        Raises:
            InferenceUnavailable: the server does not answer, or the model is not loaded.
            InferenceRejected: d is not the generator's, a number is not finite, or this kind has not been trained.
            ValueError: there are no conditions, or not as many seeds.
        """
        if not len(conditions) or len(conditions) != len(seeds):
            raise ValueError(f"{len(conditions)} conditions and {len(seeds)} seeds: as many, and at least one")
        rows = np.ascontiguousarray(conditions, dtype=np.float32)
        numbers = np.array(seeds, dtype=np.int64).reshape(-1, 1)
        output = "LARGE" if large else "IMAGE"
        answers = self.client.map(
            lambda part: self.client.infer(
                {"CONDITION": rows[part], "SEED": numbers[part], "KIND": text_column([kind] * len(rows[part]))},
                (output, "VERSION"),
            ),
            [slice(start, start + BATCH) for start in range(0, len(rows), BATCH)],
        )
        version = answers[-1]["VERSION"].reshape(-1)[0].decode()
        return Painted(np.concatenate([answer[output] for answer in answers]), version)

    def close(self) -> None:
        self.client.close()
