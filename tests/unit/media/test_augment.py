"""Augmented media are other than they were, the same for the same seed, and still what they were."""

from __future__ import annotations

import numpy as np
import pytest

from media_files import picture, tone
from upwell.media import augment

PIXELS = np.asarray(picture(96, 96))
SPOKEN = tone(1.0, 16_000)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("seed", range(5))
def test_pictures(seed: int) -> None:
    made = augment.image(PIXELS, rng(seed))
    assert made.shape == PIXELS.shape
    assert made.dtype == np.uint8
    assert (made == augment.image(PIXELS, rng(seed))).all()
    assert (made != augment.image(PIXELS, rng(seed + 1))).mean() > 0.5
    assert np.abs(made.astype(float) - PIXELS).mean() > 3
    # Red stays where the picture is red: more than a tenth of it, and less than half.
    red = (made[..., 0] > 150) & (made[..., 1] < 70) & (made[..., 2] < 70)
    assert 0.02 < red.mean() < 0.5


def test_a_drawings_paper_stays_white() -> None:
    drawing = np.full((40, 60, 3), 255, np.uint8)
    drawing[12:28, 20:40] = (180, 40, 90)
    for seed in range(5):
        made = augment.image(drawing, rng(seed))
        assert (made[0] == 255).all()
        assert (made == 255).all(2).mean() > 0.5
        assert (made[..., 1] < 120).any()


def test_no_strength_changes_nothing_and_letters_are_not_mirrored() -> None:
    still = augment.views(50, rng(), strength=0.0)
    assert (still.turns == np.eye(2)).all()
    assert not still.shifts.any()
    assert (still.saturations == 1).all()
    assert (still.gammas == 1).all()
    mirrors = np.arange(50) % 2 == 0
    turned = np.linalg.det(augment.views(50, rng(), mirrors=mirrors).turns) < 0
    assert turned[mirrors].any()
    assert not turned[~mirrors].any()


@pytest.mark.parametrize("seed", range(5))
def test_sounds(seed: int) -> None:
    made = augment.sound(SPOKEN, 16_000, rng(seed))
    assert made.shape == SPOKEN.shape
    assert made.dtype == np.float32
    assert np.abs(made).max() <= 1
    assert (made == augment.sound(SPOKEN, 16_000, rng(seed))).all()
    assert (made != augment.sound(SPOKEN, 16_000, rng(seed + 1))).any()
    assert 380 < _pitch(made) < 510


def test_an_empty_sound_stays_empty() -> None:
    assert augment.sound(SPOKEN[:0], 16_000, rng()).size == 0
    assert augment.sound(SPOKEN[:100], 16_000, rng()).shape == (100,)


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.3])
def test_a_stretch_changes_length_and_not_pitch(factor: float) -> None:
    made = augment.stretched(SPOKEN, factor)
    assert made.size == pytest.approx(SPOKEN.size * factor, rel=0.01)
    assert _pitch(made) == pytest.approx(440, abs=4)
    assert made[4_000:-4_000].std() == pytest.approx(SPOKEN.std(), rel=0.2)


@pytest.mark.parametrize("semitones", [-2.0, 0.0, 3.0])
def test_a_pitch_changes_pitch_and_not_length(semitones: float) -> None:
    made = augment.pitched(SPOKEN, 16_000, semitones)
    assert made.size == pytest.approx(SPOKEN.size, rel=0.01)
    assert _pitch(made) == pytest.approx(440 * 2 ** (semitones / 12), abs=5)


def test_texts() -> None:
    words = "The quick brown fox jumps over the lazy dog and runs into the dark forest"
    made = [augment.text(words, rng(seed)) for seed in range(20)]
    assert made == [augment.text(words, rng(seed)) for seed in range(20)]
    assert len(set(made)) > 10
    for text in made:
        remaining = iter(words.split())
        assert all(word in remaining for word in text.split())
    replaced = [augment.text(words, rng(seed), {"the": ["that"], "quick": ["fast", "swift"]}) for seed in range(20)]
    assert any("That" in text for text in replaced)
    assert any("fast" in text or "swift" in text for text in replaced)


def test_a_text_never_becomes_empty() -> None:
    assert all(augment.text("Alien", rng(seed)) == "Alien" for seed in range(50))
    assert not augment.text("  ", rng())


def _pitch(track: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(track * np.hanning(track.size)))
    return float(spectrum.argmax() * 16_000 / track.size)
