"""How rankings fare, as metrics: by likings of what was on them, and by what they hold."""

from __future__ import annotations

import numpy as np
import pytest
from prometheus_client import REGISTRY

from upwell.interactions.profiles import Shown
from upwell.interactions.watch import Watch
from upwell.ranking.catalogue import Catalogue
from upwell.ranking.ranker import FEW, Ranker

SHOWN = [Shown("old", 1, 0, 1, [("i9", 1.0)]), Shown("new", 2, 0, 2, [("i1", 1.0), ("i2", 1.0)])]


@pytest.fixture
def watch() -> Watch:
    """A hundred items, of which item n has had n events."""
    catalogue = Catalogue()
    for n in range(100):
        catalogue.put(f"i{n}", np.ones(4, np.float32) / 2, "", [], 1.0)
    ranker = Ranker(catalogue, content=1.0)
    ranker.fit()
    ranker.shared.counts[:100] = np.arange(100)
    return Watch(ranker)


class Grown:
    """By how much metrics have grown since."""

    def __init__(self) -> None:
        self._held: dict[str, float] = {}
        self._held = {name: self(name) for name in ("targets", "hits", "places", "places_new", "places_popularity")}

    def __call__(self, name: str, **labels: str) -> float:
        return (REGISTRY.get_sample_value(f"upwell_ranking_{name}_total", labels) or 0) - self._held.get(name, 0)


def test_likings_are_judged_by_the_newest_slate_before_them(watch: Watch) -> None:
    grown = Grown()
    for item, weight in (("i1", 1.0), ("i2", 0.6), ("i9", 3.0), ("i1", 0.4), ("i1", -1.0)):
        watch.happened(SHOWN, item, weight, logged=3)
    assert (grown("targets"), grown("hits")) == (3, 2)
    watch.happened(SHOWN, "i9", 1.0, logged=2)
    assert (grown("targets"), grown("hits")) == (4, 3)
    watch.happened(SHOWN, "i9", 1.0, logged=1)
    watch.happened([], "i1", 1.0, logged=3)
    assert grown("targets") == 4


def test_places_are_counted_by_popularity(watch: Watch) -> None:
    grown = Grown()
    watch.ranked([np.array([99, 0]), np.array([], np.int64), np.array([FEW - 1, FEW])])
    assert (grown("places"), grown("places_new")) == (4, 2)
    assert grown("places_popularity") == pytest.approx((99 + 0 + FEW - 1 + FEW) / 99)


def test_a_hit_rate_that_falls_is_told(watch: Watch) -> None:
    falls = Grown()
    before = falls("hit_rate_moves", direction="down")
    rng = np.random.default_rng(2)
    for rate in (0.3, 0.1):
        for hit in rng.random(6_000) < rate:
            watch.happened(SHOWN, "i1" if hit else "i5", 1.0, logged=3)
    assert falls("hit_rate_moves", direction="down") == before + 1
