"""A picture, a sound or a text and a seeded generator in; a plausible other one of the same meaning out. Pure.

For training, and for items of which there is little. The same generator state gives the same bits; shapes and dtypes
stay what they were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import soxr
from numpy.typing import NDArray
from PIL import Image
from scipy import signal

DEGREES: Final = 15.0
ZOOM: Final = (0.75, 1.1)
"""Share of the picture's side that is shown: below 1 a crop, above 1 a picture that was scaled down."""
SHIFT: Final = 0.5
"""Where a crop lies: this share of the way from the middle to the border."""
MIRRORED: Final = 0.5
"""Share of pictures."""
COLOUR: Final = 0.2
"""Saturation changes by up to this share, and each channel's gamma."""
LUMA: Final = (0.299, 0.587, 0.114)
"""Of red, green and blue: ITU-R BT.601."""
LEAST: Final = 1 / 255
"""What counts as black: below it a power's slope has no bound."""
NOISE_DB: Final = (15.0, 40.0)
"""Signal-to-noise ratio."""
SEMITONES: Final = 2.0
STRETCH: Final = (0.85, 1.15)
WINDOW: Final = 1_024
"""Samples of a window of the time stretch."""
DROPPED: Final = 0.15
REPLACED: Final = 0.3


@dataclass(frozen=True, slots=True)
class Views:
    """How each of n pictures is seen, drawn by `views`. `image` applies one to bytes, `training/pictures.py` to tensors."""

    turns: NDArray[np.float32]
    """[n, 2, 2]: from the middle, in pixels, a place (x, y) of the new picture to that of the old one: turn, zoom, mirror."""
    shifts: NDArray[np.float32]
    """[n, 2]: how far the shown part lies from the middle, in shares of width and height."""
    saturations: NDArray[np.float32]
    """[n]: 0 is grey, 1 as it is."""
    gammas: NDArray[np.float32]
    """[n, 3]: exponent of each channel, of values from 0 to 1. White stays white, so a drawing's paper does."""


def views(n: int, rng: np.random.Generator, strength: float = 1.0, mirrors: NDArray[np.bool_] | bool = True) -> Views:
    """Chance for n pictures.

    Args:
        strength: share of the bounds above; 0 leaves pictures as they are.
        mirrors: which ones may be mirrored, [n] or all alike.
    """
    angles = np.deg2rad(rng.uniform(-DEGREES, DEGREES, n) * strength)
    zooms = 1 + strength * (rng.uniform(*ZOOM, n) - 1)
    sides = np.where((rng.random(n) < MIRRORED * strength) & mirrors, -1.0, 1.0)
    shifts = rng.uniform(-SHIFT, SHIFT, (n, 2)) * (1 - zooms)[:, None]
    cosine, sine = np.cos(angles) * zooms, np.sin(angles) * zooms
    turns = np.stack([np.stack([cosine * sides, -sine], 1), np.stack([sine * sides, cosine], 1)], 1)
    saturations = 1 + strength * rng.uniform(-COLOUR, COLOUR, n)
    gammas = np.exp(strength * rng.uniform(-COLOUR, COLOUR, (n, 3)))
    return Views(*(part.astype(np.float32) for part in (turns, shifts, saturations, gammas)))


def image(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Rotated by up to 15 degrees, cropped or scaled, mirrored half the time, with other light and colour.

    Args:
        pixels: uint8 [height, width, 3]. What a rotation lays bare is filled with the picture's mean border colour.
    """
    view = views(1, rng)
    size = np.array([pixels.shape[1], pixels.shape[0]])
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]).mean(axis=0)
    # Pillow maps places of the new picture to places of the old one, from their corners.
    turn, middle = view.turns[0], size / 2
    matrix = np.column_stack([turn, middle + view.shifts[0] * size - turn @ middle])
    turned = Image.fromarray(pixels).transform(
        (pixels.shape[1], pixels.shape[0]),
        Image.Transform.AFFINE,
        tuple(matrix.ravel()),
        Image.Resampling.BICUBIC,
        fillcolor=tuple(int(value) for value in border.round()),
    )
    values = np.asarray(turned, np.float32) / 255
    grey = (values @ np.array(LUMA, np.float32))[..., None]
    values = np.clip(grey + (values - grey) * view.saturations[0], LEAST, 1) ** view.gammas[0]
    return np.asarray((values * 255).round(), np.uint8)


def sound(track: NDArray[np.float32], rate: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Up to 2 semitones higher or lower, up to 15% longer or shorter (then cut, or padded with silence), with white noise
    at 15 to 40 dB.

    Args:
        track: float32 [n], mono, within -1 to 1.
        rate: Hz.
    """
    size = track.size
    if not size:
        return track
    changed = pitched(track, rate, rng.uniform(-SEMITONES, SEMITONES))
    changed = stretched(changed, rng.uniform(*STRETCH))
    changed = np.pad(changed[:size], (0, max(0, size - changed.size)))
    power = float(np.mean(np.square(changed, dtype=np.float64)))
    noise = rng.standard_normal(size) * np.sqrt(power / 10 ** (rng.uniform(*NOISE_DB) / 10))
    return np.asarray(np.clip(changed + noise, -1, 1), np.float32)


def stretched(track: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """`factor` times as long at the same pitch: a phase vocoder (Flanagan and Golden 1966; Laroche and Dolson 1999).

    Returns:
        float32 [about n x factor]; shorter sounds than 4 windows (4,096 samples) stay as they are.
    """
    if track.size < 4 * WINDOW:
        return track
    hop = WINDOW // 4
    transform = signal.ShortTimeFFT(signal.windows.hann(WINDOW, sym=False), hop, fs=1.0)
    spectrum = transform.stft(track.astype(np.float64))
    steps = np.arange(0, spectrum.shape[1] - 1, 1 / factor)
    at, share = steps.astype(int), steps % 1
    magnitude = (1 - share) * np.abs(spectrum[:, at]) + share * np.abs(spectrum[:, at + 1])
    # How far a phase moves from one window to the next, beyond what its bin's frequency explains.
    expected = 2 * np.pi * hop * np.arange(spectrum.shape[0])[:, None] / WINDOW
    angles = np.angle(spectrum)
    moved = np.diff(angles, axis=1) - expected
    moved -= 2 * np.pi * np.round(moved / (2 * np.pi))
    advance = (expected + moved)[:, at]
    phase = np.cumsum(np.concatenate([angles[:, :1], advance[:, :-1]], axis=1), axis=1)
    made = transform.istft(magnitude * np.exp(1j * phase), k1=round(track.size * factor))
    return np.asarray(made, np.float32)


def pitched(track: NDArray[np.float32], rate: int, semitones: float) -> NDArray[np.float32]:
    """Higher or lower by so many semitones, as long as before: stretched, then resampled.

    Returns:
        float32 [about n].
    """
    ratio = 2.0 ** (semitones / 12)
    longer = stretched(track, ratio)
    if longer is track:
        return track
    return np.asarray(soxr.resample(longer, rate * ratio, rate), np.float32)


def text(words: str, rng: np.random.Generator, synonyms: Mapping[str, Sequence[str]] | None = None) -> str:
    """Some words left out, and some that have synonyms replaced (EDA, Wei and Zou 2019).

    Args:
        synonyms: by lower-case word. Without a mapping words are only left out.

    Returns:
        At least one word, where there was one; spaces are single.
    """
    known = synonyms or {}
    before = words.split()
    chance = rng.random((len(before), 2))
    after = []
    for word, (drop, replace) in zip(before, chance, strict=True):
        others = known.get(word.lower(), ())
        if others and replace < REPLACED:
            other = others[int(rng.integers(len(others)))]
            after.append(other.capitalize() if word[:1].isupper() else other)
        elif drop >= DROPPED:
            after.append(word)
    return " ".join(after or before[:1])
