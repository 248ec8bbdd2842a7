"""The media of items in; per item the pictures, the sound and the speech that the encoders read, or why not, out.

At most `media.in_flight` items are held at a time, each with one file's bytes and its own arrays, whatever the length of
the batch; no item takes longer than `media.item_timeout_s`. Thread-safe.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from upwell.events.contracts import Media
from upwell.media.errors import MediaError, MediaRejected, MediaUnavailable
from upwell.media.fetch import Fetcher
from upwell.media.sandbox import Decoded, Sandbox
from upwell.media.wire import Job, Limits
from upwell.settings import MediaSettings
from upwell.telemetry import metrics

SIDE: Final = 224
"""Pixels: what the image encoder reads."""
MOST_IMAGES: Final = 4
MOST_FRAMES: Final = 8
SOUND_RATE: Final = 44_100
SPEECH_RATE: Final = 16_000
KINDS: Final = ("image", "audio", "speech", "video")
MOST_THUMBNAIL: Final = 2_048

Sound = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the encoders read of one item's media; nothing of what it does not have."""

    images: NDArray[np.uint8]
    """uint8 [k, 224, 224, 3], sRGB: the first 4 pictures, or where there is none up to 8 key frames of a film."""
    sound: Sound | None = None
    """float32 [n] at 44.1 kHz, mono, at -23 LUFS; of the first audio, else speech, else film; None where all is silent."""
    speech: Sound | None = None
    """float32 [n] at 16 kHz; of the first speech, else audio, else film. Whether anybody speaks is not known yet."""
    levelled: str = ""
    """`loudness`, or `peak` where the sound is too short to have a loudness; see `upwell.media.audio`."""
    unread: int = 0
    """Pieces that nothing was needed of: a fifth picture, a second sound."""


Outcome = Prepared | MediaRejected | MediaUnavailable


class Preparer:
    """Fetches and decodes. Close it: it holds decoding processes."""

    def __init__(self, settings: MediaSettings) -> None:
        self.settings = settings
        self.fetcher = Fetcher(settings)
        limits = Limits(settings.decode_memory_mb, settings.decode_cpu_s, settings.decode_timeout_s)
        self._sandboxes = [Sandbox(limits) for _ in range(settings.decoders)]
        self._free: queue.LifoQueue[Sandbox] = queue.LifoQueue()
        for sandbox in self._sandboxes:
            self._free.put(sandbox)
        self._pool = ThreadPoolExecutor(settings.in_flight, thread_name_prefix="media")

    def prepare(self, media: Sequence[Media]) -> Prepared:
        """One item's media.

        Raises:
            MediaRejected: one of them is bad; the message begins with its index.
            MediaUnavailable: one cannot be fetched, or not all in time; nothing was decided.
        """
        deadline = time.monotonic() + self.settings.item_timeout_s
        needed = _needed(media)
        images: list[NDArray[np.uint8]] = []
        frames: NDArray[np.uint8] | None = None
        tracks: dict[str, Decoded] = {}
        for index in needed:
            piece = media[index]
            try:
                decoded = self._piece(piece, deadline)
            except MediaError as error:
                raise type(error)(f"media[{index}] ({piece.kind}): {error}") from error
            if piece.kind == "image":
                images.append(_bytes(decoded, "image"))
            else:
                tracks[piece.kind] = decoded
                if piece.kind == "video":
                    frames = _bytes(decoded, "images")
        if images:
            frames = np.stack(images)
        sound, level = _track(tracks, ("audio", "speech", "video"), SOUND_RATE)
        speech, _ = _track(tracks, ("speech", "audio", "video"), SPEECH_RATE)
        return Prepared(
            frames if frames is not None else np.empty((0, SIDE, SIDE, 3), np.uint8),
            sound,
            speech,
            level,
            len(media) - len(needed),
        )

    def prepare_many(self, items: Iterable[Sequence[Media]]) -> Iterator[Outcome]:
        """The media of many items, concurrently: an outcome each, in their order, as they are asked for.

        What is ahead of the reader is bounded by `media.in_flight`, so a batch of any length fits.
        """
        running: deque[Future[Outcome]] = deque()
        try:
            for media in items:
                running.append(self._pool.submit(self._outcome, media))
                if len(running) >= self.settings.in_flight:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()

    def thumbnail(self, media: Media, side: int) -> NDArray[np.uint8]:
        """A picture as a whole, uint8 [height, width, 3], its longer side at most `side` (2,048) pixels: for posters.

        Raises:
            MediaRejected, MediaUnavailable: as `prepare`.
        """
        deadline = time.monotonic() + self.settings.item_timeout_s
        job = Job("thumbnail", side=min(side, MOST_THUMBNAIL), max_pixels=self.settings.max_pixels)
        return _bytes(self._decode(self._fetch(media, deadline), job, deadline), "image")

    def close(self) -> None:
        """Ends the decoding processes; running jobs are waited for."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.fetcher.close()
        for sandbox in self._sandboxes:
            sandbox.close()

    def _outcome(self, media: Sequence[Media]) -> Outcome:
        try:
            prepared = self.prepare(media)
        except (MediaRejected, MediaUnavailable) as error:
            metrics.MEDIA_PREPARED.labels("rejected" if isinstance(error, MediaRejected) else "unavailable").inc()
            return error
        metrics.MEDIA_PREPARED.labels("prepared").inc()
        return prepared

    def _piece(self, piece: Media, deadline: float) -> Decoded:
        data = self._fetch(piece, deadline)
        limits = self.settings
        if piece.kind == "image":
            job = Job("image", side=SIDE, max_pixels=limits.max_pixels, denoise=limits.denoise)
        else:
            job = Job(
                "video" if piece.kind == "video" else "audio",
                side=SIDE,
                rates=(SOUND_RATE, SPEECH_RATE),
                seconds=limits.max_seconds,
                frames=MOST_FRAMES,
                max_pixels=limits.max_pixels,
                denoise=limits.denoise,
            )
        return self._decode(data, job, deadline)

    def _fetch(self, piece: Media, deadline: float) -> bytes:
        with metrics.MEDIA_SECONDS.labels("fetch").time():
            return self.fetcher.fetch(piece, self._left(deadline))

    def _decode(self, data: bytes, job: Job, deadline: float) -> Decoded:
        with self._sandbox(deadline) as sandbox, metrics.MEDIA_SECONDS.labels("decode").time():
            return sandbox.decode(data, job)

    @contextmanager
    def _sandbox(self, deadline: float) -> Iterator[Sandbox]:
        try:
            sandbox = self._free.get(timeout=self._left(deadline))
        except queue.Empty:
            raise MediaUnavailable("all decoders are busy; media.decoders says how many there are") from None
        try:
            yield sandbox
        finally:
            self._free.put(sandbox)

    def _left(self, deadline: float) -> float:
        left = deadline - time.monotonic()
        if left <= 0:
            raise MediaUnavailable(
                f"its media take longer than media.item_timeout_s = {self.settings.item_timeout_s:g}"
            )
        return left


def _needed(media: Sequence[Media]) -> list[int]:
    """Indices of the pieces that are read: the first 4 pictures, the first of each other kind.

    Raises:
        MediaRejected: a kind that there is not.
    """
    left = {"image": MOST_IMAGES, "audio": 1, "speech": 1, "video": 1}
    chosen = []
    for index, piece in enumerate(media):
        if piece.kind not in left:
            raise MediaRejected(f"media[{index}]: no kind is called {piece.kind[:32]!r}; kinds are {', '.join(KINDS)}")
        if left[piece.kind]:
            left[piece.kind] -= 1
            chosen.append(index)
    return chosen


def _bytes(decoded: Decoded, name: str) -> NDArray[np.uint8]:
    return decoded.arrays[name].astype(np.uint8, copy=False)


def _track(tracks: dict[str, Decoded], order: Sequence[str], rate: int) -> tuple[Sound | None, str]:
    """The sound of the first kind that has one, and how it was levelled."""
    for kind in order:
        if kind in tracks:
            found = tracks[kind].arrays.get(f"sound_{rate}")
            if found is not None and found.size:
                return found.astype(np.float32, copy=False), tracks[kind].notes.get("level", "")
    return None, ""
