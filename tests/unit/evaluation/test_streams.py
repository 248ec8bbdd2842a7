"""The generated streams: the same seed gives the same events, and the oracle is a ceiling that chance does not reach."""

from __future__ import annotations

import numpy as np
import pytest

from upwell.evaluation.streams import Stream, news, shop

SMALL = {"users": 60, "items": 200, "events": 1_500}


@pytest.fixture(scope="module", params=[shop, news])
def made(request: pytest.FixtureRequest) -> tuple[Stream, Stream, Stream]:
    return request.param(3, **SMALL), request.param(3, **SMALL), request.param(4, **SMALL)


def test_a_seed_is_a_stream(made):
    one, same, other = made
    assert one.dataset.interactions == same.dataset.interactions
    assert (one.oracle == same.oracle).all()
    assert one.dataset.interactions != other.dataset.interactions


def test_events_are_in_time_order_and_no_user_takes_an_item_twice(made):
    events = made[0].dataset.interactions
    assert [event.ts for event in events] == sorted(event.ts for event in events)
    assert len({(event.user_id, event.item_id) for event in events}) == len(events)


def test_the_oracle_is_far_above_chance(made):
    ranks = made[0].oracle
    assert np.mean(ranks < 10) > 5 * 10 / SMALL["items"]
    assert ranks.min() >= 0
