"""An experiment on the real broker: users are shared out as stated, ranked by their variant's settings, and compared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from stream import DIMENSION, Log, Stream, rankings, total
from support import eventually
from upwell.bus.topics import Topic
from upwell.events.contracts import Ranking
from upwell.local.stack import Stack

pytestmark = pytest.mark.integration

USERS, ITEMS = 700, 60
SHARES = {"control": 0.5, "short": 0.2, "diverse": 0.2}
OWN: dict[str, dict[str, Any]] = {
    "control": {}, "short": {"ranking.slate": 4}, "diverse": {"shaping": {"method": "dpp", "diversity": 0.9}},
}  # fmt: skip
VARIANTS = [{"name": name, "share": share, "settings": OWN[name]} for name, share in SHARES.items()]


@pytest.fixture
def stream(stack: Stack, prefix: str) -> Iterator[Stream]:
    made = Stream(stack, prefix, experiment={"name": "length and diversity", "variants": VARIANTS})
    try:
        yield made
    finally:
        made.close()


def newest(log: Log, users: int) -> dict[str, Ranking]:
    """Each user's latest ranking, once as many have a version as are asked for."""
    log.until(lambda found: total(found) >= users, timeout=120)
    return {user: published[-1] for user, published in rankings(log.records).items()}


def test_users_are_shared_out_ranked_and_compared_by_variant_and_keep_it(stream: Stream, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    vectors = {f"i{n}": rng.normal(size=DIMENSION) for n in range(ITEMS)}
    for item, vector in vectors.items():
        vectors[item] = vector / np.linalg.norm(vector)
        stream.feature(item, vector, ["any"])
    had = {f"u{user}": f"i{rng.integers(ITEMS)}" for user in range(USERS)}
    number = 0
    for user, item in had.items():
        stream.event(number := number + 1, user, item)
    stream.flush()
    with stream.reading(Topic.RANKINGS) as log:
        with stream.worker("interactions"):
            first = newest(log, USERS)
        of = {user: ranking.variant for user, ranking in first.items()}

        counts = Counter(of.values())
        assert set(counts) == {*SHARES, ""}
        for name, share in {**SHARES, "": 0.1}.items():
            assert binomtest(counts[name], USERS, share).pvalue > 0.001, counts
        lengths = {name: {len(r.items) for r in first.values() if r.variant == name} for name in counts}
        assert lengths == {"control": {10}, "short": {4}, "diverse": {10}, "": {10}}

        def apart(name: str) -> float:
            """Mean distance within the slates of a variant."""
            found = []
            for ranking in first.values():
                if ranking.variant == name:
                    inside = np.array([vectors[item.item_id] for item in ranking.items])
                    k = len(inside)
                    found.append(1 - ((inside @ inside.T).sum() - k) / (k * (k - 1)))
            return float(np.mean(found))

        assert apart("diverse") > apart("control") + 0.05

        # Every other user likes what stands first on the slate, but of those with short slates nobody does.
        with stream.worker("interactions"):
            for n, (user, ranking) in enumerate(sorted(first.items())):
                slate = [item.item_id for item in ranking.items]
                off = next(item for item in vectors if item not in {*slate, had[user]})
                stream.event(number := number + 1, user, slate[0] if n % 2 and of[user] != "short" else off)
            stream.flush()
            again = newest(log, 2 * USERS)
            assert {user: ranking.variant for user, ranking in again.items()} == of
            latest = max(stamp(message) for message in stream.read(Topic.INTERACTIONS))
            begun = [ranking.publish_time for ranking in first.values()]
            # Users are watched until all of that has happened, and their time is over by the last event.
            window = latest - min(begun) + 1
            eventually(lambda: time.time() * 1000 > max(begun) + window, 60, "the last user's time to be over")
            stream.event(number := number + 1, "u0", "i0", "impression")
            stream.flush()
            newest(log, 2 * USERS + 1)

    found = evaluate(stream, window / 3_600_000, tmp_path / "served.html")
    assert found["sharing"]["users"] == {name: counts[name] for name in SHARES}
    assert found["sharing"]["as_planned"]
    assert found["sharing"]["chi_square_p"] > 0.001
    assert found["control"]["variant"] == "control"
    assert found["control"]["mean"] == pytest.approx(0.5, abs=0.1)
    assert found["hit_rate"]["control"]["mean"] == pytest.approx(found["control"]["mean"])  # one liking each
    short, diverse = found["variants"]
    assert (short["variant"], short["mean"], short["verdict"]) == ("short", 0, "worse")
    assert short["high"] < 0
    assert short["p"] < 0.001
    assert (diverse["variant"], diverse["verdict"]) == ("diverse", "open")
    assert diverse["low"] < 0 < diverse["high"]
    assert not found["decided"]
    assert [sentence.split(";")[0] for sentence in found["in_words"]] == [
        "short against control: decided, worse", "diverse against control: not decided",
    ]  # fmt: skip
    page = (tmp_path / "served.html").read_text("utf-8")
    assert all(f"<li>{sentence}.</li>" in page for sentence in found["in_words"])
    assert "Users shared out" in page


def stamp(message: Any) -> int:
    """When the broker took it, ms."""
    return int(message.timestamp()[1])


def evaluate(stream: Stream, window_h: float, report: Path) -> Any:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("UPWELL_")} | stream.environment
    done = subprocess.run(
        [
            sys.executable, "-m", "upwell.cli.main", "evaluate", "served", "--json", "--window", repr(window_h),
            "--report", str(report),
        ],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])["experiment"]


def test_a_worker_does_not_start_with_an_impossible_experiment(stream: Stream) -> None:
    variants = [VARIANTS[0], {"name": "other", "share": 0.5, "settings": {"events.weights": 1}}]
    stream.environment["UPWELL_EXPERIMENT__VARIANTS"] = json.dumps(variants)
    with pytest.raises(AssertionError, match="all users' events teach"), stream.worker("interactions") as worker:
        assert worker.process.wait(60) == 0, worker.log.read_text()
