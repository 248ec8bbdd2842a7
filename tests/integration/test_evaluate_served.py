"""`upwell evaluate served` as a command, on rankings that a real interactions worker published and on what followed them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from stream import Stream, rankings, send_random, total
from upwell.bus.topics import Topic
from upwell.local.stack import Stack

pytestmark = pytest.mark.integration

USERS, EVENTS = 40, 600


@pytest.fixture(scope="module")
def own(stack: Stack) -> Iterator[Stream]:
    """600 clicks; then everybody is shown the latest ranking, and every other user takes what stands first there."""
    made = Stream(stack, f"served{os.getpid()}_")
    try:
        ids = made.features(60)
        send_random(made, ids, EVENTS, USERS)
        with made.worker("interactions"), made.reading(Topic.RANKINGS) as log:
            latest = rankings(log.until(lambda found: total(found) == EVENTS))
            number = EVENTS
            for user in range(USERS):
                shown = latest[f"u{user}"][-1]
                context = {"country": "here" if user % 2 else "there"}
                for item in shown.items[:3]:
                    number += 1
                    made.event(number, f"u{user}", item.item_id, "impression", ranking_id=shown.ranking_id)
                if user % 2:
                    number += 1
                    first = shown.items[0].item_id
                    made.event(number, f"u{user}", first, "like", ranking_id=shown.ranking_id, context=context)
            made.produce("interactions", "u0", b"not JSON")
            made.flush()
            log.until(lambda found: total(found) >= number)
        yield made
    finally:
        made.close()


def evaluate(own: Stream, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("UPWELL_")} | own.environment
    done = subprocess.run(
        [sys.executable, "-m", "upwell.cli.main", "evaluate", "served", *arguments],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done


class Page(HTMLParser):
    """Whether elements are closed, and whether anything is loaded."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.headings: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [value for name, value in attrs if name in {"src", "href"} and value and value[0] != "#"]
        self.headings += [value for name, value in attrs if tag == "h2" and name == "id" and value]
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_what_was_served_is_judged_by_what_followed(own: Stream, tmp_path: Path) -> None:
    report = tmp_path / "deep" / "served.html"
    done = evaluate(own, "--json", "--group-by", "country", "--report", str(report))
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["users"], found["items"], found["places"]) == (USERS, 60, 10)
    assert found["events"] == EVENTS + USERS * 3 + USERS // 2
    shown = [row["shown"] for row in found["click_through"]]
    assert shown == [USERS] * 3 + [0] * 7
    assert found["click_through"][0]["rate"] == 0.5
    # Nobody had a ranking before the worker ran.
    assert found["targets"] == found["hits_by_position"][0] == USERS // 2
    assert found["targets_without_a_ranking"] > USERS
    assert found["hit_rate"] == found["ndcg"] == 1
    assert 0 < found["gini"] < 1
    assert sum(row["exposure"] for row in found["exposure_by_category"]) == pytest.approx(1, abs=1e-3)
    assert sum(reason["share"] for reason in found["reasons"].values()) == pytest.approx(1, abs=1e-3)
    assert 0 <= found["event_to_ranking_ms"]["p50"] <= found["event_to_ranking_ms"]["p99"]
    assert found["experiment"] is None
    page = Page(report.read_text("utf-8"))
    assert not page.open
    assert page.loaded == []
    assert page.headings == ["alarms", "figures", "groups", "exposure", "experiment", "drift", "reasons", "delay"]


def test_the_last_ones_alone(own: Stream) -> None:
    found = json.loads(evaluate(own, "--json", "--last", "100").stdout.splitlines()[-1])
    assert found["events"] == 100
    assert found["rankings"] <= 100
    assert found["targets"] == sum(found["hits_by_position"]) > 0  # by rankings from before what was looked at, too
    assert any("--last" in note for note in found["notes"])


def test_as_a_table(own: Stream) -> None:
    out = evaluate(own).stdout
    assert "Hit rate, 10 places" in out
    assert "activity" in out


def test_what_is_not_there_is_said(own: Stream) -> None:
    assert "nowhere." in evaluate(own, "--set", "kafka.topic_prefix=nowhere.", code=3).stderr
    assert "no rankings" in evaluate(own, "--hours", "0", code=2).stderr
