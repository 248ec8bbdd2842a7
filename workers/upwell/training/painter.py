"""Condition and noise in, a picture out: the network that the VAE and the GAN both train and that Triton serves.

Its weights are plain arrays in one safetensors file with the settings beside them; `triton_models/image_generator`
reads the same file with torch alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

FORMAT: Final = "upwell-painter-1"
SIDE: Final = 64
"""Pixels of a picture's side."""
START: Final = 4
"""Pixels of a side where painting begins; every block doubles them, and so does the end."""


class PainterError(Exception):
    """The file holds no painter that this version can read; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a painter: what it takes and how wide it is."""

    condition: int
    """Numbers in a condition, d: of the item's fused vector, or of whatever stands for it."""
    axes: int = 96
    """Principal axes of the training conditions that it looks at."""
    latent: int = 64
    """Numbers in the noise z."""
    widths: tuple[int, ...] = (192, 128, 96, 64)
    """Channels at 4, 8, 16 and 32 pixels; the last step to 64 only spreads channels out (Shi et al. 2016)."""


class Painter(nn.Module):  # type: ignore[misc]
    """Generator: z and c to a picture; c also scales and shifts the channels of each block (FiLM, Perez et al. 2018).

    The condition is reduced to its principal axes over the training set, which are fixed: a few hundred pictures are too
    few to learn a projection of a thousand numbers from.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("condition_mean", torch.zeros(shape.condition))
        self.register_buffer("condition_axes", torch.zeros(shape.axes, shape.condition))
        told = shape.axes + shape.latent
        self.start = nn.Linear(told, shape.widths[0] * START * START)
        pairs = list(zip(shape.widths, shape.widths[1:], strict=False))
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairs)
        self.norms = nn.ModuleList(nn.GroupNorm(8, b, affine=False) for _, b in pairs)
        self.films = nn.ModuleList(nn.Linear(told, 2 * b) for _, b in pairs)
        self.paint = nn.Conv2d(shape.widths[-1], 3 * 4, 3, padding=1)
        self.to(memory_format=torch.channels_last)  # a fifth faster on a CPU
        for film in self.films:
            nn.init.normal_(film.weight, std=0.02)
            nn.init.zeros_(film.bias)
        with torch.no_grad():  # equal neighbours at first, against checkerboards (Aitken et al. 2017)
            self.paint.weight.copy_(self.paint.weight[::4].repeat_interleave(4, 0))
            self.paint.bias.copy_(self.paint.bias[::4].repeat_interleave(4, 0))

    def look_at(self, conditions: NDArray[np.float32]) -> None:
        """Fix the mean and the principal axes of the conditions, float32 [n, d].

        Scores are divided by the square root of their spread: half-way to whitening, so that fine differences count for
        more than they would and noise for less than all.
        """
        mean = conditions.mean(0)
        _, spread, axes = np.linalg.svd(conditions - mean, full_matrices=False)
        spread = spread / np.sqrt(len(conditions))
        kept = min(self.shape.axes, int((spread > spread[0] * 1e-4).sum()))
        scaled = axes[:kept] / np.sqrt(spread[:kept, None])
        scores = (conditions - mean) @ scaled.T
        with torch.no_grad():
            self.condition_mean.copy_(torch.from_numpy(mean))
            self.condition_axes[:kept] = torch.from_numpy(scaled / scores.std())

    def read(self, condition: Any) -> Any:
        """float32 [n, d] to its scores on the axes [n, axes], of about unit spread together."""
        return functional.linear(condition - self.condition_mean, self.condition_axes)

    def forward(self, scores: Any, z: Any) -> Any:
        """Scores [n, axes] of `read`, z [n, latent]: pictures float [n, 3, 64, 64], 0 to 1."""
        told = torch.cat([scores, z], 1)
        x = self.start(told).view(-1, self.shape.widths[0], START, START)
        for conv, norm, film in zip(self.convs, self.norms, self.films, strict=True):
            scale, shift = film(told)[:, :, None, None].chunk(2, 1)
            x = norm(conv(functional.interpolate(x, scale_factor=2.0)))
            x = functional.leaky_relu(x * (1 + scale) + shift, 0.2)
        return torch.sigmoid(functional.pixel_shuffle(self.paint(x), 2))


def describe(painter: Painter, name: str, kind: str) -> dict[str, str]:
    """Metadata of the safetensors file: values are text, that is all it can hold."""
    return {"format": FORMAT, "name": name, "kind": kind, "shape": json.dumps(asdict(painter.shape))}


def save(painter: Painter, path: Path, name: str, kind: str) -> str:
    """Write a painter; returns its version, `name@first 12 digits of the file's SHA-256`."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}")
    state = {key: value.detach().float().contiguous() for key, value in painter.state_dict().items()}
    save_file(state, draft, metadata=describe(painter, name, kind))
    draft.chmod(0o644)  # the model server may run as another user
    draft.replace(path)
    return f"{name}@{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"


def load(path: Path) -> Painter:
    """The painter of a file, ready to paint.

    Raises:
        PainterError: the file is missing or something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError) as error:
        raise PainterError(f"{path.name} cannot be read: {error}") from None
    if about.get("format") != FORMAT:
        raise PainterError(f"{path.name} holds no painter of format {FORMAT}: train it anew with `upwell train`")
    given = json.loads(about["shape"])
    painter = Painter(Shape(**{**given, "widths": tuple(given["widths"])}))
    painter.load_state_dict(state)
    painter.eval()
    return painter


def noise(seeds: Sequence[int], latent: int) -> Any:
    """Standard normal float32 [n, latent], each row by its own seed: a picture depends on its own seed alone."""
    return torch.stack([torch.randn(latent, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


@torch.inference_mode()  # type: ignore[untyped-decorator]
def sample(
    painter: Painter, conditions: NDArray[np.float32], seeds: Sequence[int], *, spread: float = 1.0
) -> NDArray[np.uint8]:
    """One picture per condition.

    Args:
        conditions: float32 [n, d].
        seeds: of the noise, n; 0 to 2**63 - 1.
        spread: standard deviation of z: below 1 for likelier, less varied pictures (the truncation of Brock et al. 2019).

    Returns: uint8 [n, 64, 64, 3].
    """
    z = spread * noise(seeds, painter.shape.latent)
    told = torch.from_numpy(conditions)
    # One by one, as it is served: in another batch they would round in another way.
    rows = zip(told.split(1), z.split(1), strict=True)
    return np.concatenate([to_pixels(painter(painter.read(condition), eps)) for condition, eps in rows])


def to_pixels(pictures: Any) -> NDArray[np.uint8]:
    """Float [n, 3, h, w] of 0 to 1 to uint8 [n, h, w, 3]."""
    whole = (pictures.float().clamp(0, 1) * 255).round().to(torch.uint8)
    found: NDArray[np.uint8] = whole.permute(0, 2, 3, 1).contiguous().numpy()
    return found
