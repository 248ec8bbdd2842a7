"""A seed, or a picture, in; a few colours that go together out. Pure.

Colours are mixed in OKLCH (Ottosson 2020), where the same number means the same lightness in every hue.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Colour = tuple[int, int, int]
"""Red, green, blue of sRGB, 0 to 255."""

READABLE: Final = 4.5
"""Contrast that text needs at least (WCAG 2.2, 1.4.3)."""


@dataclass(frozen=True, slots=True)
class Palette:
    """`ground` is dark, `ink` is what text on it is set in, `accent` stands out from both; `shades` are for shapes."""

    ground: Colour
    ink: Colour
    accent: Colour
    shades: tuple[Colour, ...]


def oklch(lightness: float, chroma: float, hue: float) -> Colour:
    """The sRGB of an OKLCH colour: lightness 0 to 1, chroma 0 to about .3, hue in turns; chroma gives way out of gamut."""
    for share in (1.0, 0.85, 0.7, 0.55, 0.4, 0.2, 0.0):
        a = chroma * share * math.cos(2 * math.pi * hue)
        b = chroma * share * math.sin(2 * math.pi * hue)
        long, medium, short = (
            (lightness + x * a + y * b) ** 3
            for x, y in ((0.3963377774, 0.2158037573), (-0.1055613458, -0.0638541728), (-0.0894841775, -1.2914855480))
        )
        linear = (
            4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
        )
        if all(-0.001 <= value <= 1.001 for value in linear):
            break
    red, green, blue = (round(255 * _encoded(min(1.0, max(0.0, value)))) for value in linear)
    return red, green, blue


def seeded(seed: int) -> Palette:
    """The same colours for the same seed."""
    random = np.random.default_rng(seed)
    hue = float(random.random())
    # Neighbours of the hue for the shapes, and one from across for the accent.
    away = float(random.choice([0.38, 0.5, 0.62]))
    spread = float(random.uniform(0.04, 0.1))
    return Palette(
        ground=oklch(0.24, 0.07, hue),
        ink=oklch(0.97, 0.015, hue + away),
        accent=oklch(0.82, 0.16, hue + away),
        shades=(
            oklch(0.36, 0.10, hue),
            oklch(0.48, 0.13, hue + spread),
            oklch(0.60, 0.15, hue + 2 * spread),
            oklch(0.72, 0.15, hue + away - spread),
        ),
    )


def of_picture(pixels: npt.NDArray[np.uint8]) -> Palette:
    """Colours that go with a picture, uint8 [h, w, 3]: its strongest hue, dark for the ground, bright for the accent."""
    step = max(1, int(math.sqrt(pixels.shape[0] * pixels.shape[1] / 4096)))
    sample = pixels[::step, ::step].reshape(-1, 3).astype(np.float32) / 255
    largest, smallest = sample.max(1), sample.min(1)
    colourful = largest - smallest
    if float(colourful.mean()) < 0.02:
        return Palette((24, 24, 28), (250, 248, 244), (244, 208, 120), ((60, 60, 66), (110, 110, 118)))
    # Mean direction on the circle of hues, weighted by how colourful each pixel is.
    angles = 2 * np.pi * _hues(sample)
    x, y = float((np.cos(angles) * colourful).sum()), float((np.sin(angles) * colourful).sum())
    hue = _oklch_hue(math.atan2(y, x) / (2 * math.pi) % 1.0)
    return Palette(
        ground=oklch(0.19, 0.045, hue),
        ink=(252, 250, 246),
        accent=oklch(0.86, 0.14, hue + 0.04),
        shades=(oklch(0.3, 0.07, hue), oklch(0.45, 0.1, hue)),
    )


def luminance(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Relative luminance (WCAG 2.2) of uint8 [..., 3]: 0 to 1, [...]."""
    value = pixels.astype(np.float64) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    found: npt.NDArray[np.float64] = linear @ np.array([0.2126, 0.7152, 0.0722])
    return found


def contrast(one: float, other: float) -> float:
    """Contrast of two luminances, 1 to 21 (WCAG 2.2)."""
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


def _encoded(linear: float) -> float:
    return 12.92 * linear if linear <= 0.0031308 else float(1.055 * linear ** (1 / 2.4) - 0.055)


def _hues(sample: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """HSV hue in turns of float32 [n, 3]."""
    red, green, blue = sample.T
    largest = sample.max(1)
    span = np.maximum(largest - sample.min(1), 1e-6)
    hue = np.where(
        largest == red,
        (green - blue) / span % 6,
        np.where(largest == green, (blue - red) / span + 2, (red - green) / span + 4),
    )
    found: npt.NDArray[np.float32] = (hue / 6).astype(np.float32)
    return found


def _oklch_hue(turns: float) -> float:
    """OKLCH hue of a pure HSV hue."""
    corners = np.array([29.2, 109.8, 142.5, 194.8, 264.1, 328.4, 389.2]) / 360
    return float(np.interp(turns * 6, np.arange(7), corners))
