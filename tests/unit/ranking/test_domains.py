"""A user of one domain who looks at another one: what categories that both have say there. Nobody has been in both."""

from __future__ import annotations

import numpy as np
import pytest

from upwell.ranking import learner
from upwell.ranking.catalogue import Catalogue
from upwell.ranking.ranker import Ranker

KINDS = ("horror", "romance", "travel", "science")
EACH = 40
"""Items of a domain and kind."""
MINUTE = 60_000
NONE = np.zeros((1, 1), np.float32)


def world(shared: bool) -> tuple[Ranker, dict[tuple[str, str], list[int]]]:
    """Books and films of four kinds, 200 readers and 200 viewers, each with a favourite kind.

    Args:
        shared: whether a kind is called the same in both domains.
    """
    catalogue, rows = Catalogue(), {}
    for domain in ("book", "film"):
        for kind in KINDS:
            name = kind if shared else f"{domain} {kind}"
            rows[domain, kind] = [
                catalogue.put(f"{domain} {kind} {n}", np.ones(1, np.float32), "", [domain, name], 1.0)[0]
                for n in range(EACH)
            ]
    ranker = Ranker(catalogue, content=0.0)
    ranker.fit()
    recent, into, chance = ranker.users(400), learner.lessons(1, ranker.tuning), np.random.default_rng(6)
    had = [list[int]() for _ in range(400)]
    for step in range(8_000):
        user = int(chance.integers(400))
        domain, favourite = ("book", "film")[user % 2], KINDS[user // 2 % 4]
        kind = favourite if chance.random() < 0.8 else KINDS[chance.integers(4)]
        left = [row for row in rows[domain, kind] if row not in had[user]]
        if left:
            row = int(chance.choice(left))
            gone = np.array(had[user], np.int32)
            ranker.teach(recent, user, row, 1.0, step * MINUTE, gone, into, 0)
            ranker.learn(into, 1)
            ranker.remember(recent, user, row, 1.0, step * MINUTE)
            had[user].append(row)
    return ranker, rows


def share_of_own_kind(ranker: Ranker, rows: dict[tuple[str, str], list[int]]) -> float:
    """Of the ten best films of readers of six books of one kind, the share of films of that kind."""
    found = []
    films = np.zeros(len(ranker.catalogue), bool)
    films[[row for (domain, _), own in rows.items() if domain == "film" for row in own]] = True
    ranker.admit(films)
    for kind in KINDS:
        recent = ranker.users(1)
        for at, row in enumerate(rows["book", kind][:6]):
            ranker.remember(recent, 0, row, 1.0, (9_000 + at) * MINUTE)
        (slate,) = ranker.rank(
            recent, [0], np.array([9_010 * MINUTE]), [np.zeros(0, np.int32)], NONE, ranker.catalogue.ties, 10
        )
        assert len(slate.rows) == 10
        found += [row in rows["film", kind] for row in slate.rows.tolist()]
    return float(np.mean(found))


@pytest.mark.parametrize(("shared", "least", "most"), [(True, 0.9, 1.0), (False, 0.0, 0.5)])
def test_the_other_domain_begins_with_the_categories_that_are_known_of_this_one(
    shared: bool, least: float, most: float
) -> None:
    """Without a name in common there is nothing that ties the domains: a quarter is chance."""
    assert least <= share_of_own_kind(*world(shared)) <= most
