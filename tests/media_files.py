"""Real media files, made here: small, and of every kind that is read."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from typing import Any

import av
import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")
SOUND_FORMATS = ("WAV", "FLAC", "OGG", "MP3")


def picture(width: int = 96, height: int = 64) -> Image.Image:
    """A gradient with a red square left above: which way is up can be seen."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    pixels = np.stack([across, down, 255 - across], axis=-1).astype(np.uint8)
    pixels[: height // 3, : width // 3] = (255, 0, 0)
    return Image.fromarray(pixels)


def image_file(kind: str = "PNG", image: Image.Image | None = None, **options: Any) -> bytes:
    into = io.BytesIO()
    (image or picture()).save(into, kind, **options)
    return into.getvalue()


def tone(seconds: float = 1.0, rate: int = 44_100, hertz: float = 440.0, level: float = 0.3) -> NDArray[np.float32]:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def sound_file(
    kind: str = "WAV", track: NDArray[np.float32] | None = None, rate: int = 44_100, **options: Any
) -> bytes:
    into = io.BytesIO()
    soundfile.write(into, tone() if track is None else track, rate, format=kind, **options)
    return into.getvalue()


@functools.cache
def film_file(kind: str = "mp4", seconds: int = 4, side: int = 64, sound: bool = True) -> bytes:
    """A film that goes from black to white, a key frame every half second, and a tone."""
    into = io.BytesIO()
    codec, audio, rate = ("mpeg4", "aac", 44_100) if kind == "mp4" else ("libvpx-vp9", "libopus", 48_000)
    with av.open(into, "w", format=kind) as file:
        pictures = file.add_stream(codec, rate=10)
        pictures.width = pictures.height = side
        pictures.pix_fmt = "yuv420p"
        pictures.codec_context.gop_size = 5
        if kind == "webm":
            pictures.options = {"deadline": "realtime", "cpu-used": "8"}
        track = file.add_stream(audio, rate=rate) if sound else None
        for number in range(seconds * 10):
            grey = np.full((side, side, 3), number * 255 // (seconds * 10), np.uint8)
            file.mux(pictures.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        file.mux(pictures.encode(None))
        if track is not None:
            samples = tone(seconds, rate)[None]
            for start in range(0, samples.shape[1] - 960, 960):
                frame = av.AudioFrame.from_ndarray(samples[:, start : start + 960], format="fltp", layout="mono")
                frame.sample_rate, frame.pts = rate, start
                file.mux(track.encode(frame))
            file.mux(track.encode(None))
    return into.getvalue()


@functools.cache
def seeds() -> dict[str, tuple[str, bytes]]:
    """A good file of every format: name to kind and bytes."""
    found = {name: ("image", image_file(name)) for name in IMAGE_FORMATS}
    found |= {name: ("audio", sound_file(name, tone(0.7))) for name in SOUND_FORMATS}
    found |= {name: ("video", film_file(name, seconds=2)) for name in ("mp4", "webm")}
    return found


def png_of(width: int, height: int, rows: bytes) -> bytes:
    """A PNG whose header says any size, over any compressed rows."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def wav_of(claimed: int, body: bytes, rate: int = 44_100, channels: int = 1) -> bytes:
    """A WAV whose header says any length and rate."""
    width = 2 * channels
    head = struct.pack("<HHIIHH", 1, channels, rate, (rate * width) & 0xFFFFFFFF, width, 16)
    return (
        b"RIFF" + struct.pack("<I", (claimed + 36) & 0xFFFFFFFF) + b"WAVEfmt " + struct.pack("<I", 16) + head
        + b"data" + struct.pack("<I", claimed & 0xFFFFFFFF) + body
    )  # fmt: skip
