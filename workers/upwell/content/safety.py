"""Texts and pictures that were made in; before anything is published, `passed` or `refused: …` out.

The verdicts are pure functions of what the models on Triton say; `Gate` asks the models. A text's own words are judged
strictly. Titles and names in it are the catalogue's: a film may be called Dirty Dancing, and only what both judges are
sure of is not told.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from upwell.content.kinds import Asked
from upwell.content.prompt import Facts
from upwell.inference.safety import SIDE, ImageSafety, TextSafety, TextScore
from upwell.settings import ContentSettings
from upwell.telemetry import metrics

PASSED: Final = "passed"
_STRETCHED: Final = 256
"""The judge of pictures expects the middle of a picture of this size."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What may pass; probabilities from 0 to 1."""

    profanity: float = 0.8
    profanity_facts: float = 0.99
    nsfw: float = 0.4
    blocked: Sequence[str] = ()
    protected: Sequence[str] = ()

    @classmethod
    def of(cls, settings: ContentSettings) -> Limits:
        return cls(
            settings.max_profanity,
            settings.max_profanity_facts,
            settings.max_nsfw,
            tuple(settings.blocked_terms),
            tuple(settings.protected_terms),
        )


def text_verdict(text: str, facts: Iterable[str], score: TextScore | None, limits: Limits = Limits()) -> str:
    """Whether a text may be published.

    Args:
        facts: titles, names and values that the text may hold: of the catalogue, and judged by `facts_verdict`.
        score: of `own_words(text, facts)`; None where no model is asked.
    """
    if found := terms_in(text, limits.blocked):
        return f"refused: blocked term {found[0]!r}"
    if found := terms_in(own_words(text, facts), limits.protected):
        return f"refused: protected attribute, {found[0]!r}"
    if score is not None and score.flag:
        return "refused: profanity, by the word list"
    if score is not None and not score.probability <= limits.profanity:  # also where it is not a number
        return f"refused: profanity, probability {score.probability:.2f}"
    return PASSED


def facts_verdict(told: Sequence[str], scores: Sequence[TextScore] | None, limits: Limits = Limits()) -> str:
    """Whether facts may be told.

    Args:
        told: titles, descriptions, categories and whatever else is given to the generator or the template.
        scores: one for each of the first of them; None where no model is asked.
    """
    for fact in told:
        if found := terms_in(fact, limits.blocked):
            return f"refused: blocked term {found[0]!r} in the facts"
    for score in scores or ():
        if score.flag and not score.probability < limits.profanity_facts:
            return f"refused: profanity in the facts, probability {score.probability:.3f}"
    return PASSED


def picture_verdict(score: float, limits: Limits = Limits()) -> str:
    """Whether a picture may be shown. `score`: probability that it is not safe for work."""
    if not score <= limits.nsfw:  # also where it is not a number
        return f"refused: picture not safe for work, probability {score:.2f}"
    return PASSED


def terms_in(text: str, terms: Iterable[str]) -> list[str]:
    """Those of the terms that the text holds as whole words, whatever the case, width and spacing.

    >>> terms_in("A CASINO  night", ["casino night", "sin"])
    ['casino night']
    """
    folded = _fold(text)
    return [term for term in terms if (t := _fold(term)) and re.search(rf"(?<!\w){re.escape(t)}(?!\w)", folded)]


def own_words(text: str, facts: Iterable[str]) -> str:
    """The text, folded, with the facts' values cut out of it, longest first.

    >>> own_words("You liked Kill Bill, so try Dick Tracy.", ["Dick Tracy", "Kill Bill"])
    'you liked it, so try it.'
    """
    folded = _fold(text)
    for fact in sorted({_fold(fact) for fact in facts}, key=len, reverse=True):
        if len(fact) > 1:
            folded = re.sub(rf"(?<!\w){re.escape(fact)}(?!\w)", "it", folded)
    return folded


def for_judging(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A picture, uint8 [h, w, 3], as its judge reads it: stretched to 256 x 256, cut to uint8 [224, 224, 3]."""
    stretched = Image.fromarray(picture).resize((_STRETCHED, _STRETCHED), Image.Resampling.BILINEAR)
    cut = (_STRETCHED - SIDE) // 2
    return np.asarray(stretched)[cut : cut + SIDE, cut : cut + SIDE]


def told_facts(facts: Facts, because: Sequence[str]) -> list[str]:
    """All that may be told about an item and the reasons for it: what a text may hold though its own words are judged."""
    values = [v for value in facts.attributes.values() for v in ([value] if isinstance(value, str) else value)]
    return [facts.title, *because, facts.description, *facts.categories, *values]


def free_text(asked: Asked) -> list[str]:
    """What is judged by the model before anything is told: titles, the description, a question or reviews. Names would
    mislead it.
    """
    return [asked.facts.title, *asked.because, asked.facts.description, *asked.given()]


class Gate:
    """Asks the models, counts what is refused. Without models only terms are looked for."""

    def __init__(self, settings: ContentSettings, texts: TextSafety | None, pictures: ImageSafety | None) -> None:
        self._limits = Limits.of(settings)
        self._texts = texts if settings.judge == "models" else None
        self._pictures = pictures if settings.judge == "models" else None

    def facts(self, items: Sequence[Asked]) -> list[str]:
        """A verdict on what each text would be written from: facts, reasons, and the question or reviews given.

        Raises: InferenceUnavailable.
        """
        parts = [free_text(asked) for asked in items]
        scores = iter(self._judge([text for part in parts for text in part]))
        verdicts = []
        for asked, part in zip(items, parts, strict=True):
            known = [score for score in (next(scores) for _ in part) if score is not None]
            told = [*part, *told_facts(asked.facts, asked.because)]
            verdicts.append(facts_verdict(told, known, self._limits))
        return _counted("facts", verdicts)

    def texts(self, texts: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
        """A verdict on each text, given with the facts that it may hold.

        Raises: InferenceUnavailable.
        """
        scores = self._judge([own_words(text, facts) for text, facts in texts])
        pairs = zip(texts, scores, strict=True)
        return _counted("text", [text_verdict(text, facts, score, self._limits) for (text, facts), score in pairs])

    def pictures(self, pictures: Sequence[npt.NDArray[np.uint8]]) -> list[str]:
        """A verdict on each picture, uint8 [h, w, 3].

        Raises: InferenceUnavailable.
        """
        if self._pictures is None or not pictures:
            return [PASSED] * len(pictures)
        scores = self._pictures.judge(np.stack([for_judging(picture) for picture in pictures]))
        return _counted("picture", [picture_verdict(score, self._limits) for score in scores])

    def _judge(self, texts: Sequence[str]) -> Sequence[TextScore | None]:
        return self._texts.judge(texts) if self._texts is not None else [None] * len(texts)

    def close(self) -> None:
        for client in (self._texts, self._pictures):
            if client is not None:
                client.close()


def _counted(kind: str, verdicts: list[str]) -> list[str]:
    for verdict in verdicts:
        if verdict != PASSED:
            metrics.CONTENT_UNSAFE.labels(kind).inc()
    return verdicts


def _fold(text: str) -> str:
    """For comparison: compatibility forms unified, invisible marks gone, case folded, spaces single."""
    text = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf")
    return " ".join(text.casefold().split())
