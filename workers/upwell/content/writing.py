"""Triggers to be answered in, one answer each out: a text of the model that passed the check, or a template.

All kinds of texts go the same way; a recommendation is one of them.

Facts are read and judged, candidates asked for in rounds (only for those that have none that passes yet), checked and
judged, and the rest is answered by the template. The models may be down or slow; an answer comes all the same. What no
judge has passed does not go out: without the judge's answer the template stands in for the generator, and where facts
are refused it names none.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from upwell.content.asking import asked_of, item_of, nothing_about, with_reason
from upwell.content.choose import choose
from upwell.content.kinds import Asked, prompt_of, template_language_of, template_of, untold
from upwell.content.plan import TEXT, Outcome, Pending
from upwell.content.safety import PASSED, Gate, told_facts
from upwell.events.contracts import Content
from upwell.events.hashing import content_id, key64
from upwell.inference.errors import InferenceUnavailable
from upwell.inference.generate import TextGenerator
from upwell.settings import ContentSettings
from upwell.store.contents import ContentStore, Stored
from upwell.telemetry import metrics

log = structlog.get_logger("upwell.content")

TEMPLATE_MODEL: Final = "template"


@dataclass(slots=True)
class Answer:
    """How a trigger ends, and with what. `reason` goes with a refused request to the dead letters."""

    pending: Pending
    outcome: str
    content: Content | None = None
    stored: Stored | None = None
    """The trigger's result, where it has one already: published as it is."""
    reason: str = ""


@dataclass(slots=True)
class Written:
    answers: list[Answer]
    tokens: int
    """Tokens generated, refused candidates included."""
    answered: bool
    """The model was asked, and answered."""


@dataclass(slots=True)
class _Draft:
    """A trigger on its way to a text."""

    pending: Pending
    item_id: str
    asked: Asked
    candidates: list[str] = field(default_factory=list)
    tokens: int = 0
    rejected: int = 0
    text: str = ""
    told: bool = True
    """False: its facts, its question or its reviews were refused, and no text may hold them."""


class Writer:
    """Thread-safe as its parts are; one batch at a time is enough to keep the model busy."""

    def __init__(self, store: ContentStore, generator: TextGenerator, gate: Gate, settings: ContentSettings) -> None:
        self._store = store
        self._generator = generator
        self._gate = gate
        self._settings = settings

    def write(self, batch: Sequence[Pending], *, model: bool = True) -> Written:
        """Answer triggers, each exactly once.

        Args:
            model: False answers by template alone.

        Raises:
            psycopg.OperationalError: the facts could not be read; nothing was decided.
        """
        answered = self._store.answered([pending.trigger.trigger_id for pending in batch])
        answers = []
        fresh = []
        for pending in batch:
            stored = answered.get(pending.trigger.trigger_id)
            if stored is None:
                fresh.append(pending)
            elif stored.place == (*pending.partition, pending.offset):
                # A former owner stored it after takeover had looked, and can publish it no more.
                answers.append(Answer(pending, Outcome.GENERATED, stored=stored))
            else:
                answers.append(Answer(pending, Outcome.DUPLICATE))
        drafts, ended = self._drafts(fresh, reasons=model)
        answers += ended
        tokens, reached = 0, False
        if self._judge_facts(drafts) and model:
            tokens, reached = self._generate([draft for draft in drafts if draft.told])
        return Written(answers + [self._finish(draft) for draft in drafts], tokens, reached)

    def _drafts(self, batch: Sequence[Pending], *, reasons: bool) -> tuple[list[_Draft], list[Answer]]:
        """`reasons`: look for those of requests; not where hundreds are to be answered at once."""
        asking = [p.trigger.user_id for p in batch if not p.trigger.item_id]
        slates = self._store.newest_slates(asking)
        wanted = {p.trigger.item_id for p in batch} | {item for p in batch for item in p.trigger.because}
        wanted |= {item for slate in slates.values() for item in slate}
        items = self._store.facts(sorted(wanted - {""}))
        chosen: list[tuple[Pending, str]] = []
        ended = []
        for pending in batch:
            trigger = pending.trigger
            item_id = item_of(trigger, slates.get(trigger.user_id, []), items)
            if item_id is None:
                if pending.request:
                    ended.append(Answer(pending, Outcome.REFUSED, reason=nothing_about(trigger)))
                else:
                    ended.append(Answer(pending, Outcome.ITEM_GONE))
                continue
            chosen.append((pending, item_id))
            if reasons and pending.request:
                pending.trigger = with_reason(trigger, item_id, self._store)
        items |= self._store.facts([b for p, _ in chosen for b in p.trigger.because if b not in items])
        drafts = [_Draft(pending, item_id, asked_of(pending.trigger, item_id, items)) for pending, item_id in chosen]
        return drafts, ended

    def _judge_facts(self, drafts: Sequence[_Draft]) -> bool:
        """Whether the judge answered."""
        try:
            verdicts = self._gate.facts([draft.asked for draft in drafts])
        except InferenceUnavailable as error:
            _unjudged(error, len(drafts))
            return False
        for draft, verdict in zip(drafts, verdicts, strict=True):
            if verdict != PASSED:
                draft.told, draft.asked = False, untold(draft.asked)
                log.info("facts.refused", item_id=draft.item_id, reason=verdict)
        return True

    def _generate(self, drafts: Sequence[_Draft]) -> tuple[int, bool]:
        """Candidates in rounds; returns the tokens and whether the model answered."""
        settings = self._settings
        tokens, reached = 0, False
        open_ = list(drafts)
        for turn in range(settings.candidates if open_ else 0):
            prompts = [prompt_of(draft.asked) for draft in open_]
            seeds = [key64(f"{d.pending.trigger.trigger_id}/{turn}") >> 1 for d in open_]
            try:
                with metrics.STAGE_SECONDS.labels("content", "generate").time():
                    texts = self._generator.generate(prompts, settings.max_tokens, settings.temperature, seeds)
            except InferenceUnavailable as error:
                log.warning("generator.unavailable", error=str(error), answered_by="template", triggers=len(open_))
                metrics.INFERENCE_FAILURES.labels("text_generator").inc()
                return tokens, reached
            reached = True
            chosen: list[tuple[_Draft, str]] = []
            for draft, generated in zip(open_, texts, strict=True):
                tokens += generated.tokens
                draft.tokens += generated.tokens
                draft.candidates.append(generated.text)
                choice = choose([generated.text], draft.asked)
                if generated.error or choice.index is None:
                    draft.rejected += 1
                    why = [generated.error] if generated.error else list(choice.refused[0])
                    log.debug("candidate.refused", reasons=why, text=generated.text, item_id=draft.item_id)
                    metrics.CONTENT_REJECTED.inc()
                else:
                    chosen.append((draft, generated.text))
            if not self._judge_texts(chosen):
                break
            open_ = [draft for draft in open_ if not draft.text]
            if not open_:
                break
        metrics.CONTENT_TOKENS.inc(tokens)
        return tokens, reached

    def _judge_texts(self, chosen: Sequence[tuple[_Draft, str]]) -> bool:
        """Take over the texts that pass; False where the judge does not answer."""
        try:
            verdicts = self._gate.texts(
                [(text, told_facts(draft.asked.facts, draft.asked.because)) for draft, text in chosen]
            )
        except InferenceUnavailable as error:
            _unjudged(error, len(chosen))
            return False
        for (draft, text), verdict in zip(chosen, verdicts, strict=True):
            if verdict == PASSED:
                draft.text = text
            else:
                draft.rejected += 1
                log.info("text.refused", reason=verdict, item_id=draft.item_id)
        return True

    def _finish(self, draft: _Draft) -> Answer:
        trigger = draft.pending.trigger
        from_model = bool(draft.text)
        text = draft.text or template_of(draft.asked)
        content = Content(
            content_id=content_id(trigger.trigger_id, TEXT),
            trigger_id=trigger.trigger_id,
            user_id=trigger.user_id,
            item_ids=[draft.item_id],
            format=TEXT,
            language=draft.asked.language if from_model else template_language_of(draft.asked),
            text=text,
            source="model" if from_model else "template",
            model=self._generator.model_version if from_model else TEMPLATE_MODEL,
            safety=PASSED,
            explanation=_explanation(draft) if draft.told else "",
            kind=trigger.kind,
            created=time.time_ns() // 1_000_000,
            tokens=draft.tokens,
            candidates=len(draft.candidates),
            rejected=draft.rejected,
            text_kind=draft.asked.kind,
        )
        return Answer(draft.pending, Outcome.GENERATED if from_model else Outcome.TEMPLATE, content)


def _unjudged(error: InferenceUnavailable, triggers: int) -> None:
    log.warning("judge.unavailable", error=str(error), answered_by="template", triggers=triggers)


def _explanation(draft: _Draft) -> str:
    reasons = draft.pending.trigger.reasons
    if reasons:
        return next((reason.text for reason in reasons if reason.kind == draft.asked.reason), reasons[0].text)
    return "you asked for it" if draft.pending.request else ""
