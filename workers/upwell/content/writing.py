"""Triggers to be answered in, one answer each out: a text of the model that passed the check, or a template.

All kinds of texts go the same way; a recommendation is one of them.

Facts are read and judged, candidates asked for in rounds (the later ones only for those that have none that passes yet),
checked and judged; of several that pass the one closest to its user is taken, and the rest is answered by the template.
The models may be down or slow; an answer comes all the same. What no judge has passed does not go out: without the judge's
answer the template stands in for the generator, and where facts are refused it names none.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import structlog
from numpy.typing import NDArray

from upwell.content.asking import PERSONAL, asked_of, item_of, nothing_about, variants, with_reason
from upwell.content.choose import best
from upwell.content.kinds import Asked, check_of, prompt_of, template_language_of, template_of, untold
from upwell.content.plan import TEXT, Outcome, Pending
from upwell.content.relevance import Relevance
from upwell.content.safety import PASSED, Gate, told_facts
from upwell.events.contracts import Content
from upwell.events.hashing import arm, content_id, key64
from upwell.inference.errors import InferenceUnavailable
from upwell.inference.generate import TextWriter
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
    texts: int
    """Candidate texts that they make."""
    answered: bool
    """The model was asked, and answered."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A text that passed the check, and what its prompt told."""

    asked: Asked
    text: str


@dataclass(slots=True)
class _Draft:
    """A trigger on its way to a text."""

    pending: Pending
    item_id: str
    asked: Asked
    candidates: int = 0
    """Texts generated so far."""
    tokens: int = 0
    rejected: int = 0
    passed: list[str] = field(default_factory=list)
    """Texts that may be published."""
    text: str = ""
    told: bool = True
    """False: its facts, its question or its reviews were refused, and no text may hold them."""

    @property
    def user_id(self) -> str:
        return self.pending.trigger.user_id

    @property
    def personal(self) -> bool:
        """Whether there is anything to choose by: answers and summaries are the same for everybody."""
        return self.asked.kind in PERSONAL

    def variant(self, number: int) -> Asked:
        """What candidate `number` is asked with: one after the other tells others of the user's items."""
        told = variants(self.asked)
        return told[number % len(told)]


class Writer:
    """Thread-safe as its parts are; one batch at a time is enough to keep the model busy."""

    def __init__(
        self,
        store: ContentStore,
        generator: TextWriter,
        gate: Gate,
        relevance: Relevance,
        settings: ContentSettings,
    ) -> None:
        self._store = store
        self._relevance = relevance
        self._generator = generator
        self._gate = gate
        self._settings = settings

    def write(self, batch: Sequence[Pending], *, model: bool = True, spare: int = 0) -> Written:
        """Answer triggers, each exactly once.

        Args:
            model: False answers by template alone.
            spare: candidate texts that may be asked for beyond one a trigger, to choose from.

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
        profiles = self._store.profiles([draft.user_id for draft in drafts]) if model and spare else {}
        reached = False
        if self._judge_facts(drafts) and model:
            reached = self._generate([draft for draft in drafts if draft.told], spare, profiles)
        tokens, texts = sum(draft.tokens for draft in drafts), sum(draft.candidates for draft in drafts)
        metrics.CONTENT_TOKENS.inc(tokens)
        return Written(answers + [self._finish(draft) for draft in drafts], tokens, texts, reached)

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

    def _generate(self, drafts: Sequence[_Draft], spare: int, profiles: Mapping[str, NDArray[np.float32]]) -> bool:
        """Candidates in rounds; returns whether the model answered.

        Those of one round are asked for together: the model takes hardly longer for eight texts than for one.
        """
        reached, most = False, self._settings.candidates
        open_ = list(drafts)
        while open_:
            each = max(1, self._settings.batch // len(open_))
            if not reached:
                each = min(each, 1 + spare // len(open_))
            round_ = [
                (draft, n)
                for draft in open_
                for n in range(draft.candidates, most)[: each if reached or draft.personal else 1]
            ]
            try:
                candidates = self._ask(round_)
            except InferenceUnavailable as error:
                log.warning("generator.unavailable", error=str(error), answered_by="template", triggers=len(open_))
                metrics.INFERENCE_FAILURES.labels("text_generator").inc()
                return reached
            reached = True
            if not self._judge_texts(candidates):
                break
            self._choose(open_, profiles)
            open_ = [draft for draft in open_ if not draft.text and draft.candidates < most]
        return reached

    def _ask(self, round_: Sequence[tuple[_Draft, int]]) -> list[tuple[_Draft, _Candidate]]:
        """Of the candidates asked for, by their numbers, those that pass the check.

        Raises:
            InferenceUnavailable: the generator does not answer.
        """
        settings = self._settings
        told = [draft.variant(number) for draft, number in round_]
        seeds = [key64(f"{draft.pending.trigger.trigger_id}/{number}") >> 1 for draft, number in round_]
        with metrics.STAGE_SECONDS.labels("content", "generate").time():
            texts = self._generator.generate(
                [prompt_of(asked) for asked in told], settings.max_tokens, settings.temperature, seeds
            )
        passed = []
        for (draft, _), asked, generated in zip(round_, told, texts, strict=True):
            draft.candidates += 1
            draft.tokens += generated.tokens
            if why := [generated.error] if generated.error else check_of(generated.text, asked):
                draft.rejected += 1
                log.debug("candidate.refused", reasons=why, text=generated.text, item_id=draft.item_id)
                metrics.CONTENT_REJECTED.inc()
            else:
                passed.append((draft, _Candidate(asked, generated.text)))
        return passed

    def _judge_texts(self, candidates: Sequence[tuple[_Draft, _Candidate]]) -> bool:
        """Note the texts that pass; False where the judge does not answer."""
        told = [(one.text, told_facts(one.asked.facts, one.asked.because)) for _, one in candidates]
        try:
            verdicts = self._gate.texts(told)
        except InferenceUnavailable as error:
            _unjudged(error, len(candidates))
            return False
        for (draft, candidate), verdict in zip(candidates, verdicts, strict=True):
            if verdict == PASSED:
                draft.passed.append(candidate.text)
            else:
                draft.rejected += 1
                log.info("text.refused", reason=verdict, item_id=draft.item_id)
        return True

    def _choose(self, drafts: Sequence[_Draft], profiles: Mapping[str, NDArray[np.float32]]) -> None:
        """Take over one of each draft's texts that passed, the closest to its user where there are several."""
        several = [draft for draft in drafts if len(draft.passed) > 1]
        close = self._relevance.of([d.passed for d in several], [d.user_id for d in several], profiles)
        relevance = {id(draft): found for draft, found in zip(several, close, strict=True)}
        for draft in drafts:
            if draft.passed:
                draft.text = draft.passed[best(draft.passed, draft.asked.facts, relevance.get(id(draft)))]

    def _finish(self, draft: _Draft) -> Answer:
        trigger = draft.pending.trigger
        from_model = bool(draft.text)
        text = draft.text or template_of(draft.asked)
        content = Content(
            content_id=content_id(trigger.trigger_id, arm(TEXT, trigger.framing)),
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
            candidates=draft.candidates,
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
