"""Mono samples in, compressed sound out: alone in a file, or beside the pictures of a clip. Pure."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import numpy.typing as npt

RATES: Final = {"aac": 44_100, "libopus": 48_000}
"""Samples per second that each codec is fed with."""


@dataclass(frozen=True, slots=True)
class Narration:
    """A spoken text: samples int16 [n], mono, and their rate per second."""

    audio: npt.NDArray[np.int16]
    rate: int

    @property
    def seconds(self) -> float:
        return len(self.audio) / self.rate


def encode(narration: Narration) -> tuple[bytes, str]:
    """AAC in MP4, its index at the front; with its MIME type. Same samples, same bytes."""
    with tempfile.TemporaryDirectory(prefix="upwell-sound-") as folder:
        file = Path(folder) / "speech.m4a"
        options = {"movflags": "+faststart", "fflags": "+bitexact"}
        with av.open(str(file), "w", format="mp4", options=options) as output:
            track = output.add_stream("aac", rate=RATES["aac"], layout="mono")
            mux(output, track, narration.audio, narration.rate)
        return file.read_bytes(), "audio/mp4"


def mux(output: Any, stream: Any, samples: npt.NDArray[np.int16], rate: int) -> None:
    """Compress samples, int16 [n], into a stream of PyAV's, resampled to its rate."""
    resampler = av.AudioResampler(format=stream.format.name, layout="mono", rate=stream.rate)
    block = max(1, rate // 2)
    for start in range(0, len(samples), block):
        frame = av.AudioFrame.from_ndarray(samples[None, start : start + block], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        for resampled in resampler.resample(frame):
            output.mux(stream.encode(resampled))
    for rest in resampler.resample(None):
        output.mux(stream.encode(rest))
    output.mux(stream.encode())
