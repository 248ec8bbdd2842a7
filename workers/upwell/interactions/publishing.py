"""Users whom a batch concerns in; their new rankings, and triggers where the head has changed, out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from upwell.bus import topics
from upwell.bus.headers import Headers
from upwell.bus.topics import Topic
from upwell.bus.transactions import Output
from upwell.events.codec import encode
from upwell.events.contracts import RankedItem, Ranking
from upwell.events.hashing import identifier
from upwell.interactions.eliciting import Eliciting
from upwell.interactions.exploring import Exploring
from upwell.interactions.groupings import Groupings
from upwell.interactions.newcomers import Newcomers
from upwell.interactions.occasion import head_changed
from upwell.interactions.policies import Policies, Policy
from upwell.interactions.profiles import Profiles, Shown
from upwell.interactions.rulebook import Rulebook
from upwell.interactions.segments import SegmentPriors
from upwell.interactions.slate import ranked_items
from upwell.interactions.watch import Watch
from upwell.ranking.arms import Arms
from upwell.ranking.newcomers import FirstImpressions
from upwell.ranking.profile import recent_interest, unit
from upwell.settings import Settings
from upwell.telemetry import metrics

WORKER = "interactions"
_NOTHING: Final[NDArray[np.int64]] = np.zeros(0, np.int64)


@dataclass(slots=True)
class Touched:
    """A user whom a batch concerns."""

    user_id: str
    slot: int
    events: int = 0
    """Distinct events applied and not yet published."""
    asked: bool = False
    """A rank request was among them."""
    elicit: bool = False
    """... that asks for items which tell what the user likes, and, once ranked, got them."""
    moved: bool = False
    """Only events that the stored state held already: published again as a revision."""
    trace: Headers | None = None
    """Trace context of the user's last event."""

    @property
    def cause(self) -> str:
        """Why a ranking is published, as `Ranking.trigger` says it."""
        if self.elicit:
            return "elicitation"
        return "events" if self.events else "position_moved" if self.moved else "rank_request"


class Rankings:
    """Scores users with what profiles and shared learning hold now, and notes in the profiles what was shown."""

    def __init__(
        self,
        settings: Settings,
        profiles: Profiles,
        arms: Arms,
        impressions: FirstImpressions,
        rulebook: Rulebook,
        policies: Policies,
        groupings: Groupings,
        segments: SegmentPriors,
    ) -> None:
        self._settings = settings
        self._profiles = profiles
        self._arms = arms
        self._rulebook = rulebook
        self._policies = policies
        self._groupings = groupings
        self._segments = segments
        self._eliciting = Eliciting(profiles, rulebook)
        self._exploring = Exploring(settings.exploration, profiles)
        self.watch = Watch(profiles.ranker)
        self.newcomers = Newcomers(profiles, impressions)
        self._rankings = topics.real(settings.kafka, Topic.RANKINGS)
        self._triggers = topics.real(settings.kafka, topics.TRIGGERS["normal"])

    def outputs(
        self, touched: list[Touched], model_version: str, cause: str = "", shown: dict[str, int] | None = None
    ) -> list[Output]:
        """Re-rank users: a ranking each, and a trigger where its head is another one than before.

        Args:
            model_version: of the items' vectors.
            cause: of all of them; left out, each user's own.
            shown: where first impressions of new items are counted, by item; without it nobody is given any.
        """
        if not touched:
            return []
        ranked: dict[int, tuple[str, list[RankedItem], NDArray[np.int64]]] = {}
        for policy, at in self._policies.split([user.user_id for user in touched]):
            rest = []
            for n in at:
                user = touched[n]
                items = self._eliciting.items(user.slot, policy.ranking.slate) if user.elicit else []
                user.elicit = bool(items)
                if items:
                    ranked[n] = policy.variant, items, _NOTHING
                else:
                    rest.append(n)
            slates, liked = self._score(policy, [touched[n].slot for n in rest], shown) if rest else ([], [])
            for n, items, own in zip(rest, slates, liked, strict=True):
                ranked[n] = policy.variant, items, own
        now = time.time_ns() // 1_000_000
        found: list[Output] = []
        for n, user in enumerate(touched):
            found += self._publish(user, *ranked[n], model_version, cause or user.cause, now)
        return found

    def _score(
        self, policy: Policy, slots: list[int], shown: dict[str, int] | None
    ) -> tuple[list[list[RankedItem]], list[NDArray[np.int64]]]:
        """Slates of users of one policy as published, and the rows that each of them liked, oldest first, vectors known."""
        catalogue, profiles = self._profiles.catalogue, self._profiles
        gone, liked, force = [], [], self._rulebook.in_force
        for slot in slots:
            events = profiles.histories[slot].events()
            gone.append(self._rulebook.gone(events, int(profiles.event_times[slot])))
            liked.append(events["row"][(events["weight"] > 0) & (events["applied"] == 1)].astype(np.int64))
        ranker, times = profiles.ranker, profiles.event_times[slots]
        ranker.fit()
        interests = self._interests(policy, slots, liked)
        best = ranker.rank(
            profiles.recent,
            slots,
            times,
            gone,
            interests,
            catalogue.ties,
            policy.shaping.depth(force),
            self._segments.raised(slots),
        )
        shaped, caps = policy.shaping.slates(best, liked, force), force.caps if force else None
        ready = [one.take(at) for one, at in zip(best, shaped, strict=True)]
        slates = list(ready)
        if shown is not None:
            slates = self.newcomers.placed(policy.ranking.slate, slots, ready, gone, interests, shown, caps)
        # A slate has a new item that is owed its place, or places that are drawn: never both.
        open_ = [user for user, slate in enumerate(slates) if slate is ready[user]]
        propensities: dict[int, NDArray[np.float64]] = {}
        for user, (at, propensity) in self._exploring.drawn(policy.ranking.slate, open_, slots, best, shaped, caps):
            slates[user], propensities[user] = best[user].take(at), propensity
        if shown is not None:
            self.newcomers.count(slots, slates, shown)
        self.watch.ranked([slate.rows for slate in slates])
        return [
            ranked_items(
                catalogue,
                slate,
                ranker.evidence(profiles.recent, slot, now, slate.rows),
                own,
                now,
                self._groupings.shared,
                self._segments.words(slot),
                propensities.get(user),
            )
            for user, (slate, slot, own, now) in enumerate(zip(slates, slots, liked, times.tolist(), strict=True))
        ], liked

    def _interests(self, policy: Policy, slots: list[int], liked: list[NDArray[np.int64]]) -> NDArray[np.float32]:
        """[u, d] float32, what the vectors of items of few events are compared with."""
        catalogue, profiles, ranking = self._profiles.catalogue, self._profiles, policy.ranking
        recent = recent_interest(catalogue.vectors, liked, ranking.recent)
        taste = unit(profiles.vectors[slots])
        return np.float32(ranking.weight_taste) * taste + np.float32(ranking.weight_recent) * recent

    def _publish(
        self,
        user: Touched,
        variant: str,
        items: list[RankedItem],
        liked: NDArray[np.int64],
        model_version: str,
        cause: str,
        now: int,
    ) -> list[Output]:
        profiles, slot = self._profiles, user.slot
        generation, version = int(profiles.generations[slot]), int(profiles.versions[slot])
        revision = int(profiles.revisions[slot])
        ranking_id = identifier(user.user_id, str(generation), str(version), str(revision))
        ranking = Ranking(
            ranking_id=ranking_id,
            user_id=user.user_id,
            generation=generation,
            version=version,
            revision=revision,
            events=user.events,
            items=items,
            trigger=cause,
            model_version=model_version,
            event_time=int(profiles.event_times[slot]),
            publish_time=now,
            variant=variant,
        )
        headers = user.trace
        key = user.user_id.encode()
        outputs = [Output(self._rankings, key, encode(ranking), headers)]
        slate = [(item.item_id, item.propensity) for item in items]
        profiles.show(slot, Shown(ranking_id, version, revision, now, slate), self._settings.profiles.slates)
        head = items[0] if items else None
        if head and head.item_id != profiles.triggered[slot] and version >= self._settings.content.min_events:
            profiles.triggered[slot] = head.item_id
            trigger = head_changed(
                ranking, liked, profiles.reactions[slot], profiles.catalogue, self._arms, self._settings.content
            )
            outputs.append(Output(self._triggers, key, encode(trigger), headers))
        metrics.OUTPUTS.labels(WORKER, Topic.RANKINGS).inc()
        return outputs
