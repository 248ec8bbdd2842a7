"""Whatever a picture's file is like, what comes out is upright sRGB pixels of the asked size."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from media_files import IMAGE_FORMATS, image_file, picture, png_of
from upwell.media import image
from upwell.media.errors import MediaRejected

MOST = 1_000_000


def square(data: bytes, side: int = 32) -> np.ndarray:
    pixels = image.square(data, side, MOST)
    assert pixels.shape == (side, side, 3)
    assert pixels.dtype == np.uint8
    return pixels.astype(int)


@pytest.mark.parametrize("kind", IMAGE_FORMATS)
def test_every_format_shows_the_same(kind: str) -> None:
    # The middle square of 96 x 64 leaves 16 of the red square's 32 columns: a quarter of the width.
    pixels = square(image_file(kind))
    assert np.abs(pixels[2:8, 1:6] - (255, 0, 0)).mean() < 25
    assert np.abs(pixels[-1, -1] - (213, 252, 42)).max() < 40


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_camera_is_turned_back(orientation: int) -> None:
    stored = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    upright = picture()
    lying = upright if stored is None else upright.transpose(stored)
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = square(image_file("PNG", lying, exif=exif))
    assert np.abs(turned - square(image_file("PNG", upright))).max() <= 2


def test_broken_exif_is_no_reason_to_refuse() -> None:
    assert square(image_file("JPEG", exif=b"Exif\0\0MM\0*\0\0\xff\xff" + b"\xff" * 40)).shape


@pytest.mark.parametrize(
    ("mode", "colour", "shown"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 100, (100, 100, 100)),
        ("LA", (0, 0), (255, 255, 255)),
        ("P", 0, None),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), (255, 255, 255)),
        ("RGBA", (0, 0, 0, 128), (127, 127, 127)),
        ("I;16", 65_535, (255, 255, 255)),
        ("I;16", 32_768, (127, 127, 127)),
    ],
)
def test_modes_of_png(mode: str, colour: object, shown: tuple[int, int, int] | None) -> None:
    pixels = square(image_file("PNG", Image.new(mode, (20, 30), colour)))
    if shown:
        assert np.abs(pixels - shown).max() <= 1


@pytest.mark.parametrize("mode", ["CMYK", "F", "I", "LAB", "YCbCr", "I;16B"])
def test_modes_of_tiff(mode: str) -> None:
    made = Image.new(mode, (20, 30))
    square(image_file("TIFF", made))


def test_a_palette_with_a_transparent_colour_lies_on_white() -> None:
    palette = Image.new("P", (20, 20), 1)
    palette.putpalette([0, 0, 0, 0, 255, 0])
    assert np.abs(square(image_file("GIF", palette, transparency=1)) - 255).max() == 0
    assert np.abs(square(image_file("PNG", palette)) - (0, 255, 0)).max() == 0


def test_floats_that_are_no_numbers_are_black() -> None:
    values = np.full((20, 20), np.nan, np.float32)
    values[10:] = 7.0
    pixels = square(image_file("TIFF", Image.fromarray(values)))
    assert pixels[0].max() == 0
    assert pixels[-1].min() >= 250


def test_a_colour_profile_is_applied() -> None:
    plain = square(image_file("PNG"))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"none").replace(b"bXYZ", b"rXYZ").replace(b"none", b"bXYZ")
    assert np.abs(square(image_file("PNG", icc_profile=swapped)) - plain[..., ::-1]).mean() < 3
    assert np.abs(square(image_file("PNG", icc_profile=srgb)) - plain).max() <= 2
    assert np.abs(square(image_file("PNG", icc_profile=b"nonsense" * 30)) - plain).max() == 0


def test_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    data = image_file("GIF", frames[0], save_all=True, append_images=frames[1:])
    assert np.abs(square(data) - (255, 0, 0)).max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (5, 4)])
def test_any_shape_fits(size: tuple[int, int]) -> None:
    square(image_file("PNG", Image.new("RGB", size, "blue")))


def test_a_thumbnail_keeps_the_shape() -> None:
    assert image.thumbnail(image_file("PNG", picture(96, 64)), 48, MOST).shape == (32, 48, 3)
    assert image.thumbnail(image_file("PNG", picture(30, 60)), 48, MOST).shape == (48, 24, 3)
    assert image.thumbnail(image_file("PNG", picture(20, 10)), 48, MOST).shape == (10, 20, 3)


def test_denoising_takes_off_single_pixels() -> None:
    pixels = np.full((64, 64, 3), 100, np.uint8)
    pixels[::7, ::5] = 255
    data = image_file("PNG", Image.fromarray(pixels))
    assert image.square(data, 64, MOST).std() > 10
    assert image.square(data, 64, MOST, denoise=True).std() < 1


def test_a_large_header_is_refused_before_anything_is_decoded() -> None:
    with pytest.raises(MediaRejected, match=r"50000 x 50000 pixels are more than media\.max_pixels"):
        square(png_of(50_000, 50_000, b""))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- x --><svg/>", "SVG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not a picture of a known format"),
        (b"P6 1 1 255 abc", "not a picture of a known format"),
        (b"hello", "not a picture of a known format"),
        (image_file("PNG")[:200], "broken PNG"),
        (image_file("JPEG")[:400], "a picture with a broken header"),
        (image_file("JPEG")[:-400], "broken JPEG"),
    ],
)
def test_what_is_refused_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(MediaRejected, match=reason):
        square(data)


def test_formats_outside_the_list_are_not_even_tried() -> None:
    into = io.BytesIO()
    picture().save(into, "ICO")
    with pytest.raises(MediaRejected, match="known format"):
        square(into.getvalue())
