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
from upwell.media.augment import LEAST, LUMA
from upwell.media.augment import views as views_of
from upwell.training.painter import SIDE

HELD_OUT: Final = 7
"""One item in so many is kept out of training."""
_MARGIN: Final = 0.04


@dataclass(frozen=True, slots=True)
class Pictures:
    """Items with a picture; row i of everything is one item."""

    ids: list[str]
    pixels: NDArray[np.uint8]
    """[n, 64, 64, 3]: what is painted."""
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
        np.stack([fit(image) for image in images]),
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


def augment(batch: Any, mirrors: Any, generator: torch.Generator, strength: float) -> Any:
    """A batch, seen as `media/augment.py` would show its pictures, but with a gradient.

    Args:
        batch: float [n, 3, side, side], 0 to 1.
        mirrors: bool [n].
        generator: decides.
        strength: share of the bounds; 0 leaves it as it is.
    """
    if not strength:
        return batch
    rng = np.random.default_rng(int(torch.randint(2**63 - 1, (), generator=generator)))
    views = views_of(len(batch), rng, strength, mirrors.numpy())
    turns, shifts, saturations, gammas = (
        torch.from_numpy(part) for part in (views.turns, views.shifts, views.saturations, views.gammas)
    )
    # Torch counts from the middle in halves of a side.
    places = functional.affine_grid(torch.cat([turns, 2 * shifts[:, :, None]], 2), batch.shape, align_corners=False)
    # The background is white, so what comes in at the border is: ink is what is moved.
    batch = 1 - functional.grid_sample(1 - batch, places, align_corners=False)
    grey = (batch * batch.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
    batch = grey + (batch - grey) * saturations[:, None, None, None]
    return batch.clamp(LEAST, 1) ** gammas[:, :, None, None]


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
    strength: float

    def first(self, n: int) -> Batch:
        """Its first n rows."""
        parts = (self.pictures[:n], self.originals[:n], self.conditions[:n], self.mirrors[:n])
        return Batch(*parts, self.chance, self.strength)

    def augment(self, pictures: Any) -> Any:
        """Pictures of its items, real or painted, float [n, 3, 64, 64], each seen in another way than the last time."""
        return augment(pictures, self.mirrors, self.chance, self.strength)

    def scores(self, painter: Any, jitter: float) -> Any:
        """The conditions as the painter reads them, float [n, axes], with noise of this standard deviation."""
        scores = painter.read(self.conditions)
        return scores + jitter * torch.randn(scores.shape, generator=self.chance)


class Lessons:
    """A training set: pixels uint8 [n, 64, 64, 3], conditions float32 [n, d], mirrors bool [n]; `strength` of `augment`."""

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        conditions: NDArray[np.float32],
        mirrors: NDArray[np.bool_],
        strength: float,
    ) -> None:
        self.pictures, self.conditions = to_floats(pixels), torch.from_numpy(conditions)
        self.mirrors, self.strength = torch.from_numpy(mirrors), strength

    def batch(self, size: int, chance: torch.Generator) -> Batch:
        """`size` rows, with replacement."""
        rows = torch.randint(len(self.pictures), (size,), generator=chance)
        originals, mirrors = self.pictures[rows], self.mirrors[rows]
        seen = augment(originals, mirrors, chance, self.strength)
        return Batch(seen, originals, self.conditions[rows], mirrors, chance, self.strength)
