"""The stamps' pictures in; pixels, a fixed split by item, and augmented batches out.

Pictures are 64 x 64 RGB on white, the whole drawing inside. An item is held out by its id alone, so that every training
run, and whatever judges it, leaves out the same ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from upwell.evaluation.stamps import Stamp
from upwell.training.painter import SIDE

VIEW: Final = 224
HELD_OUT: Final = 7
"""One item in so many is kept out of training."""
_MARGIN: Final = 0.04
_SHIFT: Final = 3
"""Pixels, either way."""
_COLOUR: Final = 0.08


@dataclass(frozen=True, slots=True)
class Pictures:
    """Items with a picture; row i of everything is one item."""

    ids: list[str]
    texts: list[str]
    """What is said of the item: title and categories."""
    pixels: NDArray[np.uint8]
    """[n, 64, 64, 3]: what is painted."""
    views: NDArray[np.uint8]
    """[n, 224, 224, 3]: what the image encoder sees."""
    mirrors: NDArray[np.bool_]
    """[n]: whether its mirror image is as good (a letter's is not)."""

    @property
    def held_out(self) -> NDArray[np.bool_]:
        """[n]: kept out of training."""
        return np.array([held_out(item) for item in self.ids])


def held_out(item_id: str) -> bool:
    """Whether an item is kept out of training: by its id's hash, one in seven."""
    return int.from_bytes(hashlib.blake2b(item_id.encode(), digest_size=8).digest(), "big") % HELD_OUT == 0


def pictures(stamps: Sequence[Stamp]) -> Pictures:
    """Those stamps that have a picture."""
    seen = [stamp for stamp in stamps if "image" in stamp.files]
    images = [Image.open(stamp.files["image"]).convert("RGBA") for stamp in seen]
    return Pictures(
        [stamp.item.item_id for stamp in seen],
        [f"{stamp.item.title}. {', '.join(stamp.item.categories)}" for stamp in seen],
        np.stack([fit(image) for image in images]),
        np.stack([fit(image, VIEW) for image in images]),
        np.array(["nomirror" not in stamp.marks for stamp in seen]),
    )


def fit(image: Image.Image, side: int = SIDE) -> NDArray[np.uint8]:
    """The whole picture on a white square, uint8 [side, side, 3]; its empty border is cut first."""
    drawn = image.convert("RGBA")
    drawn = drawn.crop(drawn.getchannel("A").getbbox() or (0, 0, *drawn.size))
    room = side - 2 * round(_MARGIN * side)
    scale = room / max(drawn.size)
    # Pillow scales with alpha multiplied in: invisible pixels lend no colour to their neighbours.
    drawn = drawn.resize([max(1, round(edge * scale)) for edge in drawn.size], Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (side, side), "white")
    square.alpha_composite(drawn, ((side - drawn.width) // 2, (side - drawn.height) // 2))
    return np.asarray(square.convert("RGB"))


def to_floats(pixels: NDArray[np.uint8]) -> Any:
    """uint8 [n, h, w, 3] to a float32 tensor [n, 3, h, w] of 0 to 1."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(255).contiguous()


def augment(batch: Any, mirrors: Any, generator: torch.Generator) -> Any:
    """A batch, seen a little differently: mirrored where it may be, shifted, its colours turned a little.

    Args:
        batch: float [n, 3, h, w], 0 to 1.
        mirrors: bool [n].
        generator: decides.
    """
    n = len(batch)
    turned = (torch.rand(n, generator=generator) < 0.5) & mirrors
    batch = torch.where(turned[:, None, None, None], batch.flip(3), batch)
    moves = torch.randint(-_SHIFT, _SHIFT + 1, (n, 2), generator=generator).tolist()
    # The background is white, so what comes in at the border is.
    wide = functional.pad(batch, (_SHIFT,) * 4, value=1.0)
    side = batch.shape[-1]
    batch = torch.stack(
        [wide[i, :, _SHIFT + y : _SHIFT + y + side, _SHIFT + x : _SHIFT + x + side] for i, (y, x) in enumerate(moves)]
    )
    ink = 1 - batch
    gain = 1 + _COLOUR * (2 * torch.rand(n, 3, 1, 1, generator=generator) - 1)
    return (1 - ink * gain).clamp(0, 1)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of a training set, drawn by chance."""

    pictures: Any
    """float [n, 3, 64, 64], augmented."""
    originals: Any
    """The same as they are."""
    conditions: Any
    """float [n, d]."""
    mirrors: Any
    """bool [n]."""
    chance: torch.Generator

    def first(self, n: int) -> Batch:
        """Its first n rows."""
        parts = (self.pictures[:n], self.originals[:n], self.conditions[:n], self.mirrors[:n])
        return Batch(*parts, self.chance)

    def scores(self, painter: Any, jitter: float) -> Any:
        """The conditions as the painter reads them, float [n, axes], with noise of this standard deviation."""
        scores = painter.read(self.conditions)
        return scores + jitter * torch.randn(scores.shape, generator=self.chance)


class Lessons:
    """A training set: pixels uint8 [n, 64, 64, 3], conditions float32 [n, d], mirrors bool [n]."""

    def __init__(self, pixels: NDArray[np.uint8], conditions: NDArray[np.float32], mirrors: NDArray[np.bool_]) -> None:
        self.pictures, self.conditions = to_floats(pixels), torch.from_numpy(conditions)
        self.mirrors = torch.from_numpy(mirrors)

    def batch(self, size: int, chance: torch.Generator) -> Batch:
        """`size` rows, with replacement."""
        rows = torch.randint(len(self.pictures), (size,), generator=chance)
        originals, mirrors = self.pictures[rows], self.mirrors[rows]
        return Batch(augment(originals, mirrors, chance), originals, self.conditions[rows], mirrors, chance)
