"""Rankings that were published with propensities: the log of another share of exploration, by the product's own draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from upwell.evaluation.datasets import DatasetError
from upwell.evaluation.off_policy import Assumption, estimates
from upwell.evaluation.off_policy_log import read_log
from upwell.evaluation.off_policy_served import policy_log, shifted, write
from upwell.evaluation.recorded import Recorded
from upwell.evaluation.served_log import Feature, Published, Served, _Item, arrays, brief
from upwell.events.contracts import Interaction
from upwell.ranking.exploration import Budget, explore, propensities
from upwell.settings import Events

SHARE = 0.3
SLATE, OFFERED = np.array([0, 1, 2, 3]), np.array([4, 5, 6, 7])
RATE = np.array([0.5, 0.4, 0.3, 0.2, 0.6, 0.1, 0.2, 0.3])
"""Of users who like an item that they are shown."""


def drawn(users: int, positions: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Slates and propensities as the product draws them; pool and weights."""
    pool = np.tile(np.append(SLATE[-positions:], OFFERED), (users, 1))
    weight = np.tile(np.random.default_rng(2).dirichlet(np.ones(pool.shape[1])), (users, 1))
    found = explore(
        np.tile(SLATE, (users, 1)), pool, weight, np.arange(users, dtype=np.uint64), np.zeros(users, np.uint64),
        Budget(SHARE, positions, 0.1),
    )  # fmt: skip
    return found.rows, found.propensity, pool, weight


def served(rows: np.ndarray, propensity: np.ndarray, liked: np.ndarray) -> Served:
    """Each user had one ranking, and liked some of what it held; one more event is of something else."""
    names: dict[str, str] = {}
    shown, events = [], []
    for user, (slate, chances) in enumerate(zip(rows.tolist(), propensity.tolist(), strict=True)):
        items = [_Item(f"i{row}", 0.0, [], chance) for row, chance in zip(slate, chances, strict=True)]
        shown.append(brief(Published(f"r{user}", f"u{user}", items, "events", 10, 10), names))
        events += [
            Interaction(f"e{user}-{n}", f"u{user}", "click", 20, item.item_id, ranking_id=f"r{user}")
            for n, item in enumerate(items)
            if liked[user, n]
        ]
    events.append(Interaction("other", "u0", "click", 20, "i99"))
    recorded = Recorded("interactions", events, [20] * len(events))
    return arrays(recorded, shown, [Feature(f"i{row}") for row in range(8)], Events())


@pytest.mark.parametrize("positions", [1, 2, 3])
@pytest.mark.parametrize("judged", [0.0, 0.1, 1.0])
def test_probabilities_of_another_share_are_those_that_it_would_have_logged(positions: int, judged: float) -> None:
    rows, propensity, pool, weight = drawn(3_000, positions)
    columns = np.tile(np.arange(positions), (3_000, 1))
    shown = (rows[:, -positions:, None] == pool[:, None, :]).argmax(axis=2)
    expected, _ = propensities(weight, shown, columns, judged)
    found = shifted(propensity.ravel(), SHARE, judged).reshape(rows.shape)
    np.testing.assert_allclose(found[:, -positions:], expected, atol=1e-12)
    assert (found[:, :-positions] == 1).all()


def test_propensities_of_another_share_are_told() -> None:
    with pytest.raises(DatasetError, match=r"2 propensities cannot be of exploration.share = 0.1"):
        shifted(np.array([1.0, 0.95, 0.5, 0.7, 0.02]), 0.1, 0.0)
    assert shifted(np.array([1.0, 1.0]), 0.0, 0.0).tolist() == [1, 1]
    with pytest.raises(DatasetError, match=r"1 propensities"):
        shifted(np.array([1.0, 0.9]), 0.0, 0.0)


def test_what_no_exploration_would_have_earned_is_estimated_and_the_file_says_the_same(tmp_path: Path) -> None:
    rows, propensity, _, _ = drawn(8_000)
    liked = np.random.default_rng(4).random(rows.shape) < RATE[rows]
    found = served(rows, propensity, liked)
    log = policy_log(found, SHARE, 0.0)
    assert log.reward.sum() == liked.sum()
    by_name = {each.estimator: each for each in estimates(log, level=0.999)}
    truth = RATE[SLATE].sum()
    for name in ("ips", "snips", "dr", "sndr"):
        assert by_name[name].normal[0] < truth < by_name[name].normal[1]
    assert by_name["dr"].error < by_name["ips"].error
    write(found, log, tmp_path / "shown.csv")
    again = read_log(tmp_path / "shown.csv", Assumption.INDEPENDENCE)
    for one, other in zip(estimates(again), estimates(log), strict=True):
        assert one.value == pytest.approx(other.value, abs=1e-12)
        assert one.error == pytest.approx(other.error, abs=1e-12)


def test_rankings_without_items_are_no_slates() -> None:
    empty = np.zeros((2, 0), np.int64)
    with pytest.raises(DatasetError, match="no ranking in this stretch holds an item"):
        policy_log(served(empty, np.zeros((2, 0)), np.zeros((2, 0), bool)), SHARE, 0.0)
