"""A condition and a seed in, a picture out: what `upwell train vae` and `upwell train gan` wrote, read with torch alone.

The file is safetensors: arrays by name, and in its metadata the format, the generator's name and its shape. The same
arithmetic as `upwell.training.painter`, which wrote it; a test compares their pictures.
"""

import hashlib
import json

import numpy as np
import torch
from safetensors import safe_open
from torch.nn import functional

FORMAT = "upwell-painter-1"
KINDS = ("vae", "gan")
START = 4
"""Pixels of a side where painting begins."""
GROUPS = 8
"""Of channels that are normalised together."""


class Painter:
    """A generator in memory. Raises ValueError where the file holds another format."""

    def __init__(self, file):
        with safe_open(file, "pt") as found:
            about = found.metadata() or {}
            if about.get("format") != FORMAT:
                raise ValueError(f"{file} is not of format {FORMAT}: `upwell train {file.stem}` makes it anew")
            self._weights = {name: found.get_tensor(name) for name in found.keys()}  # noqa: SIM118 (not a mapping)
        shape = json.loads(about["shape"])
        self.width, self._latent, self._channels = shape["condition"], shape["latent"], shape["widths"]
        self.version = f"{about['name']}@{hashlib.sha256(file.read_bytes()).hexdigest()[:12]}"

    @torch.inference_mode()
    def paint(self, condition, seed, spread=1.0):
        """condition: float32 [d]. Returns uint8 [64, 64, 3]."""
        noise = spread * torch.randn(self._latent, generator=torch.Generator().manual_seed(seed))[None]
        scores = functional.linear(
            torch.from_numpy(np.array(condition))[None] - self._weights["condition_mean"],
            self._weights["condition_axes"],
        )
        told = torch.cat([scores, noise], 1)
        x = self._linear("start", told).view(1, self._channels[0], START, START)
        for block, channels in enumerate(self._channels[1:]):
            scale, shift = self._linear(f"films.{block}", told).view(1, 2, channels, 1, 1).unbind(1)
            x = self._conv(f"convs.{block}", functional.interpolate(x, scale_factor=2.0))
            x = functional.leaky_relu(functional.group_norm(x, GROUPS) * (1 + scale) + shift, 0.2)
        picture = torch.sigmoid(functional.pixel_shuffle(self._conv("paint", x), 2))[0]
        return (picture * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()

    def _linear(self, name, x):
        return functional.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _conv(self, name, x):
        return functional.conv2d(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"], padding=1)
