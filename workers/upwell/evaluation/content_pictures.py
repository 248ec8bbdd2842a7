"""Posters and the pictures that they were made of in; how much of one is in the other out. Pure."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from upwell.content.poster import MARGIN, ground

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
SHOWN: Final = MARGIN + 500
"""Upper rows of a poster that are compared: there the picture stands, and below it the lettering."""
FEWEST: Final = 20
"""Pictures of each kind for a distance between distributions."""


def likeness(poster: Pixels, picture: Pixels) -> tuple[float, float]:
    """SSIM (Wang et al. 2004, over three channels) and PSNR in dB of a poster against the same poster without any style.

    Args:
        poster: uint8 [960, 640, 3]; only its part above the lettering is compared.
        picture: the item's, uint8 [h, w, 3], placed as the poster places it.
    """
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    plain = np.asarray(ground(picture).image)[:SHOWN]
    shown = poster[:SHOWN]
    if shown.shape != plain.shape:
        raise ValueError(f"a poster is [960, 640, 3], not {list(poster.shape)}")
    ssim = float(structural_similarity(plain, shown, channel_axis=2, data_range=255))
    return ssim, float(peak_signal_noise_ratio(plain, shown, data_range=255)) if (plain != shown).any() else np.inf


def frechet(ones: Floats, others: Floats) -> float:
    """Squared Fréchet distance of normal distributions fitted to features: |m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½).

    Heusel et al. 2017, with whatever features are given. With fewer pictures than features it is too large, by as much
    for any two sets of the same size: compare it with the distance of two halves.

    Args:
        ones, others: float32 [n, d] and [m, d], n and m > 1.
    """
    means = [rows.mean(0, dtype=np.float64) for rows in (ones, others)]
    centred = [(rows - mean) / np.sqrt(len(rows) - 1) for rows, mean in zip((ones, others), means, strict=True)]
    # tr((C1 C2)^½) is the sum of the singular values of A Bᵀ where C1 = Aᵀ A, C2 = Bᵀ B: n x m instead of d x d.
    overlap = float(np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum())
    spread = sum(float(np.square(rows).sum()) for rows in centred)
    return float(np.square(means[0] - means[1]).sum()) + spread - 2 * overlap
