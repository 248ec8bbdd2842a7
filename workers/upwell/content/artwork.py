"""A palette and a seed in, the picture of a poster for an item without one out: plain shapes. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from upwell.content.palette import Colour, Palette

Size = tuple[int, int]
OVER: Final = 2
"""Shapes are drawn this much larger, so that their edges are smooth."""
Box = tuple[float, float, float, float]


def artwork(size: Size, palette: Palette, seed: int) -> Image.Image:
    """RGB picture of `size` (width, height); the lower two fifths stay calm for the title. Same seed, same picture."""
    random = np.random.default_rng([seed, 1])
    compositions: tuple[Callable[[ImageDraw.ImageDraw, Size, Palette, np.random.Generator], None], ...] = (
        _sun, _arcs, _tiles, _bands, _orbits,
    )  # fmt: skip
    canvas = Image.new("RGB", (size[0] * OVER, size[1] * OVER), palette.ground)
    draw = ImageDraw.Draw(canvas)
    compositions[int(random.integers(len(compositions)))](draw, canvas.size, palette, random)
    return canvas.resize(size, Image.Resampling.LANCZOS)


def _circle(x: float, y: float, radius: float) -> Box:
    return (x - radius, y - radius, x + radius, y + radius)


def _sun(draw: ImageDraw.ImageDraw, size: Size, palette: Palette, random: np.random.Generator) -> None:
    """A disc over hills."""
    width, height = size
    steps = 48
    for n in range(steps):
        share = n / (steps - 1)
        top = height * 0.62 * n / steps
        colour = _mix(palette.shades[0], palette.shades[2], share)
        draw.rectangle((0, top, width, top + height * 0.62 / steps + 1), colour)
    radius = width * random.uniform(0.2, 0.27)
    x = width * random.choice([0.36, 0.5, 0.66])
    draw.ellipse(_circle(x, height * 0.31, radius), palette.accent)
    layers = ((0.42, palette.shades[1]), (0.5, palette.shades[0]), (0.58, palette.ground))
    for level, colour in layers:
        phase, waves = random.uniform(0, 2 * math.pi), random.uniform(0.7, 1.6)
        swing = height * random.uniform(0.02, 0.045)
        points = [
            (px, height * level + swing * math.sin(phase + waves * 2 * math.pi * px / width))
            for px in range(0, width + 9, 8)
        ]
        draw.polygon([(0, height), *points, (width, height)], colour)


def _arcs(draw: ImageDraw.ImageDraw, size: Size, palette: Palette, random: np.random.Generator) -> None:
    """Rings around a corner."""
    width, height = size
    x = width * random.choice([0.0, 1.0])
    y = height * random.uniform(0.04, 0.16)
    colours = [palette.shades[0], palette.shades[1], palette.shades[2], palette.shades[3], palette.accent]
    for n, colour in enumerate(colours):
        draw.ellipse(_circle(x, y, width * (1.02 - 0.18 * n)), colour)
    draw.ellipse(_circle(x, y, width * 0.13), palette.ground)


def _tiles(draw: ImageDraw.ImageDraw, size: Size, palette: Palette, random: np.random.Generator) -> None:
    """Quarter circles, half circles and discs on a grid."""
    width, height = size
    columns = 4
    side = width / columns
    rows = math.ceil(height * 0.56 / side)
    colours = [*palette.shades, palette.accent]
    for row in range(rows):
        for column in range(columns):
            left, top = column * side, row * side
            box = (left, top, left + side, top + side)
            ground, shape = random.choice(len(colours), 2, replace=False)
            draw.rectangle(box, colours[ground] if random.random() < 0.75 else palette.ground)
            kind = random.integers(4)
            if kind == 0:
                draw.ellipse(_circle(left + side / 2, top + side / 2, side * 0.3), colours[shape])
            elif kind == 1:
                turn = 90 * int(random.integers(4))
                draw.pieslice(_circle(left + side / 2, top + side / 2, side * 0.5), turn, turn + 180, colours[shape])
            else:
                corner = int(random.integers(4))
                x, y = left + side * (corner in (1, 2)), top + side * (corner in (2, 3))
                draw.pieslice(_circle(x, y, side), 90 * corner, 90 * corner + 90, colours[shape])


def _bands(draw: ImageDraw.ImageDraw, size: Size, palette: Palette, random: np.random.Generator) -> None:
    """Slanting bands of several widths, and a disc that they pass behind."""
    width, height = size
    lean = random.choice([-1, 1]) * width * random.uniform(0.35, 0.6)
    colours = [palette.shades[0], palette.shades[1], palette.shades[2], palette.accent, palette.shades[3]]
    x, n = -width * 0.7, 0
    bottom = height * 0.66
    while x < width * 1.7:
        thick = width * random.choice([0.05, 0.09, 0.16, 0.22])
        draw.polygon(
            [(x, 0), (x + thick, 0), (x + thick + lean, bottom), (x + lean, bottom)], colours[n % len(colours)]
        )
        x += thick + width * random.choice([0.0, 0.0, 0.03])
        n += 1
    draw.ellipse(_circle(width * random.uniform(0.35, 0.65), height * 0.27, width * 0.2), palette.ink)
    draw.rectangle((0, height * 0.56, width, height), palette.ground)


def _orbits(draw: ImageDraw.ImageDraw, size: Size, palette: Palette, random: np.random.Generator) -> None:
    """A planet, its paths and its moons, and some stars."""
    width, height = size
    x, y = width * random.uniform(0.4, 0.6), height * 0.3
    for _ in range(70):
        px, py, radius = random.uniform(0, width), random.uniform(0, height * 0.6), width * random.uniform(0.001, 0.003)
        draw.ellipse(_circle(px, py, radius), palette.shades[3])
    for n, share in enumerate((0.22, 0.31, 0.41, 0.52)):
        radius = width * share
        draw.ellipse(_circle(x, y, radius), outline=palette.shades[1], width=max(2, width // 320))
        angle = random.uniform(0, 2 * math.pi)
        moon = width * random.uniform(0.014, 0.04)
        colour = (palette.accent, palette.shades[3], palette.shades[2], palette.ink)[n]
        draw.ellipse(_circle(x + radius * math.cos(angle), y + radius * math.sin(angle), moon), colour)
    draw.ellipse(_circle(x, y, width * 0.14), palette.accent)
    # Its night side.
    draw.chord(_circle(x, y, width * 0.14), 300, 120, _mix(palette.accent, palette.ground, 0.25))


def _mix(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue
