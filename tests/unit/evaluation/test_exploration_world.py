"""A catalogue that changes: exploration finds what a cautious ranking never shows, within its budget."""

from __future__ import annotations

from upwell.evaluation.exploration_world import run
from upwell.ranking.exploration import Budget

TICKS = 60


def test_what_is_never_shown_is_found_by_exploration_alone():
    without = run(Budget(0.0, 2, 0.1), cautious=True, seed=1, ticks=TICKS)
    thompson = run(Budget(0.3, 2, 0.1), cautious=True, seed=1, ticks=TICKS)
    assert thompson.found > without.found + 0.15
    assert thompson.likes > without.likes
    assert without.cost == 0
    uniform = run(Budget(0.3, 2, 1.0), cautious=True, seed=1, ticks=TICKS)
    assert 0 < thompson.cost < uniform.cost


def test_a_run_is_a_function_of_its_seed():
    short = 50
    one = run(Budget(), cautious=False, seed=2, ticks=short)
    assert run(Budget(), cautious=False, seed=2, ticks=short) == one
    assert run(Budget(), cautious=False, seed=3, ticks=short) != one
