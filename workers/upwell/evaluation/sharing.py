"""A log in; what it costs in quality to learn from a share of the events, or to hold a shard of the items, out.

Both are ways out where one worker cannot learn, or hold, all that all users teach.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from upwell.evaluation.ranking import figures, replay, spans
from upwell.evaluation.ranking_log import RankingLog

PARTS: Final = (2, 4, 8)
"""One event of so many is learned from; so many shards are there."""


def sharing(log: RankingLog, say: Callable[[str], None] = lambda _: None, seed: int = 1) -> dict[str, Any]:
    """Replays of the log.

    Returns:
        sampled: by denominator, figures where so few of the events, drawn by chance, are learned from (`us_per_event` is
        of ranking and learning); users' own events count all the same. sharded: by number of shards, figures where a
        worker holds the neighbours of one shard's items only, means over all shards: counts, popularity and mix are few
        bytes and stay whole.
    """
    chance = np.random.default_rng(seed)
    lots, shard = chance.random(log.events), chance.permutation(len(log.items))
    found: dict[str, Any] = {"sampled": {}, "sharded": {}}
    for parts in PARTS:
        one = replay(log, told=lots < 1 / parts)
        found["sampled"][str(parts)] = {**spans(one.rank, one.history), "us_per_event": round(one.us_per_event, 2)}
        say(f"one event of {parts} is learned from: {figures(one.rank)}")
        ranks = [replay(log, kept=shard % parts == part).rank for part in range(parts)]
        # Every shard has the same targets.
        found["sharded"][str(parts)] = figures(np.concatenate(ranks)) | {"targets": int((ranks[0] >= 0).sum())}
        say(f"{parts} shards: {found['sharded'][str(parts)]}")
    return found
