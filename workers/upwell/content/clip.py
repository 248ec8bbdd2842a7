"""Pictures, a poster, a text and its speech in; a clip of 5 to 10 seconds out: pans, captions, narration. Pure.

480 x 720 at 24 frames a second; H.264 and AAC in MP4 where PyAV has x264, else VP9 and Opus in WebM. The poster is the
last picture; captions go with the narration, which begins a moment after the first one. Same input, same frames;
x264 may pack them into other bytes now and then.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from upwell.content import sound, typeset
from upwell.content.sound import Narration

WIDTH: Final = 480
HEIGHT: Final = 720
RATE: Final = 24
"""Frames per second."""
SHORTEST_S: Final = 5.0
LONGEST_S: Final = 10.0
NARRATION_AT_S: Final = 0.35
POSTER_S: Final = 1.9
"""The poster is seen at least so long, where the narration leaves room for it ..."""
POSTER_LEAST_S: Final = 1.0
"""... and in any case so long."""
FADE_S: Final = 0.45
SCENE_S: Final = 1.4
"""A picture is seen at least so long."""
CAPTION_CHARS: Final = 42

Pixels = npt.NDArray[np.uint8]
Image8 = Image.Image


@dataclass(frozen=True, slots=True)
class Clip:
    """A finished clip."""

    data: bytes
    mime: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Caption:
    """A part of the text, and from when to when it is shown, in seconds."""

    text: str
    start: float
    end: float


def clip(
    pictures: Sequence[Pixels],
    poster: Pixels,
    text: str,
    narration: Narration | None = None,
    *,
    fonts: Sequence[str] = (),
) -> Clip:
    """Make a clip.

    Args:
        pictures: each uint8 [h, w, 3], RGB, upright 2:3 as `poster.ground` makes them; shown in turn, none is possible.
        poster: uint8 [h, w, 3] of the same shape: the last picture.
        text: shown as captions, in the narration's time.
        narration: the text spoken; beyond `LONGEST_S` it fades out. Without one the clip has no sound track.
        fonts: files asked before those of `typeset.fonts`.

    Raises:
        ValueError: a picture has another dtype or shape.
    """
    for pixels in (*pictures, poster):
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or min(pixels.shape[:2]) < 2:
            raise ValueError(f"a picture is uint8 [h, w, 3], not {pixels.dtype} {pixels.shape}")
    spoken = narration.seconds if narration is not None else max(2.0, len(text) / 15)
    total = min(LONGEST_S, max(SHORTEST_S, NARRATION_AT_S + spoken + POSTER_S))
    total = round(total * RATE) / RATE
    last = max(min(POSTER_S, total - NARRATION_AT_S - spoken), POSTER_LEAST_S)
    shown = captions(text, NARRATION_AT_S, min(NARRATION_AT_S + spoken, total - last))
    frames = _frames(pictures or [poster], poster, total, total - last, shown, fonts)
    data, mime = _encode(frames, narration, total)
    return Clip(data, mime, total)


def captions(text: str, start: float, end: float) -> list[Caption]:
    """The text in parts of at most about 42 characters, broken at sentences and phrases first; each is shown for as
    long as its share of the characters, which is close to how long it is spoken.
    """
    parts: list[str] = []
    for sentence in re.split(r"(?<=[.!?…])\s+|(?<=[。！？])", text.strip()):
        words, line = sentence.split(), ""
        for word in words:
            if line and (
                len(line) + 1 + len(word) > CAPTION_CHARS or (line.endswith((",", ";", ":")) and len(line) > 24)
            ):
                parts.append(line)
                line = word
            else:
                line = f"{line} {word}".strip()
        if line:
            parts.append(line)
    whole = sum(len(part) + 1 for part in parts)
    found, at = [], start
    for part in parts:
        until = at + (end - start) * (len(part) + 1) / whole
        found.append(Caption(part, at, until))
        at = until
    return found


def _frames(
    pictures: Sequence[Pixels], poster: Pixels, total: float, poster_at: float, shown: Sequence[Caption],
    fonts: Sequence[str],
) -> Iterator[Image8]:  # fmt: skip
    """Every frame in turn, RGB 480 x 720."""
    count = max(1, min(len(pictures), int(poster_at / SCENE_S)))
    length = poster_at / count
    scenes = [(Image.fromarray(pictures[n]), n * length, (n + 1) * length, n) for n in range(count)]
    scenes.append((Image.fromarray(poster), poster_at, total, -1))
    overlays = [(caption, _overlay(caption.text, fonts)) for caption in shown]
    for number in range(round(total * RATE)):
        now = number / RATE
        at = max(n for n, scene in enumerate(scenes) if scene[1] <= now)
        frame = _moved(scenes[at], now)
        into = now - scenes[at][1]
        if at and into < FADE_S:
            frame = Image.blend(_moved(scenes[at - 1], now), frame, _eased(into / FADE_S))
        for caption, (overlay, left, top) in overlays:
            if caption.start <= now < caption.end:
                frame.paste(overlay, (left, top), overlay)
        yield frame


def _moved(scene: tuple[Image8, float, float, int], now: float) -> Image8:
    """A scene's picture as the camera sees it: slowly nearer, further, or along; the poster stands nearly still."""
    image, start, end, number = scene
    share = _eased(min(1.0, (now - start) / (end - start)))  # past the end while the next one fades in
    near, x, y = {
        -1: (1.0 - 0.015 * (1 - share), 0.5, 0.5),
        0: (1.0 - 0.16 * share, 0.5, 0.32),
        1: (0.84, share, 0.4),
        2: (0.84 + 0.16 * share, 0.5, 0.4),
        3: (0.84, 0.5, 1 - share),
    }[number if number < 0 else number % 4]
    width = min(image.width, image.height * WIDTH / HEIGHT) * near
    height = width * HEIGHT / WIDTH
    left, top = max(0.0, (image.width - width) * x), max(0.0, (image.height - height) * y)
    box = (left, top, min(image.width, left + width), min(image.height, top + height))
    return image.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR, box)


def _eased(share: float) -> float:
    """Slow at both ends, 0 to 1."""
    return share * share * (3 - 2 * share)


def _overlay(text: str, fonts: Sequence[str]) -> tuple[Image8, int, int]:
    """A caption on its dark plate, RGBA, and where it goes."""
    setting = typeset.fit(
        text,
        typeset.fonts("bold", fonts),
        width=WIDTH - 96,
        height=110,
        largest=28,
        smallest=20,
        most_lines=3,
        leading=1.25,
    )
    if not setting.lines:
        return Image.new("RGBA", (1, 1)), 0, 0
    pad = 14
    width, height = setting.width + 2 * pad, setting.height + 2 * pad - 4
    plate = Image.new("RGBA", (width, height), (0, 0, 0, 0))
    draw = ImageDraw.Draw(plate)
    draw.rounded_rectangle((0, 0, width - 1, height - 1), 14, (10, 10, 14, 190))
    ascent, descent = setting.font.getmetrics()
    for n, line in enumerate(setting.lines):
        left = (width - setting.font.getlength(line)) / 2
        top = pad - 2 + n * setting.leading + (setting.leading - ascent - descent) / 2
        draw.text((left, top), line, (255, 255, 255, 255), setting.font)
    return plate, (WIDTH - width) // 2, HEIGHT - 56 - height


def _encode(frames: Iterator[Image8], narration: Narration | None, total: float) -> tuple[bytes, str]:
    """Frames and sound muxed. A file is needed: an index at the front is written in a second pass over it."""
    if _has("libx264") and _has("aac"):
        suffix, mime, video, codec = "mp4", "video/mp4", "libx264", "aac"
        options = {"preset": "veryfast", "crf": "23"}
        container = {"movflags": "+faststart", "fflags": "+bitexact"}
    else:
        suffix, mime, video, codec = "webm", "video/webm", "libvpx-vp9", "libopus"
        options = {"deadline": "realtime", "cpu-used": "8", "crf": "34", "b": "0"}
        container = {"fflags": "+bitexact"}
    with tempfile.TemporaryDirectory(prefix="upwell-clip-") as folder:
        file = Path(folder) / f"clip.{suffix}"
        with av.open(str(file), "w", options=container) as output:
            pictures = output.add_stream(video, rate=RATE, options=options)
            pictures.width, pictures.height, pictures.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            pictures.time_base = Fraction(1, RATE)
            # One core is enough; the others rank.
            pictures.codec_context.thread_count = 1
            track = output.add_stream(codec, rate=sound.RATES[codec], layout="mono") if narration is not None else None
            for number, image in enumerate(frames):
                frame = av.VideoFrame.from_image(image)
                frame.pts, frame.time_base = number, Fraction(1, RATE)
                output.mux(pictures.encode(frame))
            output.mux(pictures.encode())
            if track is not None and narration is not None:
                sound.mux(output, track, _soundtrack(narration, total), narration.rate)
        return file.read_bytes(), mime


def _soundtrack(narration: Narration, total: float) -> npt.NDArray[np.int16]:
    """The narration in its place, silence around it; what is beyond the end fades out. int16 [total * rate]."""
    rate = narration.rate
    track = np.zeros(round(total * rate), dtype=np.int16)
    start = round(NARRATION_AT_S * rate)
    part = narration.audio[: len(track) - start].astype(np.float32)
    if len(part) < len(narration.audio):
        fade = min(len(part), rate // 2)
        part[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    track[start : start + len(part)] = part.astype(np.int16)
    return track


def _has(codec: str) -> bool:
    try:
        av.codec.Codec(codec, "w")
    except ValueError:
        return False
    return True
