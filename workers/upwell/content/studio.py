"""An answered trigger that asks for a poster, speech or a clip in; the same answer with its media in the store out.

Where the media cannot be made the text goes out as text, and says why. The media lie in the store, under their own
hash, before the answer is stored: a crash may make them twice, and nobody ever reads of media that are not there.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec
import structlog

from upwell.content.asking import asked_of
from upwell.content.formats import Made, Maker, Subject, Unmakeable
from upwell.content.pictures import Pictures
from upwell.content.plan import TEXT, Pending
from upwell.content.prompt import Facts
from upwell.content.safety import PASSED, Gate
from upwell.content.writing import Answer
from upwell.events.contracts import Content
from upwell.events.hashing import arm, content_id, key64
from upwell.inference.errors import InferenceRejected, InferenceUnavailable
from upwell.inference.paint import Painter
from upwell.inference.speak import Speaker
from upwell.media.errors import MediaUnavailable
from upwell.media.store import MediaStore
from upwell.settings import Settings
from upwell.store.contents import ContentStore
from upwell.telemetry import metrics

log = structlog.get_logger("upwell.content")


class Studio:
    """Makes media, one answer at a time. Close it: it holds a decoding process and connections."""

    def __init__(self, settings: Settings, media_store: MediaStore, store: ContentStore, gate: Gate) -> None:
        triton = settings.triton
        self._painter = Painter(
            triton.url, model=triton.style_transfer, timeout_s=triton.make_timeout_s, options=triton.options
        )
        self._speaker = Speaker(
            triton.url, model=triton.speech_synthesizer, timeout_s=triton.make_timeout_s, options=triton.options
        )
        self._maker = Maker(self._painter, self._speaker, gate, settings.content)
        self._pictures = Pictures(store, settings.media)
        self._media_store, self._store, self._gate = media_store, store, gate

    def illustrate(self, answer: Answer) -> Answer:
        """The answer with media, or as text with the reason.

        Raises:
            psycopg.OperationalError: facts or media of items could not be read; nothing was decided.
        """
        content = answer.content
        assert content is not None, "an answer without content asks for no media"
        format_ = answer.pending.trigger.format
        try:
            with metrics.STAGE_SECONDS.labels("content", format_).time():
                made = self._maker.make(format_, self._subject(answer.pending, content))
                stored = self._media_store.put(made.data, made.mime)
        except (InferenceUnavailable, InferenceRejected, Unmakeable, MediaUnavailable) as error:
            log.warning("media.unmade", format=format_, error=str(error), trigger_id=content.trigger_id)
            metrics.CONTENT_MEDIA.labels(format_, "text").inc()
            return replace(answer, content=_as_text(content, format_, error))
        metrics.CONTENT_MEDIA.labels(format_, "made").inc()
        if made.undrawn:
            log.info("media.undrawn", characters=made.undrawn, trigger_id=content.trigger_id)
        illustrated = msgspec.structs.replace(
            content, content_id=content_id(content.trigger_id, arm(format_, answer.pending.trigger.framing)), format=format_, model=_models(content, made), uri=stored.uri, sha256=stored.sha256,
            mime=stored.mime, size=stored.size,
        )  # fmt: skip
        return replace(answer, content=illustrated)

    def _subject(self, pending: Pending, content: Content) -> Subject:
        trigger, item_id = pending.trigger, content.item_ids[0]
        items = self._store.facts([item_id, *trigger.because])
        asked = asked_of(trigger, item_id, items)
        facts = asked.facts if self._gate.facts([asked]) == [PASSED] else Facts("")
        picture, liked = self._pictures.of(trigger.user_id, item_id, trigger.because)
        return Subject(
            content.text, content.language, facts, picture, liked, key64(item_id) >> 1, key64(trigger.user_id) >> 1
        )

    def close(self) -> None:
        self._pictures.close()
        self._painter.close()
        self._speaker.close()


def _models(content: Content, made: Made) -> str:
    return ", ".join([content.model, *made.models])


def _as_text(content: Content, format_: str, error: Exception) -> Content:
    """The content as text; why, without what is nobody's business, goes into its explanation."""
    if isinstance(error, Unmakeable):
        why = str(error).partition(";")[0]
    elif isinstance(error, InferenceRejected):
        why = "the model refused it"
    elif isinstance(error, MediaUnavailable):
        why = "the media store does not answer"
    else:
        why = "its model does not answer"
    note = f"as text, for the {format_} could not be made: {why}"
    return msgspec.structs.replace(
        content, format=TEXT, explanation=f"{content.explanation} ({note})" if content.explanation else note
    )
