"""Business rules from the topic `rules` and from a file in; which items are candidates, for all and for each user, out.

When a rule begins and ends is told by log time, the broker's clock as it stands in the records of the batch: it is the
wall clock where a worker keeps up, the same for all users of a batch, and the same again when the log is read again. Event
time is the producer's, differs from user to user, and is years old where history is loaded. How long ago a user had or saw
an item is told by event time, as everything about a user is.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import numpy as np
import structlog
from numpy.typing import NDArray

from upwell.bus import topics
from upwell.bus.reader import LogReader
from upwell.bus.topics import Topic
from upwell.events import rules, validate
from upwell.events.contracts import Rule
from upwell.interactions.groupings import Groupings
from upwell.interactions.slate import had
from upwell.ranking.catalogue import Catalogue
from upwell.ranking.ranker import Ranker
from upwell.ranking.rules import FOREVER, Book, InForce, admitted, warm
from upwell.settings import ConfigError, Settings
from upwell.telemetry import metrics

log = structlog.get_logger("upwell.interactions")

LOOK_S: Final = 1.0
"""The file is looked at this often."""


class Rulebook:
    """Of one worker. Without rules it costs nothing."""

    def __init__(self, settings: Settings, catalogue: Catalogue, ranker: Ranker, groupings: Groupings) -> None:
        """
        Raises:
            ConfigError: the rules file cannot be used; later, what it said before stays in force.
            Unavailable: the topic is not there.
        """
        self.in_force: InForce | None = None
        """None: no rules."""
        self.closed: set[str] = set()
        """Items that a rule has taken out since the set was last emptied."""
        self._catalogue = catalogue
        self._ranker = ranker
        self._groupings = groupings
        self._limits = validate.Rules.of(settings)
        self._told: dict[str, Rule] = {}
        self._filed: dict[str, Rule] = {}
        self._book: Book | None = None
        self._made_of = -1
        self._changed = False
        self._personal = False
        """Whether what a user may be shown differs from what the user has not had."""
        self._now = 0
        """Log time, ms: it never goes back."""
        self._look_at = 0.0
        self._file = rules.RulesFile(Path(settings.rules.file)) if settings.rules.file else None
        if self._file is not None:
            try:
                self._take_file(self._file.changed() or [])
            except rules.InvalidRules as error:
                raise ConfigError(f"rules.file: {error}") from None
        self._reader = LogReader(settings.kafka, topics.real(settings.kafka, Topic.RULES), "rules")

    def to_end(self) -> None:
        """Read all rules, and put them into force for the items that there are."""
        for batch in self._reader.to_end():
            self._learn(batch)
        self._apply()
        self.closed.clear()  # nothing has been published by this worker

    def poll(self) -> None:
        """Take in what has come since."""
        if batch := self._reader.read():
            self._learn(batch)
        if self._file is not None and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_S
            try:
                if (found := self._file.changed()) is not None:
                    self._take_file(found)
            except rules.InvalidRules as error:
                metrics.RULES_REFUSED.inc()
                log.error("rules.file_refused", error=str(error), kept=len(self._filed))
        self._apply()

    def at(self, now: int) -> None:
        """Put into force what holds at a log time, ms."""
        self._now = max(self._now, now)
        if self.in_force is not None and self._now >= self.in_force.until:
            self._enforce()

    def barred(self) -> list[str]:
        """Items that rules keep from being candidates now."""
        if self.in_force is None:
            return []
        known = self._catalogue.live[: len(self.in_force.open)]
        return [self._catalogue.ids[row] for row in np.flatnonzero(known & ~self.in_force.open).tolist()]

    def gone(self, events: NDArray[np.void], now: int) -> NDArray[np.int32]:
        """[g] int32 rows that are no candidates of a user: what was had, or was shown too often.

        Args:
            events: the user's history.
            now: event time, ms.
        """
        if self.in_force is None or not self._personal:
            return had(events)
        told = events[(events["row"] >= 0) & (events["row"] < len(self.in_force.open))]
        rows, times, was_had = told["row"].astype(np.int64), told["time"].astype(np.int64), told["weight"] != 0
        met = np.unique(rows)
        keep = admitted(self.in_force, met, now, rows[was_had], times[was_had], rows[~was_had], times[~was_had])
        # Items that have come since the rules were last put into force are no candidates anyway.
        return met[~keep].astype(np.int32)

    def close(self) -> None:
        self._reader.close()

    def _learn(self, batch: list) -> None:  # type: ignore[type-arg]
        for message in batch:
            try:
                rule_id, rule = rules.record(message.key(), message.value(), self._limits)
            except validate.InvalidRecord as error:
                metrics.RULES_REFUSED.inc()
                log.error("rule.refused", offset=message.offset(), key=repr(message.key())[:80], error=str(error))
                continue
            self._changed = True
            if rule is None:
                self._told.pop(rule_id, None)
            else:
                self._told[rule_id] = rule

    def _take_file(self, found: list[Rule]) -> None:
        self._changed = True
        self._filed = {rule.rule_id: rule for rule in found}
        log.info("rules.file", rules=len(found))

    def _apply(self) -> None:
        """Find the rules' items, where rules or items have changed."""
        said = self._filed | self._told
        if not said:
            if self._changed:
                self._changed = False
                self._book = self.in_force = None
                self._personal = False
                self._ranker.admit(None)
                metrics.RULES.set(0)
            return
        self._groupings.follow()
        if self._groupings.made_of == self._made_of and not self._changed and self._book is not None:
            return
        self._made_of = self._groupings.made_of
        if self._book is None:
            warm()  # here, and not while events wait
        changed, self._changed = self._changed, False
        self._book = Book(
            list(said.values()), self._catalogue.rows, self._groupings.fit(), self._groupings.predicates()
        )
        metrics.RULES.set(len(said))
        if changed:
            idle = [
                rule.rule_id for rule, about in zip(said.values(), self._book.about, strict=True) if not about.any()
            ]
            log.info("rules", rules=len(said), about_nothing=idle)
        self._enforce()

    def _enforce(self) -> None:
        assert self._book is not None
        force = self.in_force = self._book.at(self._now)
        self._personal = bool(len(force.frequencies.most)) or bool((force.back_ms != FOREVER).any())
        self.closed.update(self._catalogue.ids[row] for row in self._ranker.admit(force.open))
