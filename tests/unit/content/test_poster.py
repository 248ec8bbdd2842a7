"""Posters: right size, readable, nothing outside the margins, nothing that a font cannot draw, same input same bytes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from upwell.content import palette, typeset
from upwell.content.poster import HEIGHT, MARGIN, WIDTH, Canvas, _with_air, ground, lettered, poster

LINE = "You liked Alien, so The Assignment, a thriller featuring Aidan Quinn and Ben Kingsley, looks like a good match."
TITLES = [
    "M",
    "The Good, the Bad and the Ugly",
    "Supercalifragilisticexpialidocious",
    "Le Fabuleux Destin d'Amélie Poulain",
    "Иди и смотри",
    "الرجل الذي باع ظهره",
    "word " * 60,
    "x" * 300,
]


def photo(height: int, width: int, bright: bool = True) -> np.ndarray:
    """A picture with something in it everywhere, bright where text may stand."""
    random = np.random.default_rng(5)
    coarse = random.integers(150 if bright else 0, 256, (9, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("form", ["webp", "png"])
@pytest.mark.parametrize("size", [(960, 640), (40, 30), (300, 900), (500, 500), (1, 1), (2000, 900)])
def test_decodes_to_its_size(size, form):
    made = poster(photo(*size), "Alien", LINE, ["Horror"], form=form)
    decoded = Image.open(io.BytesIO(made.data))
    assert decoded.size == (WIDTH, HEIGHT) == (640, 960)
    assert decoded.format.lower() == form
    assert made.mime == f"image/{form}"
    difference = np.abs(np.asarray(decoded.convert("RGB"), dtype=int) - made.pixels)
    assert difference.mean() < 4


def test_same_input_same_bytes_and_other_seeds_other_pictures():
    assert poster(None, "Alien", LINE, seed=7).data == poster(None, "Alien", LINE, seed=7).data
    assert len({poster(None, "Alien", LINE, seed=seed).data for seed in range(12)}) == 12


@pytest.mark.parametrize("title", TITLES)
@pytest.mark.parametrize("picture", [None, photo(960, 640), photo(200, 300)], ids=["none", "fills", "mounted"])
def test_text_is_readable_and_keeps_its_margins(title, picture):
    canvas = ground(picture, seed=3)
    image, undrawn = lettered(canvas, title, LINE, ["Horror", "Science fiction"])
    bare = np.asarray(canvas.image).astype(int)
    assert undrawn == ""
    drawn = np.asarray(image)
    brightness = palette.luminance(drawn)
    ink = float(palette.luminance(np.array(canvas.palette.ink, dtype=np.uint8)))
    # Where the title stands there is ink, and what is around it contrasts with that.
    is_ink = np.abs(brightness - ink) < 0.02
    rows = np.flatnonzero(is_ink[HEIGHT // 2 :, MARGIN : WIDTH - MARGIN].any(1)) + HEIGHT // 2
    band = brightness[rows[0] : rows[-1], MARGIN : WIDTH - MARGIN]
    assert palette.contrast(ink, float(np.median(band))) > palette.READABLE
    # The margins are as they are without text, but for the scrim, which only darkens.
    for margin in (np.s_[:, : MARGIN - 4], np.s_[:, WIDTH - MARGIN + 4 :], np.s_[HEIGHT - MARGIN + 4 :]):
        assert (drawn[margin] <= np.maximum(bare[margin], max(canvas.palette.ground)) + 3).all()


def test_what_no_font_draws_is_left_out_and_told():
    plain = typeset.fit(
        "Zoë 漢字 \U0010fffe", (typeset.PACKAGED,), width=400, height=200, largest=60, smallest=20, most_lines=3
    )
    assert plain.lines == ("Zoe",)
    assert set(plain.undrawn) == {"漢", "字", "\U0010fffe"}
    made = poster(None, "\U0010fffe", "", seed=1)
    assert made.undrawn == "\U0010fffe"


def test_titles_are_as_large_as_they_fit():
    box = {"width": 544, "height": 300, "largest": 88, "smallest": 32, "most_lines": 5}
    files = typeset.fonts("bold")
    short, long = (
        typeset.fit("Jaws", files, **box),
        typeset.fit("The Assignment of a Lifetime, and After", files, **box),
    )
    assert short.font.size == 88
    assert 32 <= long.font.size < 88
    assert long.width <= 544
    assert long.height <= 300
    assert " ".join(long.lines) == "The Assignment of a Lifetime, and After"
    cut = typeset.fit("word " * 80, files, **box)
    assert cut.lines[-1].endswith("…")
    assert len(cut.lines) == 5


def test_scripts_without_spaces_wrap_anywhere():
    font = typeset.load(typeset.PACKAGED, 30)
    lines = typeset.wrap("千と千尋の神隠し" * 4, font, 200)
    assert len(lines) > 1
    assert all(font.getlength(line) <= 200 for line in lines)


def test_right_to_left_is_flush_right():
    files = typeset.fonts("bold")
    assert typeset.fit("שלום", files, width=400, height=90, largest=40, smallest=30, most_lines=1).rtl
    assert not typeset.fit("(Peace)", files, width=400, height=90, largest=40, smallest=30, most_lines=1).rtl


def test_a_drawing_gets_air_and_a_photo_does_not():
    drawing = np.full((120, 300, 3), 250, dtype=np.uint8)
    drawing[20:100, :200] = (200, 30, 30)
    assert _with_air(Image.fromarray(drawing)).size == (342, 162)
    assert _with_air(Image.fromarray(photo(120, 300))).size == (300, 120)


def test_a_picture_of_another_kind_is_refused():
    with pytest.raises(ValueError, match=r"uint8 \[h, w, 3\]"):
        poster(np.zeros((4, 4), dtype=np.uint8), "A")
    with pytest.raises(ValueError, match="float64"):
        poster(np.zeros((4, 4, 3)), "A")


def test_colours_are_in_gamut_and_told_from_the_picture():
    assert palette.oklch(1, 0, 0) == (255, 255, 255)
    assert palette.oklch(0, 0, 0) == (0, 0, 0)
    blue = np.full((50, 50, 3), (20, 40, 220), dtype=np.uint8)
    found = palette.of_picture(blue)
    assert found.ground[2] > found.ground[0]
    for seed in range(50):
        chosen = palette.seeded(seed)
        ground_, ink, accent = (
            float(palette.luminance(np.array(c, dtype=np.uint8))) for c in (chosen.ground, chosen.ink, chosen.accent)
        )
        assert palette.contrast(ground_, ink) > 7
        assert palette.contrast(ground_, accent) > palette.READABLE


def test_the_canvas_is_upright():
    canvas = ground(photo(200, 900))
    assert isinstance(canvas, Canvas)
    assert canvas.image.size == (640, 960)
    assert not canvas.scrim
