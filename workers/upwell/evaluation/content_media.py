"""Published posters and speech, with the items' pictures, in; likeness, distance, safety and word errors out.

Everything is decoded in the sandbox and asked of the models that the deployment serves. What it lacks is not measured,
and says why; a file that cannot be read costs nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

import numpy as np
import structlog
from numpy.typing import NDArray

from upwell.content.safety import for_judging
from upwell.evaluation import content_pictures as pictures
from upwell.evaluation.content_measures import Measure, missing, share
from upwell.evaluation.content_sample import Piece, Sample
from upwell.evaluation.content_texts import word_errors
from upwell.events.contracts import Media
from upwell.inference.image import ImageEncoder
from upwell.inference.repository import served
from upwell.inference.safety import ImageSafety
from upwell.inference.sound import SPEECH_RATE, SpeechRecognizer
from upwell.media.errors import MediaError
from upwell.media.prepare import Preparer
from upwell.media.store import MediaStore
from upwell.settings import ConfigError, Settings

log = structlog.get_logger("upwell.evaluation")

SIDE: Final = 1_024
"""Longest side of pictures that are compared, pixels: as posters are made of them."""
IMAGE_ENCODER: Final = "image_encoder"
SPEECH_RECOGNIZER: Final = "speech_recognizer"
LIKENESS: Final = ["poster_ssim", "poster_psnr"]
DISTANCE: Final = ["poster_frechet", "poster_frechet_floor"]
NSFW: Final = ["nsfw_mean", "nsfw_largest", "nsfw_over_limit"]
SPEECH: Final = ["speech_wer", "speech_exact"]
SHORTEST, LONGEST = SPEECH_RATE // 10, 30 * SPEECH_RATE
"""Samples that the recogniser takes."""

Pixels = NDArray[np.uint8]


@dataclass(slots=True)
class Seen:
    """What was found out about media."""

    measures: list[Measure] = field(default_factory=list)
    details: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By content id: `ssim`, `psnr`, `nsfw`, `wer`, `heard`, those that were measured."""
    data: dict[str, bytes] = field(default_factory=dict)
    """By content id: the file."""
    pictures: dict[str, Pixels] = field(default_factory=dict)
    """By item id: the item's picture, uint8 [h, w, 3]."""
    unread: int = 0
    """Media that could not be had."""


class Look:
    """Reads media of a deployment. Close it: it holds a decoding process."""

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        self._settings, self._say = settings, say
        self._preparer = Preparer(settings.media)
        self.seen = Seen()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._preparer.close()

    def at(self, sample: Sample, most: int) -> Seen:
        """Measure the media of contents, the latest `most` of each format.

        Raises:
            InferenceUnavailable: the model server does not answer.
        """
        made = [piece for piece in sample.pieces if piece.content.uri]
        if not made:
            self._lack("none of the contents looked at is a poster, speech or a clip")
            return self.seen
        try:
            store = MediaStore(self._settings.media)
        except ConfigError as error:
            self._lack(str(error))
            return self.seen
        latest = [p for format_ in ("poster", "speech", "clip") for p in of_format(made, format_)[-most:]]
        self._say(f"reading {len(latest)} media")
        for piece in latest:
            try:
                self.seen.data[piece.content.content_id] = store.get(piece.content.uri or "")
            except MediaError as error:
                self._unread(piece, error)
        had = [piece for piece in latest if piece.content.content_id in self.seen.data]
        self._posters(of_format(had, "poster"), sample.pictures)
        self._speech(of_format(had, "speech"))
        self._pictures_of([piece for piece in had if piece.content.format == "clip"])
        return self.seen

    def _lack(self, why: str) -> None:
        self.seen.measures += missing([*LIKENESS, *DISTANCE, *NSFW, *SPEECH], why)

    def _none(self, format_: str) -> str:
        unread = f"; {self.seen.unread} media cannot be read from media.store" if self.seen.unread else ""
        return f"no {format_} among the contents looked at that can be read{unread}"

    def _unread(self, piece: Piece, error: Exception) -> None:
        self.seen.unread += 1
        log.info("media.unread", content_id=piece.content.content_id, reason=str(error))

    def _detail(self, piece: Piece, **found: Any) -> None:
        self.seen.details.setdefault(piece.content.content_id, {}).update(found)

    # Posters

    def _posters(self, pieces: Sequence[Piece], others: Sequence[Media]) -> None:
        if not pieces:
            self.seen.measures += missing([*LIKENESS, *DISTANCE, *NSFW], self._none("poster"))
            return
        self._pictures_of(pieces)
        decoded: list[tuple[Piece, Pixels]] = []
        for piece in pieces:
            try:
                decoded.append((piece, self._preparer.thumbnail(self._file(piece, "image"), SIDE)))
            except MediaError as error:
                self._unread(piece, error)
        self._likeness(decoded)
        self._nsfw(decoded)
        self._distance([poster for _, poster in decoded], others)

    def _pictures_of(self, pieces: Sequence[Piece]) -> None:
        """The items' pictures, each once."""
        for piece in pieces:
            item = piece.content.item_ids[0]
            images = [media for media in piece.media if media.kind == "image" and (media.uri or media.data)]
            if images and item not in self.seen.pictures:
                try:
                    self.seen.pictures[item] = self._preparer.thumbnail(images[0], SIDE)
                except MediaError as error:
                    self._unread(piece, error)

    def _likeness(self, decoded: Sequence[tuple[Piece, Pixels]]) -> None:
        found = []
        for piece, poster in decoded:
            picture = self.seen.pictures.get(piece.content.item_ids[0])
            if picture is not None:
                ssim, psnr = pictures.likeness(poster, picture)
                found.append((ssim, psnr))
                self._detail(piece, ssim=ssim, psnr=psnr)
        if not found:
            why = "no item's picture can be read: items have none, or media.roots and media.hosts do not allow theirs"
            self.seen.measures += missing(LIKENESS, why)
            return
        ssims, psnrs = (np.array(column) for column in zip(*found, strict=True))
        self.seen.measures += [
            Measure("poster_ssim", float(ssims.mean()), len(found)),
            Measure("poster_psnr", float(np.mean(np.minimum(psnrs, 100.0))), len(found)),
        ]

    def _nsfw(self, decoded: Sequence[tuple[Piece, Pixels]]) -> None:
        triton, limit = self._settings.triton, self._settings.content.max_nsfw
        if not decoded or not served(triton.url, triton.image_safety):
            self.seen.measures += missing(NSFW, f"{triton.image_safety} is not loaded")
            return
        self._say(f"judging {len(decoded)} posters")
        judge = ImageSafety(triton.url, model=triton.image_safety, timeout_s=60.0, options=triton.options)
        try:
            scores = judge.judge(np.stack([for_judging(poster) for _, poster in decoded]))
        finally:
            judge.close()
        for (piece, _), score in zip(decoded, scores, strict=True):
            self._detail(piece, nsfw=score)
        self.seen.measures += [
            Measure("nsfw_mean", float(np.mean(scores)), len(scores)),
            Measure("nsfw_largest", max(scores), len(scores)),
            share("nsfw_over_limit", sum(score > limit for score in scores), len(scores)),
        ]

    def _distance(self, posters: Sequence[Pixels], others: Sequence[Media]) -> None:
        """Of posters, and of pictures of the catalogue, from as many other pictures of the catalogue."""
        triton = self._settings.triton
        if not served(triton.url, IMAGE_ENCODER):
            self.seen.measures += missing(DISTANCE, f"{IMAGE_ENCODER} is not loaded")
            return
        sources: list[Pixels] = []
        for media in others[: 2 * len(posters)]:
            try:
                sources.append(self._preparer.thumbnail(media, SIDE))
            except MediaError as error:
                self.seen.unread += 1
                log.info("picture.unread", reason=str(error))
        # The measure falls with the number of pictures: the same number of each, so that the floor is one.
        n = min(len(posters), len(sources) // 2)
        if n < pictures.FEWEST:
            why = (
                f"{len(posters)} posters, {len(sources)} item pictures; {pictures.FEWEST} and twice as many are needed"
            )
            self.seen.measures += missing(DISTANCE, why)
            return
        self._say(f"encoding {3 * n} pictures")
        encoder = ImageEncoder(triton.url, model=IMAGE_ENCODER, timeout_s=60.0, options=triton.options)
        try:
            shown = [poster[: pictures.SHOWN] for poster in posters[-n:]]
            of_posters, one, other = (
                encoder.encode(_squares(images, encoder.side)).embedding
                for images in (shown, sources[:n], sources[n : 2 * n])
            )
        finally:
            encoder.close()
        self.seen.measures += [
            Measure("poster_frechet", pictures.frechet(of_posters, one), n),
            Measure("poster_frechet_floor", pictures.frechet(other, one), n),
        ]

    # Speech

    def _speech(self, pieces: Sequence[Piece]) -> None:
        triton = self._settings.triton
        if not pieces or not served(triton.url, SPEECH_RECOGNIZER):
            why = f"{SPEECH_RECOGNIZER} is not loaded" if pieces else self._none("speech")
            self.seen.measures += missing(SPEECH, why)
            return
        sounds: list[tuple[Piece, NDArray[np.float32]]] = []
        for piece in pieces:
            try:
                prepared = self._preparer.prepare([self._file(piece, "speech")])
            except MediaError as error:
                self._unread(piece, error)
                continue
            if prepared.speech is not None and len(prepared.speech) >= SHORTEST:
                sounds.append((piece, prepared.speech[:LONGEST]))
        self._say(f"listening to {len(sounds)} recordings")
        recognizer = SpeechRecognizer(triton.url, model=SPEECH_RECOGNIZER, timeout_s=300.0, options=triton.options)
        try:
            heard = recognizer.recognize([sound for _, sound in sounds])
        finally:
            recognizer.close()
        errors = words = exact = 0
        for (piece, _), spoken in zip(sounds, heard, strict=True):
            wrong, length = word_errors(piece.content.text, spoken.text)
            errors, words, exact = errors + wrong, words + length, exact + (wrong == 0)
            self._detail(piece, wer=wrong / max(1, length), heard=spoken.text)
        if not words:
            self.seen.measures += missing(SPEECH, "no recording can be read")
            return
        note = f"{errors} errors in {words} words"
        self.seen.measures += [
            Measure("speech_wer", errors / words, len(sounds), note=note),
            share("speech_exact", exact, len(sounds)),
        ]

    def _file(self, piece: Piece, kind: str) -> Media:
        return Media(kind, data=self.seen.data[piece.content.content_id], mime=piece.content.mime)


def of_format(pieces: Sequence[Piece], format_: str) -> list[Piece]:
    """Those of a format."""
    return [piece for piece in pieces if piece.content.format == format_]


def _squares(images: Sequence[Pixels], side: int) -> Pixels:
    """The middle square of each picture, uint8 [n, side, side, 3]."""
    from PIL import Image, ImageOps

    fitted = [ImageOps.fit(Image.fromarray(image), (side, side), Image.Resampling.BICUBIC) for image in images]
    return np.stack([np.asarray(image) for image in fitted])
