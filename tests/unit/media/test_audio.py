"""Sounds come out mono, at the asked rates, without silence around them, and equally loud."""

from __future__ import annotations

import numpy as np
import pyloudnorm
import pytest

from media_files import SOUND_FORMATS, film_file, sound_file, tone, wav_of
from upwell.media import audio
from upwell.media.errors import MediaRejected

RATES = (44_100, 16_000)


def heard(data: bytes, seconds: float = 30.0, denoise: bool = False) -> tuple[np.ndarray, np.ndarray, str]:
    arrays, notes = audio.sound(data, RATES, seconds, denoise)
    for array in arrays.values():
        assert array.dtype == np.float32
        assert array.ndim == 1
        assert np.isfinite(array).all()
        assert np.abs(array).max(initial=0) <= 1
    return arrays["sound_44100"], arrays["sound_16000"], notes["level"]


def pitch(track: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(track * np.hanning(track.size)))
    return float(spectrum.argmax() * rate / track.size)


@pytest.mark.parametrize("kind", SOUND_FORMATS)
def test_every_format_sounds_the_same(kind: str) -> None:
    sound, speech, level = heard(sound_file(kind, tone(2.0)))
    assert level == "loudness"
    assert sound.size == pytest.approx(2 * 44_100, rel=0.05)
    assert speech.size == pytest.approx(sound.size * 16_000 / 44_100, abs=2)
    assert pitch(sound, 44_100) == pytest.approx(440, abs=2)
    assert pitch(speech, 16_000) == pytest.approx(440, abs=2)
    assert pyloudnorm.Meter(44_100).integrated_loudness(sound.astype(float)) == pytest.approx(-23, abs=0.2)


@pytest.mark.parametrize("kind", ["mp4", "webm"])
def test_the_sound_of_a_film(kind: str) -> None:
    sound, _, _ = heard(film_file(kind))
    assert sound.size == pytest.approx(4 * 44_100, rel=0.05)
    assert pitch(sound, 44_100) == pytest.approx(440, abs=2)


@pytest.mark.parametrize(
    ("rate", "subtype"), [(8_000, "PCM_U8"), (22_050, "PCM_24"), (48_000, "FLOAT"), (96_000, "PCM_32")]
)
def test_rates_and_sample_formats(rate: int, subtype: str) -> None:
    sound, _, _ = heard(sound_file("WAV", tone(1.0, rate), rate, subtype=subtype))
    assert sound.size == pytest.approx(44_100, rel=0.05)
    assert pitch(sound, 44_100) == pytest.approx(440, abs=3)


def test_channels_are_mixed() -> None:
    left, right = tone(1.0, hertz=400), tone(1.0, hertz=900)
    sound, _, _ = heard(sound_file("WAV", np.stack([left, right], axis=1)))
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(sound.size)))
    both = [spectrum[round(hertz * sound.size / 44_100) - 2 :][:5].max() for hertz in (400, 900)]
    assert min(both) > 0.5 * max(both)


def test_silence_around_a_sound_goes() -> None:
    silence = np.zeros(44_100, np.float32)
    quiet = 1e-4 * np.random.default_rng(0).standard_normal(44_100).astype(np.float32)
    sound, _, _ = heard(sound_file("WAV", np.concatenate([silence, tone(1.0), silence[:8_000], tone(1.0), quiet])))
    assert sound.size == pytest.approx(2.18 * 44_100, rel=0.02)


def test_a_silent_sound_is_empty() -> None:
    sound, speech, level = heard(sound_file("WAV", np.zeros(44_100, np.float32)))
    assert (sound.size, speech.size, level) == (0, 0, "silent")


def test_too_short_for_a_loudness_it_is_levelled_by_its_peak() -> None:
    sound, _, level = heard(sound_file("WAV", tone(0.2, level=0.01)))
    assert level == "peak"
    assert np.abs(sound).max() == pytest.approx(0.9, abs=0.05)


def test_it_is_cut_while_it_is_decoded() -> None:
    sound, _, _ = heard(sound_file("OGG", tone(10.0)), seconds=1.5)
    assert sound.size == pytest.approx(1.5 * 44_100, rel=0.02)


def test_a_claim_of_hours_counts_for_nothing() -> None:
    body = (tone(1.0) * 32_767).astype("<i2").tobytes()
    sound, _, _ = heard(wav_of(0xFFFFFF00, body))
    assert sound.size == pytest.approx(44_100, rel=0.05)


def test_samples_that_are_no_numbers() -> None:
    track = tone(1.0)
    track[1_000:1_100] = np.nan
    track[2_000:2_100] = np.inf
    heard(sound_file("WAV", track, subtype="FLOAT"))


def test_denoising_lowers_the_noise_between() -> None:
    rng = np.random.default_rng(0)
    track = 0.01 * rng.standard_normal(3 * 44_100).astype(np.float32)
    track[44_100:50_000] += tone(1.0)[:5_900]
    data = sound_file("WAV", track)
    noisy, _, _ = heard(data)
    clean, _, _ = heard(data, denoise=True)
    assert clean[-20_000:].std() / np.abs(clean).max() < 0.3 * noisy[-20_000:].std() / np.abs(noisy).max()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "neither a sound nor a film"),
        (b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/x\n", "neither a sound nor a film"),
        (b"ffconcat version 1.0\nfile '/etc/passwd'\n", "neither a sound nor a film"),
        (b"RIFF\0\0\0\0WAVE", "broken|no sound"),
        (b"OggS" + bytes(200), "broken|no sound"),
        (wav_of(1_000, b"", rate=1), "a sound track of 1 Hz|no sound"),
        (wav_of(8_000, bytes(8_000), channels=40), "40 channels"),
        (film_file("mp4", sound=False), "no sound track"),
    ],
)
def test_what_is_refused_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(MediaRejected, match=reason):
        heard(data)
