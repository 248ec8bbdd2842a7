"""Every step of the slate is timed on what it would meet in a worker."""

from __future__ import annotations

from upwell.evaluation.slate_bench import Size, measure


def test_every_step_takes_its_time() -> None:
    said: list[str] = []
    found = measure(Size(items=600, width=8, candidates=20, places=5, history=20), 2, said.append)
    assert [step["step"] for step in found] == said
    assert len(set(said)) == len(said) > 8
    assert all(0 < step["us_least"] <= step["us_median"] for step in found)
