"""A log in; how well the rankings that a real stack published for it foresaw what came next, out.

The same events that the offline replay tests and learns from go through Kafka and the workers, one ranking an event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from upwell.bus import topics
from upwell.bus.reader import LogReader
from upwell.bus.topics import Topic
from upwell.evaluation.datasets import Dataset
from upwell.evaluation.ranking import PLACES
from upwell.evaluation.ranking_log import RankingLog
from upwell.events.codec import decode
from upwell.events.contracts import Ranking
from upwell.local.demo import Demo, Plan, Report, Show

SETS: Final = {
    "ranking.emit": "every_event",
    # The replay knows no vectors.
    "ranking.weight_content": "0",
    # Texts are not what is looked at.
    "content.tokens_per_second": "1",
}


def through_stack(
    dataset: Dataset,
    log: RankingLog,
    speed: float | None,
    show: Show,
    home: Path | None,
    sets: Mapping[str, str],
    workers: int = 1,
) -> tuple[NDArray[np.int64], Report]:
    """Publish a log's events in its order, and judge each by the ranking that its user had by then.

    Args:
        speed: events a second; None: as fast as it goes, so that what was learned lags by whole batches.
        sets: settings of the workers, beside `SETS`.
        workers: of interactions, each with its part of the users.

    Returns:
        [e] places before the item that came, `PLACES` where it was not on the slate, -1 where the event is no target or
        its user had no ranking yet; and what the run came to.

    Raises:
        DemoError, StackError: the stack cannot go on.
    """
    events = [dataset.interactions[number] for number in log.order]
    plan = Plan(replace(dataset, interactions=events), speed, sets={**SETS, **sets}, rankers=workers)
    with Demo(plan, show, home) as demo:
        report = demo.run()
        slates = _slates(demo.settings.kafka)
    rank, versions = np.full(len(events), -1, np.int64), dict[str, int]()
    for at, (event, target) in enumerate(zip(events, log.targets.tolist(), strict=True)):
        version = versions.get(event.user_id, 0)
        versions[event.user_id] = version + 1
        slate = slates.get((event.user_id, version))
        if target and slate is not None:
            rank[at] = slate.index(event.item_id) if event.item_id in slate[:PLACES] else PLACES
    return rank, report


def _slates(kafka: Any) -> dict[tuple[str, int], list[str]]:
    """What was published, by user and version."""
    reader = LogReader(kafka, topics.real(kafka, Topic.RANKINGS), "through-stack")
    try:
        found = {}
        for batch in reader.to_end():
            for message in batch:
                ranking = decode(Ranking, message.value() or b"")
                found[ranking.user_id, ranking.version] = [item.item_id for item in ranking.items]
        return found
    finally:
        reader.close()
