"""Text and a box in, lines in a font that can draw them, set as large as fits, out. Pure but for reading font files.

What no font can draw never becomes a box: a letter loses its accent, and what is left over is left out and told.
"""

from __future__ import annotations

import importlib.util
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

from PIL import ImageFont

Weight = Literal["bold", "regular"]
Font = ImageFont.FreeTypeFont

PACKAGED: Final = "Pillow's own"
"""Aileron Regular (CC0), which comes with Pillow: always there, and knows little beyond ASCII."""
MOST_CHARS: Final = 240
"""Of a text: more fits no box of a poster."""
_NOWHERE: Final = "\U0010fffe"
"""A code point that no font has: it draws what a font draws for missing characters."""
_PROBE_SIZE: Final = 24
_WIDE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\u0e00-\u0e7f]")
"""Scripts that are written without spaces, and break between any two characters."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A text as it will be drawn."""

    lines: tuple[str, ...]
    font: Font
    leading: int
    """Pixels from baseline to baseline."""
    undrawn: str = ""
    """Characters that no font at hand can draw, left out."""
    rtl: bool = False
    """Written from right to left: set flush right."""

    @property
    def height(self) -> int:
        return self.leading * len(self.lines)

    @property
    def width(self) -> int:
        return max((round(self.font.getlength(line)) for line in self.lines), default=0)


def fonts(weight: Weight, given: Sequence[str] = ()) -> tuple[str, ...]:
    """Files of fonts, best first: those given, DejaVu where matplotlib has brought it, what Debian installs, Pillow's own.

    DejaVu: Latin, Greek, Cyrillic, Arabic, Hebrew, Armenian, Georgian; free licence. Chinese, Japanese, Korean and the
    Indian scripts need fonts of their own: Noto in `content.fonts`, or installed.
    """
    names = ["DejaVuSans-Bold.ttf"] if weight == "bold" else ["DejaVuSans.ttf"]
    found = [Path(file).expanduser() for file in given]
    # Found without importing it: the package imports much, and is optional.
    if (spec := importlib.util.find_spec("matplotlib")) and spec.origin:
        found += [Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / name for name in names]
    style = "Bold" if weight == "bold" else "Regular"
    for folder in (Path("/usr/share/fonts"), Path("/usr/local/share/fonts")):
        found += [file for name in names for file in sorted(folder.rglob(name))]
        found += sorted([*folder.rglob(f"NotoSans*-{style}.tt[fc]"), *folder.rglob(f"NotoSans*-{style}.otf")])
    return (*dict.fromkeys(str(file) for file in found if file.is_file()), PACKAGED)


@lru_cache(maxsize=256)
def load(file: str, size: int) -> Font:
    """A font at a size in pixels.

    Raises:
        OSError: the file is no font.
    """
    if file == PACKAGED:
        font = ImageFont.load_default(size)
        assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
        return font
    return ImageFont.truetype(file, size)


@lru_cache(maxsize=65_536)
def covers(file: str, character: str) -> bool:
    """Whether the font has the character. Spaces and invisible marks need no glyph."""
    if character.isspace() or unicodedata.category(character) in ("Cf", "Cc"):
        return True
    found, missing = (load(file, _PROBE_SIZE).getmask(c) for c in (character, _NOWHERE))
    return found.size != missing.size or bytes(found) != bytes(missing)


def drawable(text: str, files: Sequence[str]) -> tuple[str, str, str]:
    """The text as it can be drawn, the font that draws it, and the characters that had to go.

    One font draws the whole text: the first that has every character, else the one that has most. A character that it
    lacks loses its accents, and where that does not help either it is left out.
    """
    text = unicodedata.normalize("NFC", " ".join(text.split()))
    file = max(files, key=lambda f: (sum(covers(f, c) for c in text), -files.index(f)))
    shown, gone = [], []
    for character in text:
        if covers(file, character):
            shown.append(character)
        elif plain := "".join(c for c in unicodedata.normalize("NFKD", character) if covers(file, c)):
            shown.append(plain)
        else:
            gone.append(character)
    return " ".join("".join(shown).split()), file, "".join(gone)


def fit(
    text: str,
    files: Sequence[str],
    *,
    width: int,
    height: int,
    largest: int,
    smallest: int,
    most_lines: int,
    leading: float = 1.12,
) -> Setting:
    """The text as large as it fits the box; at the smallest size cut with an ellipsis.

    Args:
        width, height: of the box, pixels.
        largest, smallest: sizes of the font that are tried, pixels.
        leading: distance of lines, in sizes of the font.
    """
    shown, file, gone = drawable(text[:MOST_CHARS], files)
    rtl = _right_to_left(shown)
    # A word that is too long for its line may be a little smaller still, before it is broken.
    for size in range(largest, round(0.7 * smallest) - 1, -2):
        font = load(file, size)
        if size < smallest and not any(font.getlength(word) > 0.7 * width for word, _ in _words(shown)):
            break
        lines = wrap(shown, font, width)
        step = round(size * leading)
        whole = all(font.getlength(line) <= width for line in lines)
        if whole and len(lines) <= most_lines and len(lines) * step <= height and not _broken(shown, lines):
            return Setting(tuple(balance(shown, font, width, lines)), font, step, gone, rtl)
    font, step = load(file, smallest), round(smallest * leading)
    lines = wrap(shown, font, width)
    room = max(1, min(most_lines, height // step))
    if len(lines) > room:
        last = lines[room - 1]
        ending = "…" if covers(file, "…") else "..."
        while " " in last and font.getlength(last + ending) > width:
            last = last.rpartition(" ")[0]
        while last and font.getlength(last + ending) > width:
            last = last[:-1]
        lines = [*lines[: room - 1], last.rstrip(" .,;:-–—") + ending]
    return Setting(tuple(lines), font, step, gone, rtl)


def wrap(text: str, font: Font, width: int) -> list[str]:
    """Greedy lines of at most `width` pixels; a word longer than a line is broken."""
    lines: list[str] = []
    line = ""
    for word, glue in _words(text):
        joined = f"{line}{glue}{word}" if line else word
        if font.getlength(joined) <= width:
            line = joined
            continue
        if line:
            lines.append(line)
        line = word
        while font.getlength(line) > width and len(line) > 1:
            cut = next(n for n in range(len(line) - 1, 0, -1) if n == 1 or font.getlength(line[:n]) <= width)
            lines.append(line[:cut])
            line = line[cut:]
    return [*lines, line] if line else lines


def balance(text: str, font: Font, width: int, lines: Sequence[str]) -> list[str]:
    """As many lines as given, but of like length: the narrowest width that needs no more of them."""
    low, high = 1, width
    while low < high:
        middle = (low + high) // 2
        tried = wrap(text, font, middle)
        if len(tried) <= len(lines) and not _broken(text, tried):
            high = middle
        else:
            low = middle + 1
    return wrap(text, font, high)


def _words(text: str) -> list[tuple[str, str]]:
    """Parts that a line may end after, each with what joins it to the one before."""
    parts: list[tuple[str, str]] = []
    for word in text.split():
        if _WIDE.search(word):
            parts += [(character, " " if n == 0 and parts else "") for n, character in enumerate(word)]
        else:
            parts.append((word, " "))
    return parts


def _broken(text: str, lines: Sequence[str]) -> bool:
    """Whether a line ends within a word."""
    return not _WIDE.search(text) and " ".join(lines) != text


def _right_to_left(text: str) -> bool:
    directions = (unicodedata.bidirectional(character) for character in text)
    return next((d for d in directions if d in ("L", "R", "AL")), "L") != "L"
