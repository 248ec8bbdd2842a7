"""A picture (or none), a title and a line of text in; a poster of 640 x 960 pixels out. Pure: same input, same bytes.

The title is set as large as its box allows, on a scrim as dark as reading asks for. A large picture fills the poster, a
small or oddly shaped one is mounted on it, and where there is none the poster is typographic.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from upwell.content import palette as colours
from upwell.content import typeset
from upwell.content.artwork import artwork
from upwell.content.palette import Colour, Palette
from upwell.content.typeset import Setting

Pixels = npt.NDArray[np.uint8]
WIDTH: Final = 640
HEIGHT: Final = 960
MARGIN: Final = 48
"""Nothing that has to be read is nearer to an edge, pixels."""
TITLE_SIZES: Final = (88, 32)
LINE_SIZES: Final = (25, 21)
KICKER_SIZE: Final = 19
TRACKING: Final = 3
"""Pixels between the capitals of the kicker."""
_JOINED: Final = "\u0590"
"""From here on come scripts whose letters may join or stack: they are not spaced."""
MOST_ENLARGED: Final = 3.5
"""A picture that would have to be enlarged more to fill the poster is mounted instead."""
MOST_CUT: Final = 0.4
"""... and so is one that would lose more than this share."""
PLAIN: Final = 26
"""Levels by which the pixels of a plain ground differ at most."""
QUALITY: Final = 88


@dataclass(frozen=True, slots=True)
class Poster:
    """A finished poster."""

    data: bytes
    mime: str
    pixels: Pixels
    """uint8 [960, 640, 3], RGB: the same before encoding."""
    undrawn: str = ""
    """Characters of its texts that no font at hand can draw; they were left out."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """A poster without its text: the picture with the ground that it stands on, and how the text is to look."""

    image: Image.Image
    palette: Palette
    scrim: bool
    """Whether the text stands on the picture itself."""


def poster(
    picture: Pixels | None,
    title: str,
    line: str = "",
    categories: Sequence[str] = (),
    *,
    seed: int = 0,
    fonts: Sequence[str] = (),
    form: Literal["webp", "png"] = "webp",
) -> Poster:
    """Compose a poster.

    Args:
        picture: uint8 [h, w, 3], RGB, any size from 1 pixel; None for a typographic poster.
        title: of any length; empty where the item has none.
        line: what the user is told, in small type below the title.
        categories: the first two stand above the title.
        seed: chooses colours and shapes where there is no picture; derive it from the item.
        fonts: files asked before those of `typeset.fonts`.
    """
    canvas = ground(picture, seed)
    image, undrawn = lettered(canvas, title, line, categories, fonts)
    buffer = io.BytesIO()
    if form == "webp":
        image.save(buffer, "WEBP", quality=QUALITY, method=4)
    else:
        image.save(buffer, "PNG", optimize=True)
    return Poster(buffer.getvalue(), f"image/{form}", np.asarray(image), undrawn)


def ground(picture: Pixels | None, seed: int = 0) -> Canvas:
    """The poster's picture, RGB 640 x 960. Arguments as those of `poster`."""
    if picture is None:
        chosen = colours.seeded(seed)
        return Canvas(artwork((WIDTH, HEIGHT), chosen, seed), chosen, scrim=True)
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
        raise ValueError(f"a picture is uint8 [h, w, 3], not {picture.dtype} {picture.shape}")
    chosen = colours.of_picture(picture)
    given = Image.fromarray(picture)
    if _fills(given.width, given.height):
        return Canvas(cover(given, (WIDTH, HEIGHT)), chosen, scrim=True)
    return Canvas(_mounted(given, chosen), chosen, scrim=False)


def cover(image: Image.Image, size: tuple[int, int], *, middle: float = 0.4) -> Image.Image:
    """The picture scaled to fill `size` and cut; of what is cut vertically, `middle` goes at the top."""
    scale = max(size[0] / image.width, size[1] / image.height)
    # Rounding must not reach beyond the picture.
    width, height = min(size[0] / scale, image.width), min(size[1] / scale, image.height)
    left, top = (image.width - width) / 2, (image.height - height) * middle
    return image.resize(size, Image.Resampling.LANCZOS, (left, top, left + width, top + height))


def _fills(width: int, height: int) -> bool:
    scale = max(WIDTH / width, HEIGHT / height)
    shown = (WIDTH * HEIGHT) / (width * height * scale * scale)
    return scale <= MOST_ENLARGED and 1 - shown <= MOST_CUT


def _mounted(picture: Image.Image, chosen: Palette) -> Image.Image:
    """The whole picture with a soft shadow, on its own colours out of focus."""
    backdrop = cover(picture, (WIDTH // 8, HEIGHT // 8)).filter(ImageFilter.GaussianBlur(9))
    backdrop = backdrop.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    image = Image.blend(backdrop, Image.new("RGB", backdrop.size, chosen.ground), 0.55)
    picture = _with_air(picture)
    room = (WIDTH - 2 * MARGIN, 500)
    scale = min(room[0] / picture.width, room[1] / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    left, top = (WIDTH - size[0]) // 2, MARGIN + (room[1] - size[1]) // 2
    radius = min(20, size[0] // 4, size[1] // 4)
    shadow = Image.new("L", (WIDTH, HEIGHT), 0)
    ImageDraw.Draw(shadow).rounded_rectangle((left, top + 14, left + size[0], top + size[1] + 14), radius, 150)
    image.paste((0, 0, 0), mask=shadow.filter(ImageFilter.GaussianBlur(20)))
    # Four times as large, so that the round corners are smooth.
    mask = Image.new("L", (size[0] * 4, size[1] * 4), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, size[0] * 4 - 1, size[1] * 4 - 1), radius * 4, 255)
    image.paste(
        picture.resize(size, Image.Resampling.LANCZOS), (left, top), mask.resize(size, Image.Resampling.LANCZOS)
    )
    return image


def _with_air(picture: Image.Image) -> Image.Image:
    """A drawing that is cut close, on a plain ground, with more of that ground around it; other pictures as they are."""
    pixels = np.asarray(picture).astype(np.int16)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    plain = np.median(edge, axis=0)
    if float((np.abs(edge - plain).max(1) < PLAIN).mean()) < 0.6:
        return picture
    colour = (int(plain[0]), int(plain[1]), int(plain[2]))
    return ImageOps.expand(picture, max(1, round(0.07 * max(picture.size))), colour)


def lettered(
    canvas: Canvas, title: str, line: str = "", categories: Sequence[str] = (), fonts: Sequence[str] = ()
) -> tuple[Image.Image, str]:
    """The canvas with its text, from the bottom up, and the characters that could not be drawn."""
    bold, regular = typeset.fonts("bold", fonts), typeset.fonts("regular", fonts)
    width = WIDTH - 2 * MARGIN
    heading = typeset.fit(
        title, bold, width=width, height=300 if canvas.scrim else 240, largest=TITLE_SIZES[0],
        smallest=TITLE_SIZES[1], most_lines=5, leading=1.1,
    )  # fmt: skip
    told = typeset.fit(
        line,
        regular,
        width=width,
        height=132,
        largest=LINE_SIZES[0],
        smallest=LINE_SIZES[1],
        most_lines=4,
        leading=1.38,
    )
    above = "  ·  ".join(category for category in categories[:2] if category.strip())
    kicker = typeset.fit(
        above.upper(),
        bold,
        width=round(width * 0.8),
        height=30,
        largest=KICKER_SIZE,
        smallest=KICKER_SIZE,
        most_lines=1,
    )
    rule = 30 if heading.lines and told.lines else 0
    gap = 16 if kicker.lines else 0
    height = kicker.height + gap + heading.height + rule + told.height
    top = HEIGHT - MARGIN - height
    if not canvas.scrim:  # below the mounted picture there is room to spare
        top = min(top, MARGIN + 500 + 36 + max(0, (top - (MARGIN + 500 + 36)) // 2))
    image = canvas.image.copy()
    chosen = canvas.palette
    if height:
        image, chosen = _readable(image, chosen, top)
    draw = ImageDraw.Draw(image)
    y = float(top)
    y = _draw(draw, kicker, y, chosen.accent, tracking=TRACKING) + gap
    y = _draw(draw, heading, y, chosen.ink)
    if rule:
        left = WIDTH - MARGIN - 56 if heading.rtl else MARGIN
        draw.rectangle((left, y + 11, left + 56, y + 14), chosen.accent)
        y += rule
    _draw(draw, told, y, chosen.ink)
    return image, "".join(dict.fromkeys(heading.undrawn + told.undrawn + kicker.undrawn))


def _draw(draw: ImageDraw.ImageDraw, text: Setting, y: float, colour: Colour, tracking: int = 0) -> float:
    """Draw lines from `y` down; returns where the next thing may begin."""
    ascent, descent = text.font.getmetrics()
    for line in text.lines:
        top = y + (text.leading - ascent - descent) / 2
        width = text.font.getlength(line)
        left = WIDTH - MARGIN - width if text.rtl else float(MARGIN)
        if tracking and not text.rtl and max(line) < _JOINED:
            for character in line:
                draw.text((left, top), character, colour, text.font)
                left += text.font.getlength(character) + tracking
        else:
            draw.text((left, top), line, colour, text.font)
        y += text.leading
    return y


def _readable(image: Image.Image, chosen: Palette, top: int) -> tuple[Image.Image, Palette]:
    """The picture darkened toward its ground colour below `top`, no more than the text's contrast asks for."""
    pixels = np.asarray(image, dtype=np.float32)
    ground_ = np.array(chosen.ground, dtype=np.float32)
    rows = np.arange(HEIGHT, dtype=np.float32)
    # Nothing at first, all of it a little above the text.
    linear = ((rows - (top - 200)) / 176).clip(0, 1)
    fade = linear * linear * (3 - 2 * linear)
    ink, accent = (float(colours.luminance(np.array(c, dtype=np.uint8))) for c in (chosen.ink, chosen.accent))
    for strength in (0.55, 0.65, 0.75, 0.82, 0.88, 0.93, 0.97):
        alpha = (fade * strength)[:, None, None]
        darkened = pixels * (1 - alpha) + ground_ * alpha
        below = colours.luminance(darkened[top:, MARGIN : WIDTH - MARGIN].astype(np.uint8))
        brightest = float(np.quantile(below, 0.98))
        if min(colours.contrast(ink, brightest), colours.contrast(accent, brightest)) >= colours.READABLE + 1:
            break
    if colours.contrast(accent, brightest) < colours.READABLE:
        chosen = replace(chosen, accent=chosen.ink)
    return Image.fromarray((darkened + 0.5).clip(0, 255).astype(np.uint8)), chosen
