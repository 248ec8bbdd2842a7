"""A sound's file, or a film's, in; mono float32 at the asked rates, without silence at its ends, equally loud, out.

Runs inside the sandbox. Decoding stops after the asked time: a sound without end is never held whole.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import av
import noisereduce
import numpy as np
import pyloudnorm
import soxr
from numpy.typing import NDArray

from upwell.media.errors import MediaRejected
from upwell.media.sniff import container
from upwell.media.wire import Array

RATE: Final = 44_100
"""Hz at which a sound is worked on."""
LOUDNESS: Final = -23.0
"""LUFS, the target of EBU R 128."""
BLOCK_S: Final = 0.4
"""ITU-R BS.1770 measures blocks of this length; of a shorter sound there is no loudness."""
PEAK: Final = 0.9
"""Where there is no loudness, the largest sample has this value."""
SILENCE_DB: Final = -50.0
"""A window this far below the loudest one is silent."""
WINDOW_S: Final = 0.02
CODECS: Final = frozenset("vorbis opus flac mp3 mp3float aac alac ac3".split())
RATES: Final = (2_000, 384_000)
MAX_CHANNELS: Final = 16
OPTIONS: Final = {"probesize": "2000000", "analyzeduration": "5000000"}


@contextmanager
def opened(data: bytes) -> Iterator[Any]:
    """The file as PyAV's container, by a demuxer that reads nothing but these bytes.

    Raises:
        MediaRejected: neither a sound nor a film, or broken.
    """
    try:
        with av.open(io.BytesIO(data), format=container(data), options=OPTIONS, metadata_errors="replace") as file:
            yield file
    except (av.error.FFmpegError, EOFError) as error:
        raise MediaRejected(f"a broken file: {said(error)}") from None


def said(error: Exception) -> str:
    """FFmpeg's own words, without its numbers."""
    return str(getattr(error, "strerror", None) or error)


def sound(
    data: bytes, rates: Sequence[int], seconds: float, denoise: bool = False
) -> tuple[dict[str, Array], dict[str, str]]:
    """The first `seconds` of the file's first sound track.

    Returns:
        `sound_<rate>` for each rate: float32 [n], within -1 to 1; n is 0 where the track is silent. And notes: `level`
        is `loudness` (at -23 LUFS), `peak` (too short to have a loudness: its largest sample at .9) or `silent`.

    Raises:
        MediaRejected: no sound track, of an unknown kind, or broken from its beginning.
    """
    track, rate = _decoded(data, seconds)
    return processed(track, rate, rates, seconds, denoise)


def processed(
    track: NDArray[np.float32], rate: int, rates: Sequence[int], seconds: float, denoise: bool
) -> tuple[dict[str, Array], dict[str, str]]:
    """A decoded mono track, prepared; see `sound`."""
    worked = track if rate == RATE else soxr.resample(track, rate, RATE)
    worked = trimmed(worked[: round(seconds * RATE)])
    if denoise and worked.size > RATE * BLOCK_S:
        # In one piece: the library keeps longer ones in a file, and there are no files here.
        gated = noisereduce.reduce_noise(y=worked, sr=RATE, stationary=True, chunk_size=worked.size)
        worked = np.asarray(gated, np.float32)
    worked, level = levelled(worked)
    arrays: dict[str, Array] = {}
    for wanted in rates:
        resampled = worked if wanted == RATE or not worked.size else soxr.resample(worked, RATE, wanted)
        arrays[f"sound_{wanted}"] = np.clip(resampled, -1, 1).astype("<f4")
    return arrays, {"level": level}


def trimmed(track: NDArray[np.float32]) -> NDArray[np.float32]:
    """Without what is silent, that is 50 dB below the loudest 20 ms, before and after; empty if all is."""
    window = round(WINDOW_S * RATE)
    if not track.size:
        return track
    padded = np.pad(track, (0, -track.size % window)).reshape(-1, window)
    power = np.mean(np.square(padded, dtype=np.float64), axis=1)
    if power.max() < 1e-12:  # -120 dB: nothing that anybody hears
        return track[:0]
    loud = np.flatnonzero(power > power.max() * 10 ** (SILENCE_DB / 10))
    return track[loud[0] * window : (loud[-1] + 1) * window]


def levelled(track: NDArray[np.float32]) -> tuple[NDArray[np.float32], str]:
    """At -23 LUFS (ITU-R BS.1770-4, EBU R 128), quieter where a sample would be beyond 1; shorter than one block of the
    measure, its largest sample at .9. And which of the two, or `silent`."""
    if not track.size:
        return track, "silent"
    peak = float(np.abs(track).max())
    if track.size > BLOCK_S * RATE:
        with np.errstate(divide="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # -inf LUFS, which is seen to here
            loudness = float(pyloudnorm.Meter(RATE, block_size=BLOCK_S).integrated_loudness(track.astype(np.float64)))
        if np.isfinite(loudness):
            gain = min(10 ** ((LOUDNESS - loudness) / 20), 1 / peak)
            return (track * np.float32(gain)).astype(np.float32), "loudness"
    return (track * np.float32(PEAK / peak)).astype(np.float32), "peak"


def warm_up() -> None:
    """Loads what is loaded at the first use."""
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    processed(noise, 16_000, (RATE, 16_000), 1.0, denoise=True)
    processed(noise[:1_000], 16_000, (RATE, 8_000), 1.0, denoise=True)


def _decoded(data: bytes, seconds: float) -> tuple[NDArray[np.float32], int]:
    """Mono float32 [n] and its rate. What comes before a broken place counts."""
    parts: list[NDArray[np.float32]] = []
    rate, held = 0, 0
    with opened(data) as file:
        stream = next(iter(file.streams.audio), None)
        if stream is None:
            raise MediaRejected("there is no sound track in it")
        context = stream.codec_context
        if context.name not in CODECS and not context.name.startswith("pcm_"):
            raise MediaRejected(f"its sound track is of a kind that is not read here: {context.name[:32]}")
        if not RATES[0] <= (context.sample_rate or 0) <= RATES[1] or not 1 <= context.channels <= MAX_CHANNELS:
            raise MediaRejected(f"a sound track of {context.sample_rate} Hz and {context.channels} channels")
        context.thread_count = 1
        mixer = av.AudioResampler(format="flt", layout="mono")
        try:
            for packet in file.demux(stream):
                for decoded in packet.decode():
                    for frame in mixer.resample(decoded):
                        rate = rate or frame.sample_rate
                        parts.append(frame.to_ndarray().reshape(-1))
                        held += parts[-1].size
                if rate and held >= seconds * rate:
                    break
        except (av.error.FFmpegError, ValueError) as error:
            if not held:
                raise MediaRejected(f"a broken sound track: {said(error)}") from None
    if not held or not RATES[0] <= rate <= RATES[1]:
        raise MediaRejected("no sound can be decoded from it")
    track = np.concatenate(parts)[: round(seconds * rate)]
    # A file of floats may hold any.
    return np.clip(np.nan_to_num(track, nan=0.0, posinf=0.0, neginf=0.0), -64, 64).astype(np.float32), rate
