"""Which share of the events keeps below a limit a second."""

from __future__ import annotations

import pytest

from upwell.interactions.rate import Rate


def test_all_events_are_told_until_more_come_than_the_limit_and_again_when_fewer_come():
    now = 0.0
    rate = Rate(lambda: now)

    def shares(seconds: int, events: int) -> list[float]:
        nonlocal now
        found = []
        for _ in range(seconds):
            now += 1.0
            found.append(rate.share(events, 100.0))
        return found

    assert set(shares(60, 80)) == {1.0}
    busy = shares(120, 800)
    assert busy[-1] == pytest.approx(1 / 8, rel=0.1)
    assert busy == sorted(busy, reverse=True)
    assert shares(120, 80)[-1] == 1.0
