"""One wish in; its text in pieces as the model writes them, and what may be told after all, out.

For somebody who waits for it. Nothing is stored or published. The pieces come before the whole can be checked: whoever
shows them takes them back where `Told.refused` says why.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from upwell.content.asking import asked_of, item_of, nothing_about, with_reason
from upwell.content.kinds import Asked, check_of, prompt_of, template_language_of, template_of, untold
from upwell.content.safety import PASSED, Gate, told_facts
from upwell.events.contracts import ContentTrigger
from upwell.events.hashing import key64
from upwell.inference.errors import InferenceRejected, InferenceUnavailable
from upwell.inference.generate import TextWriter
from upwell.settings import ContentSettings
from upwell.store.contents import ContentStore


class NothingToTell(LookupError):
    """There is no item to write about; the message says why."""


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a wish."""

    item_id: str
    asked: Asked
    """What the text was written from; without facts where those were refused."""
    text: str
    """What may be told: the model's text, or the template's."""
    written: str = ""
    """What the model wrote, its pieces together; empty where it was not asked."""
    refused: tuple[str, ...] = ()
    """Why the template answers; empty: the text is the model's."""

    @property
    def source(self) -> str:
        return "template" if self.refused else "model"

    @property
    def language(self) -> str:
        return template_language_of(self.asked) if self.refused else self.asked.language


def tell(
    trigger: ContentTrigger, store: ContentStore, generator: TextWriter, gate: Gate, settings: ContentSettings
) -> Generator[str, None, Told]:
    """Yields the pieces, returns what became of them. One candidate: what has been shown cannot be chosen among.

    Args:
        trigger: as `asking.trigger_of` makes it.

    Raises:
        NothingToTell: the item is not known, or the user has no ranking.
        psycopg.OperationalError: the facts could not be read.
    """
    slate = [] if trigger.item_id else store.newest_slates([trigger.user_id]).get(trigger.user_id, [])
    items = store.facts(sorted({trigger.item_id, *slate} - {""}))
    item_id = item_of(trigger, slate, items)
    if item_id is None:
        raise NothingToTell(nothing_about(trigger))
    trigger = with_reason(trigger, item_id, store)
    items |= store.facts(trigger.because)
    asked = asked_of(trigger, item_id, items)
    pieces: list[str] = []
    try:
        verdict = gate.facts([asked])[0]
        if verdict != PASSED:
            nothing = untold(asked)
            return Told(item_id, nothing, template_of(nothing), refused=(verdict,))
        seed = key64(f"{trigger.trigger_id}/0") >> 1
        for piece in generator.stream(prompt_of(asked), settings.max_tokens, settings.temperature, seed):
            pieces.append(piece)
            yield piece
        problems = _problems("".join(pieces), asked, gate)
    except (InferenceUnavailable, InferenceRejected) as error:
        problems = [str(error)]
    written = "".join(pieces)
    return Told(item_id, asked, template_of(asked) if problems else written, written, tuple(problems))


def _problems(text: str, asked: Asked, gate: Gate) -> list[str]:
    """Why a text may not be told, by the check and then by the gate."""
    if problems := check_of(text, asked):
        return problems
    verdict = gate.texts([(text, told_facts(asked.facts, asked.because))])[0]
    return [] if verdict == PASSED else [verdict]
