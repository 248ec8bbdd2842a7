"""What sampling and sharding of what is learned cost, on a stream where company is all there is to learn."""

from __future__ import annotations

import numpy as np

from upwell.evaluation.ranking import replay
from upwell.evaluation.ranking_log import RankingLog
from upwell.evaluation.sharing import sharing
from upwell.ranking.learner import CATEGORIES, Stream

EVENTS, USERS, PAIRS = 4_000, 400, 200


def pairs() -> RankingLog:
    """Users take one item of a pair, then the other one."""
    rng = np.random.default_rng(2)
    item = np.repeat(rng.integers(PAIRS, size=EVENTS // 2) * 2, 2)
    item[1::2] += 1
    user = np.repeat(np.arange(EVENTS // 2) % USERS, 2).astype(np.int32)
    times = np.arange(EVENTS) * 120_000
    stream = Stream(user, item.astype(np.int32), np.ones(EVENTS, np.float32), times, np.arange(EVENTS) % 2 == 1)
    items = 2 * PAIRS
    again = np.zeros(EVENTS, bool)
    return RankingLog(
        "pairs", USERS, [f"i{n}" for n in range(items)], stream, again, np.ones(items, bool),
        np.zeros((items, CATEGORIES), np.int32), [], np.arange(EVENTS), [],
    )  # fmt: skip


def test_the_fewer_events_are_learned_from_and_the_more_shards_there_are_the_less_is_foreseen():
    log = pairs()
    found = sharing(log)
    whole = replay(log).rank
    hits = [float((whole[whole >= 0] < 10).mean())]
    sampled = hits + [found["sampled"][parts]["hr_at_10"] for parts in ("2", "4", "8")]
    sharded = hits + [found["sharded"][parts]["hr_at_10"] for parts in ("2", "4", "8")]
    assert sampled == sorted(sampled, reverse=True)
    assert sharded == sorted(sharded, reverse=True)
    assert sampled[-1] < sampled[0] - 0.1
    # Half of the company is in rows of the other shard.
    assert sharded[1] < sharded[0] - 0.2
    assert found["sharded"]["8"]["targets"] == found["sampled"]["8"]["targets"] == (whole >= 0).sum()
