"""A film's file in; a few of its key frames, evenly by time, and its sound track out.

Runs inside the sandbox. Only the chosen key frames are decoded: the cost does not grow with the film's length.
"""

from __future__ import annotations

import io
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from upwell.media.audio import opened, sound
from upwell.media.errors import MediaRejected
from upwell.media.image import fit
from upwell.media.wire import Array, Job

CODECS: Final = frozenset("h264 hevc vp8 libvpx libvpx-vp9 vp9 av1 libdav1d mpeg4 mjpeg theora".split())
MAX_KEY_FRAMES: Final = 20_000


def film(data: bytes, job: Job) -> tuple[dict[str, Array], dict[str, str]]:
    """Frames and sound.

    Returns:
        `images` uint8 [k, side, side, 3], sRGB, 1 <= k <= job.frames; `sound_<rate>` as `audio.sound`, where there is a
        sound track that can be read. And notes: `level` of the sound.

    Raises:
        MediaRejected: no picture track, of an unknown kind, too large, or without a key frame that can be decoded.
    """
    arrays: dict[str, Array] = {"images": key_frames(data, job)}
    try:
        sounds, notes = sound(data, job.rates, job.seconds, job.denoise)
    except MediaRejected as error:
        # A film without sound is a film; so is one whose sound is of another kind.
        return arrays, {"silent": str(error)}
    return arrays | sounds, notes


def key_frames(data: bytes, job: Job) -> NDArray[np.uint8]:
    """uint8 [k, side, side, 3]; see `film`."""
    with opened(data) as file:
        stream = next(iter(file.streams.video), None)
        if stream is None:
            raise MediaRejected("there are no pictures in it")
        context = stream.codec_context
        if context.name not in CODECS:
            raise MediaRejected(f"its pictures are of a kind that is not read here: {context.name[:32]}")
        if context.width * context.height > job.max_pixels:
            raise MediaRejected(
                f"frames of {context.width} x {context.height} pixels are more than media.max_pixels = {job.max_pixels}"
            )
        context.thread_count = 1
        context.options = {"max_pixels": str(job.max_pixels)}
        chosen = _spread(_key_packets(file, stream), job.frames)
        frames = []
        for packet in chosen:
            frame = _frame(context, packet)
            if frame is not None and frame.width * frame.height <= job.max_pixels:
                frames.append(_upright(fit(frame.to_ndarray(format="rgb24"), job.side), frame.rotation))
    if not frames:
        raise MediaRejected("no key frame of it can be decoded")
    return np.stack(frames)


def _key_packets(file: Any, stream: Any) -> list[Any]:
    """In the file's order; up to where it is broken."""
    found: list[Any] = []
    try:
        for packet in file.demux(stream):
            if packet.is_keyframe and packet.size and len(found) < MAX_KEY_FRAMES:
                found.append(packet)
    except av.error.FFmpegError:
        if not found:
            raise
    return found


def _spread(packets: list[Any], most: int) -> list[Any]:
    """At most `most` packets, nearest to the middles of as many equal stretches of the film's time."""
    if len(packets) <= most:
        return packets
    times = np.array([float(packet.pts or packet.dts or 0) for packet in packets])
    if times.max() <= times.min():  # no times: evenly by number
        times = np.arange(len(packets), dtype=float)
    wanted = times.min() + (np.arange(most) + 0.5) * (times.max() - times.min()) / most
    nearest = np.abs(times[None, :] - wanted[:, None]).argmin(axis=1)
    return [packets[i] for i in np.unique(nearest)]


def _frame(context: Any, packet: Any) -> Any:
    """The picture of one key packet; None where it is broken. Decoders hold pictures back: the end makes them give."""
    try:
        frames = context.decode(packet) or context.decode(None)
    except (av.error.FFmpegError, ValueError, EOFError):
        frames = []
    context.flush_buffers()
    return frames[0] if frames else None


def _upright(pixels: NDArray[np.uint8], degrees: float) -> NDArray[np.uint8]:
    """Turned as the film says: telephones are held any way."""
    return np.rot90(pixels, round(degrees / 90) % 4) if degrees else pixels


def warm_up() -> None:
    """Loads what is loaded at the first use, by making a film and reading it."""
    into = io.BytesIO()
    with av.open(into, "w", format="avi") as file:
        pictures = file.add_stream("mjpeg", rate=5)
        pictures.width = pictures.height = 16
        pictures.pix_fmt = "yuvj420p"
        track = file.add_stream("pcm_s16le", rate=8_000)
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        noise = av.AudioFrame.from_ndarray(np.ones((1, 800), np.int16), format="s16", layout="mono")
        noise.sample_rate = 8_000
        for stream, made in ((pictures, frame), (track, noise)):
            file.mux(stream.encode(made))
            file.mux(stream.encode(None))
    film(into.getvalue(), Job("video", side=8, rates=(16_000,), seconds=1.0))
