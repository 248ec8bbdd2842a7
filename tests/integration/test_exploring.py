"""Exploration on the real broker and worker: drawn places are as frequent as they say, and tell what not drawing would earn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from scipy.stats import binom

from stream import START_MS, Log, Stream, rankings, send_random
from support import eventually
from upwell.bus.topics import Topic
from upwell.events.contracts import Interaction, Ranking, Rule
from upwell.local.stack import Stack

pytestmark = pytest.mark.integration

SHARE, POSITIONS, PLACES, USERS = 0.4, 2, 10, 2_000
DRAWN = range(PLACES - POSITIONS, PLACES)
SURE = 1 - 1e-7
"""Of an interval of a frequency; a hundred of them are looked at."""
SETTINGS = {
    "exploration": {"share": SHARE, "positions": POSITIONS, "floor": 0.2},
    "cold_start": {"impressions": 0},
    "profiles": {"flush_ms": 100},
    "ranking": {"reissue_ms": 400, "candidates": 20},
}


@pytest.fixture(scope="module")
def learned(stack: Stack) -> Iterator[Stream]:
    """What 400 clicks on 40 items taught; nobody learns more."""
    made = Stream(stack, f"explored{os.getpid()}_", **SETTINGS)
    try:
        send_random(made, made.features(40), 400)
        with made.worker("interactions"):
            made.drained("interactions", Topic.INTERACTIONS)
        yield made
    finally:
        made.close()


def own(stack: Stack, prefix: str, learned: Stream) -> Stream:
    """Users of its own, ranked by what was learned there."""
    names = {str(name): learned.topic(name) for name in (Topic.STATISTICS, Topic.ITEM_FEATURES)}
    return Stream(stack, prefix, **SETTINGS, kafka={"topics": names})


def ask(stream: Stream, users: range) -> None:
    for user in users:
        stream.send(Topic.INTERACTIONS, f"u{user}", Interaction(f"ask{user}", f"u{user}", "rank_request", START_MS))
    stream.flush()


def answers(log: Log, users: range) -> list[Ranking]:
    """What each of the users was answered."""
    log.until(lambda records: {f"u{user}" for user in users} <= set(rankings(records)))
    found = rankings(log.records)
    return [found[f"u{user}"][0] for user in users]


def stated(slates: list[Ranking], place: int) -> dict[str, float]:
    """Propensities by item: one each, for all users are alike."""
    found: dict[str, set[float]] = defaultdict(set)
    for ranking in slates:
        item = ranking.items[place]
        found[item.item_id].add(round(item.propensity, 12))
    assert all(len(several) == 1 for several in found.values())
    return {item: several.pop() for item, several in found.items()}


def usual(slates: list[Ranking]) -> list[str]:
    """The slate that is not explored."""
    return [max(chances, key=chances.__getitem__) for chances in (stated(slates, place) for place in range(PLACES))]


def evaluate(stream: Stream, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("UPWELL_")} | stream.environment
    done = subprocess.run(
        [sys.executable, "-m", "upwell.cli.main", "evaluate", "policy", *arguments],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done


def test_drawn_places_are_as_frequent_as_they_say_and_never_hold_what_is_blocked_and_tell_what_else_would_earn(
    stack: Stack, prefix: str, learned: Stream, tmp_path: Path
) -> None:
    stream = own(stack, prefix, learned)
    try:
        with stream.worker("interactions"), stream.reading(Topic.RANKINGS) as log:
            users = range(USERS)
            ask(stream, users)
            slates = answers(log, users)
            slate = usual(slates)
            for place in range(PLACES):
                chances = stated(slates, place)
                if place not in DRAWN:
                    assert list(chances.items()) == [(slate[place], 1.0)]
                    continue
                shown = Counter(ranking.items[place].item_id for ranking in slates)
                assert chances[slate[place]] > 1 - SHARE
                assert len(shown) > 10
                for item, chance in chances.items():
                    low, high = binom.interval(SURE, USERS, chance)
                    assert low <= shown[item] <= high, f"{item} at {place}: {shown[item]} of {USERS}, says {chance}"
                rare = 1 - sum(chances.values())  # of what was never drawn
                assert -1e-9 < rare < 0.02
            assert all(len({item.item_id for item in ranking.items}) == PLACES for ranking in slates)

            # Whoever is shown an item likes it as often as its name says.
            rates = {item.item_id: (int(item.item_id[1:]) * 7 % 10) / 10 for one in slates for item in one.items}
            liked = 0
            for user, ranking in zip(users, slates, strict=True):
                for place in DRAWN:
                    item = ranking.items[place].item_id
                    if (user * 13 + place) % 97 < 97 * rates[item]:
                        liked += 1
                        more = Interaction(
                            f"like{liked}", f"u{user}", "like", START_MS, item, ranking_id=ranking.ranking_id
                        )
                        stream.send(Topic.INTERACTIONS, f"u{user}", more)
            item = Counter(
                item.item_id for one in slates for item in one.items if item.item_id not in slate
            ).most_common(1)[0][0]
            stream.send(Topic.RULES, "out", Rule("out", "block", items=[item]))
            stream.flush()
            stream.drained("interactions", Topic.INTERACTIONS)

            def replaced() -> bool:
                found = rankings(log.more())
                return all(item not in [i.item_id for i in all_[-1].items] for all_ in found.values())

            eventually(replaced, 60, f"{item} to leave all rankings")
            late = range(USERS, USERS + 400)
            ask(stream, late)
            for ranking in answers(log, late):
                assert len(ranking.items) == PLACES
                assert item not in [one.item_id for one in ranking.items]

        file = tmp_path / "shown.csv"
        done = evaluate(stream, "--from-topics", "--json", "--level", "0.9999", "--write", str(file))
        found = json.loads(done.stdout.splitlines()[-1])
        # The answers and what came after them: each user liked what its first ranking showed.
        assert found["logged"] * found["slates"] == pytest.approx(liked)
        again = json.loads(evaluate(stream, "--log", str(file), "--json", "--level", "0.9999").stdout.splitlines()[-1])
        for name, estimate in found["estimates"].items():
            assert again["estimates"][name]["value"] == pytest.approx(estimate["value"])
        truth = sum(rates[slate[place]] for place in DRAWN) * USERS / found["slates"]
        for name in ("ips", "snips", "dr"):
            low, high = found["estimates"][name]["normal"]
            assert low < truth < high, name
        assert not [note for note in found["notes"] if "mean weight" in note]
        refused = evaluate(stream, "--from-topics", "--set", "exploration.share=0.1", code=2)
        assert "exploration.share = 0.1" in refused.stderr
        assert "independence" in evaluate(stream, "--from-topics", "--assume", "cascade", code=2).stderr
    finally:
        stream.close()


def test_the_same_log_replayed_draws_the_same(stack: Stack, prefix: str, learned: Stream) -> None:
    users = range(300)
    found = []
    for number in range(2):
        stream = own(stack, f"{prefix}{number}_", learned)
        try:
            with stream.worker("interactions"), stream.reading(Topic.RANKINGS) as log:
                ask(stream, users)
                found.append([[(item.item_id, item.propensity) for item in one.items] for one in answers(log, users)])
        finally:
            stream.close()
    assert found[0] == found[1]
    assert len({tuple(slate) for slate in found[0]}) > 10
