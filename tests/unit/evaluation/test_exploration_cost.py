"""What exploring costs on a log: the same hit rate without it, and what is expected with it."""

from __future__ import annotations

import numpy as np
import pytest

from upwell.evaluation.exploration_cost import cost
from upwell.evaluation.ranking import PLACES, replay
from upwell.evaluation.ranking_log import ranking_log
from upwell.evaluation.streams import STREAMS
from upwell.ranking.exploration import Budget
from upwell.settings import Events


@pytest.mark.parametrize("positions", [1, 2])
def test_without_exploration_it_is_the_replays_hit_rate_and_draws_move_a_place_each(positions: int) -> None:
    log = ranking_log(STREAMS["shop"]().dataset, Events()).first(1_500)
    found = cost(log, Budget(0.2, positions, 0.1), 40)
    ranks = replay(log).rank
    assert len(found.hit["none"]) == (ranks >= 0).sum()
    # Not to the last hit: the ranker orders equal items otherwise, and has its candidates chosen anew at other events.
    assert found.hit["none"].mean() == pytest.approx((ranks[ranks >= 0] < PLACES).mean(), abs=0.01)
    for way in ("uniform", "thompson"):
        assert (np.abs(found.hit[way]) <= 1 + 1e-9).all()
        assert 0 < found.moved[way].mean() < positions
        assert found.hit[way].mean() > 0
        # Only the last places, and what takes them, are another chance than before.
        assert ((found.hit[way] > 0) | (found.hit["none"] == 0)).all()
        assert found.hit[way][found.gain["none"] > 0.4] == pytest.approx(1)
    assert found.moved["uniform"].mean() > found.moved["thompson"].mean()
    told = found.as_dict(0.2)
    between = 0.8 * found.hit["none"].mean() + 0.2 * found.hit["thompson"].mean()
    assert told["thompson"]["hr_at_10"] == pytest.approx(between, abs=1e-5)
