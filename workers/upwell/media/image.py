"""A picture's file in; RGB pixels of the asked size, upright, in sRGB, on white, out.

Runs inside the sandbox. The format is what the bytes say, from a short list; sizes are checked before anything is
decoded, so that a bomb costs nothing.
"""

from __future__ import annotations

import io
import warnings
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile, ImageFilter, ImageOps, UnidentifiedImageError

from upwell.media.errors import MediaRejected
from upwell.media.sniff import is_vector_graphic

FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PROFILE_BYTES: Final = 4 << 20
DENOISE: Final = 3
"""Side of the median filter, pixels: takes off grain and single wrong pixels, keeps edges."""
ALPHA: Final = frozenset(("RGBA", "LA", "PA", "La", "RGBa"))


def square(data: bytes, side: int, max_pixels: int, denoise: bool = False) -> NDArray[np.uint8]:
    """The middle of a picture, as large a square as it holds.

    Args:
        side: of the square, pixels.
        max_pixels: most width x height of the file.

    Returns:
        uint8 [side, side, 3], sRGB.

    Raises:
        MediaRejected: not a picture of a known format, too large, or broken.
    """
    image = _opened(data, max_pixels, side)
    fitted = ImageOps.fit(_resizable(image), (side, side), Image.Resampling.LANCZOS)
    pixels = _rgb(fitted, image.info.get("icc_profile"))
    return np.asarray(pixels.filter(ImageFilter.MedianFilter(DENOISE)) if denoise else pixels)


def thumbnail(data: bytes, side: int, max_pixels: int) -> NDArray[np.uint8]:
    """The whole picture, shrunk until its longer side is at most `side` pixels; smaller ones stay as they are.

    Returns:
        uint8 [height, width, 3], sRGB.

    Raises:
        MediaRejected: as `square`.
    """
    image = _opened(data, max_pixels, side)
    shrunk = _resizable(image)
    shrunk.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.asarray(_rgb(shrunk, image.info.get("icc_profile")))


def fit(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The middle square of RGB pixels [height, width, 3], as uint8 [side, side, 3]."""
    return np.asarray(ImageOps.fit(Image.fromarray(pixels), (side, side), Image.Resampling.LANCZOS))


def warm_up() -> None:
    """Loads what is loaded at the first use: the formats, and the colour library."""
    Image.init()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name in FORMATS:
        into = io.BytesIO()
        Image.new("RGB", (8, 8)).save(into, name, icc_profile=profile)
        square(into.getvalue(), 4, 64, denoise=True)


def _opened(data: bytes, max_pixels: int, side: int) -> Image.Image:
    """The first frame, decoded and upright."""
    if not data:
        raise MediaRejected("the file is empty")
    if is_vector_graphic(data):
        raise MediaRejected("SVG is not accepted: it is a program for a renderer; send it as PNG")
    # Our own limit stands below, in a setting; Pillow's warns of what it only suspects.
    Image.MAX_IMAGE_PIXELS = None
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of broken metadata
        try:
            image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError:
            raise MediaRejected(f"not a picture of a known format ({', '.join(FORMATS)})") from None
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise MediaRejected(f"a picture with a broken header: {error}") from None
        width, height = image.size
        if width < 1 or height < 1:
            raise MediaRejected(f"a picture of {width} x {height} pixels")
        if width * height > max_pixels:
            raise MediaRejected(
                f"{width} x {height} pixels are more than media.max_pixels = {max_pixels}; send a smaller picture"
            )
        try:
            image.draft(None, (side * 2, side * 2))  # a JPEG may be decoded at an eighth of its size
            image.load()
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise MediaRejected(f"a broken {image.format} file: {error}") from None
        try:
            profile = image.info.get("icc_profile")
            image = ImageOps.exif_transpose(image)
            image.info["icc_profile"] = profile
        except Exception:  # noqa: S110 - a picture with broken EXIF data is shown as it lies
            pass
    return image


def _resizable(image: Image.Image) -> Image.Image:
    """Modes between whose values one cannot interpolate (palettes, bits, 16 and 32 bits a channel) as RGB(A) or grey."""
    if image.mode in {"P", "PA", "1"} or (image.mode in {"RGB", "L"} and "transparency" in image.info):
        has_alpha = image.mode == "PA" or "transparency" in image.info
        return image.convert("RGBA" if has_alpha else "RGB")
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_eight_bits(np.asarray(image), image.mode))
    return image


def _eight_bits(values: NDArray[np.generic], mode: str) -> NDArray[np.uint8]:
    """Grey values of more than 8 bits: 16 bits by their range, floats and 32 bits beyond it by what is in the picture."""
    numbers = np.nan_to_num(np.asarray(values, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = 0.0, 65_535.0
    if mode == "F" or numbers.max() > high or numbers.min() < low:
        low, high = float(numbers.min()), float(numbers.max())
    return np.clip((numbers - low) * (255.0 / max(high - low, 1e-12)), 0, 255).astype(np.uint8)


def _rgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """In sRGB, on white. A profile that the colour library does not take is left aside: most are sRGB anyway."""
    if image.mode in ALPHA:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        shown = Image.new("RGB", image.size, "white")
        shown.paste(_in_srgb(image.convert("RGB"), profile), mask=alpha)
        return shown
    return _in_srgb(image, profile)


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    if image.mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        changed = ImageCms.profileToProfile(image, lab, ImageCms.createProfile("sRGB"), outputMode="RGB")
        return changed or image.convert("L").convert("RGB")
    if profile and len(profile) <= MAX_PROFILE_BYTES and image.mode in {"RGB", "CMYK", "L"}:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            changed = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            changed = None
        if changed is not None:
            return changed
    return image.convert("RGB")
