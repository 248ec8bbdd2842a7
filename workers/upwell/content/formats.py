"""A text, its item's facts and pictures in; a poster, its speech or a clip of it, as bytes with their MIME type, out.

Every picture passes the gate before it is used, and once more after it was restyled; one that does not is left out, and
the poster is typographic. Nothing is stored or published here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from upwell.content import sound
from upwell.content.clip import LONGEST_S, NARRATION_AT_S, POSTER_LEAST_S, clip
from upwell.content.language import primary
from upwell.content.poster import Poster, ground, poster
from upwell.content.prompt import Facts
from upwell.content.safety import PASSED, Gate
from upwell.content.sound import Narration
from upwell.inference.paint import STYLES, Painter
from upwell.inference.speak import Speaker
from upwell.settings import ContentSettings

Pixels = npt.NDArray[np.uint8]

PAINTED_SIDE: Final = 960
"""A picture is restyled at this longer side at most, pixels."""
LEAST_SIDE: Final = 32
MOST_LIKED: Final = 2
"""Liked items' pictures in a clip."""


class Unmakeable(Exception):
    """The content cannot be had in the format, and asking again changes nothing: the text is published instead."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What media are made of."""

    text: str
    """What the user is told; it has passed the gate."""
    language: str
    facts: Facts
    picture: Pixels | None = None
    """The item's, uint8 [h, w, 3], RGB."""
    liked: Sequence[Pixels] = ()
    """Pictures of items that the user liked, the most telling first: the first one's style is taken."""
    item_seed: int = 0
    """Colours and shapes where there is no picture."""
    user_seed: int = 0
    """The fixed style where no liked item has a picture."""


@dataclass(frozen=True, slots=True)
class Made:
    """Finished media."""

    data: bytes
    mime: str
    models: tuple[str, ...] = ()
    """`name@hash` of the models that were used."""
    undrawn: str = ""
    """Characters that no font could draw."""


@dataclass(slots=True)
class _Look:
    """Pictures that passed, and what they were made with."""

    picture: Pixels | None = None
    restyled: Pixels | None = None
    liked: list[Pixels] = field(default_factory=list)
    models: list[str] = field(default_factory=list)


class Maker:
    """Makes media with the models on Triton. Thread-safe as its clients are."""

    def __init__(self, painter: Painter, speaker: Speaker, gate: Gate, settings: ContentSettings) -> None:
        self._painter, self._speaker, self._gate, self._settings = painter, speaker, gate, settings

    def make(self, format_: str, subject: Subject) -> Made:
        """Make media of a format.

        Args:
            format_: `poster`, `speech` or `clip`.

        Raises:
            InferenceUnavailable: a model that is needed does not answer.
            InferenceRejected, Unmakeable: it cannot be made of this subject.
        """
        if format_ == "poster":
            look = self._look(subject)
            made = self._poster(subject, look)
            return Made(made.data, made.mime, tuple(look.models), made.undrawn)
        if format_ == "speech":
            spoken = self._speech(subject, subject.text)
            return Made(*sound.encode(spoken), (self._speaker.model_version,))
        if format_ == "clip":
            return self._clip(subject)
        raise Unmakeable(f"no format is called {format_[:32]!r}")

    def _poster(self, subject: Subject, look: _Look) -> Poster:
        facts = subject.facts
        return poster(
            look.restyled,
            facts.title,
            subject.text,
            facts.categories,
            seed=subject.item_seed,
            fonts=self._settings.fonts,
        )

    def _clip(self, subject: Subject) -> Made:
        text, spoken = subject.text, self._speech(subject, subject.text)
        room = LONGEST_S - NARRATION_AT_S - POSTER_LEAST_S
        if spoken.seconds > room and (first := re.split(r"(?<=[.!?…])\s", text)[0]) != text:
            text, spoken = first, self._speech(subject, first)
        look = self._look(subject)
        last = self._poster(subject, look)
        pictures = [
            picture for picture in (look.picture, look.restyled, *look.liked[:MOST_LIKED]) if picture is not None
        ]
        if look.picture is None:
            # Without pictures the same shapes are seen from near and from afar.
            scenes = [np.asarray(ground(None, subject.item_seed).image)] * 2
        else:
            scenes = [np.asarray(ground(picture).image) for picture in pictures]
        made = clip(scenes, last.pixels, text, spoken, fonts=self._settings.fonts)
        return Made(made.data, made.mime, (*look.models, self._speaker.model_version), last.undrawn)

    def _speech(self, subject: Subject, text: str) -> Narration:
        if primary(subject.language) not in self._settings.voice_languages:
            raise Unmakeable(
                f"the voice does not speak {subject.language[:16]!r}; content.voice_languages says what it speaks"
            )
        speech = self._speaker.speak(text)
        return Narration(speech.audio, speech.rate)

    def _look(self, subject: Subject) -> _Look:
        """The item's picture as it is and restyled, and liked items' pictures; those that pass."""
        given = [*([subject.picture] if subject.picture is not None else []), *subject.liked[: MOST_LIKED + 1]]
        passed = [verdict == PASSED for verdict in self._gate.pictures(given)]
        look = _Look()
        if subject.picture is not None:
            look.picture = subject.picture if passed[0] else None
            passed = passed[1:]
        look.liked = [picture for picture, good in zip(subject.liked, passed, strict=False) if good]
        if look.picture is not None:
            restyled = self._restyled(look.picture, look.liked, subject.user_seed)
            look.models.append(self._painter.model_version)
            # What passed as it was, and does no more, is shown as it was.
            look.restyled = restyled if self._gate.pictures([restyled]) == [PASSED] else look.picture
        return look

    def _restyled(self, picture: Pixels, liked: Sequence[Pixels], user_seed: int) -> Pixels:
        content, strength = _bounded(picture), self._settings.style_strength
        if liked:
            return self._painter.like(content, _bounded(liked[0]), strength)
        return self._painter.in_style(content, user_seed % STYLES, strength)


def _bounded(picture: Pixels) -> Pixels:
    """The picture with sides that the style transfer takes."""
    height, width = picture.shape[:2]
    scale = min(1.0, PAINTED_SIDE / max(height, width))
    size = (max(LEAST_SIDE, round(width * scale)), max(LEAST_SIDE, round(height * scale)))
    if size == (width, height):
        return picture
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
