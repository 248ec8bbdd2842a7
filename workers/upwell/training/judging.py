"""Painted and real pictures in; how well the ones show the others out: likeness, retrieval, plots and grids to look at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

AMONG: Final = 10
"""Conditions that a picture is to be told apart among, its own included."""
_GAP: Final = 2
_ENLARGED: Final = 2
_PANELS: Final = 3
"""Plots in a row."""

Pixels = NDArray[np.uint8]


def likeness(ones: Pixels, others: Pixels) -> float:
    """Mean structural similarity (SSIM; Wang et al. 2004) of n pairs, uint8 [n, h, w, 3], over the three channels."""
    from skimage.metrics import structural_similarity

    pairs = zip(ones, others, strict=True)
    return float(np.mean([structural_similarity(a, b, channel_axis=2, data_range=255) for a, b in pairs]))


def baselines(
    train: Pixels, train_conditions: NDArray[np.float32], conditions: NDArray[np.float32]
) -> dict[str, Pixels]:
    """What a generator has to beat on pictures that it has not seen, uint8 [n, h, w, 3] each.

    `mean_image` of the training set; `nearest_neighbour`: the training picture whose condition has the largest cosine.
    """
    mean = np.broadcast_to(train.mean(0).round().astype(np.uint8), (len(conditions), *train.shape[1:]))
    unit_train = train_conditions / np.linalg.norm(train_conditions, axis=1, keepdims=True)
    return {"mean_image": mean, "nearest_neighbour": train[(conditions @ unit_train.T).argmax(1)]}


def found_among_ten(painted: NDArray[np.float32], real: NDArray[np.float32], *, centred: bool = True) -> float:
    """How often a painted picture's own real one is the most similar of ten, nine others being drawn at random.

    By the cosine of features. The chance over all draws is exact, not sampled: where `worse` of the n - 1 others are less
    similar than the right one, C(worse, 9) / C(n - 1, 9).

    Args:
        painted: float32 [n, d], features of the painted pictures, n > 9.
        real: float32 [n, d], features of the real ones, row by row.
        centred: take each set's own mean off first: what all paintings share as paintings, their softness, is no answer
            to the question which one it is.

    Returns: a share; 0.1 is chance.
    """
    ones, others = ((_unit(f - f.mean(0) if centred else f)) for f in (painted, real))
    similar = ones @ others.T
    worse = (similar < similar.diagonal()[:, None]).sum(1)
    draws = math.comb(len(real) - 1, AMONG - 1)
    return float(np.mean([math.comb(int(n), AMONG - 1) / draws for n in worse]))


def ink(pixels: Pixels, cells: int = 16) -> NDArray[np.float32]:
    """Features that no network has made: how dark 16 x 16 cells are in each colour, uint8 [n, h, w, 3] to [n, 768]."""
    n, height, width, _ = pixels.shape
    found = pixels.reshape(n, cells, height // cells, cells, width // cells, 3).mean((2, 4))
    dark: NDArray[np.float32] = (255 - found).reshape(n, -1).astype(np.float32)
    return dark


def _unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    return found


def grid(rows: Sequence[Pixels], path: Path) -> None:
    """Write a PNG: each of `rows`, uint8 [n, h, w, 3], is a row of pictures, enlarged twice."""
    from PIL import Image

    height, width = rows[0].shape[1:3]
    columns = max(len(row) for row in rows)
    sheet = np.full((len(rows) * (height + _GAP) + _GAP, columns * (width + _GAP) + _GAP, 3), 200, np.uint8)
    for r, row in enumerate(rows):
        for c, picture in enumerate(row):
            y, x = _GAP + r * (height + _GAP), _GAP + c * (width + _GAP)
            sheet[y : y + height, x : x + width] = picture
    image = Image.fromarray(sheet)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.resize((image.width * _ENLARGED, image.height * _ENLARGED), Image.Resampling.NEAREST).save(path)


def curves(losses: Mapping[str, Sequence[float]], path: Path, title: str) -> None:
    """Write a PNG of loss curves: `step` is the common axis, every other series has a panel of its own, three in a row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    series = [name for name in losses if name != "step"]
    columns = min(_PANELS, len(series))
    rows = -(-len(series) // columns)
    figure = Figure(figsize=(4 * columns, 2.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for number, name in enumerate(series, 1):
        axes: Any = figure.add_subplot(rows, columns, number)
        axes.plot(losses["step"], losses[name], linewidth=1.2)
        axes.set_title(name.replace("_", " "), fontsize=10)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
