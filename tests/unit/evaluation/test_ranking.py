"""Rankings judged test-then-learn: what the figures mean, that nothing leaks, and that structure is found."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from upwell.cli.main import app
from upwell.evaluation import reasons_check
from upwell.evaluation.datasets import Dataset
from upwell.evaluation.new_items import Content, releases, replay_released
from upwell.evaluation.peers import PEERS, judged
from upwell.evaluation.ranking import beyond_accuracy, evaluate, figures, replay, spans
from upwell.evaluation.ranking_log import RankingLog, ranking_log
from upwell.evaluation.streams import shop
from upwell.events.contracts import Interaction, Item
from upwell.settings import Events, Settings

EVENTS = Events()


def rating(user: str, item: str, value: float | None, ts: int, type_: str = "rating") -> Interaction:
    return Interaction(f"{user}-{item}-{ts}", user, type_, ts, item, value)


@pytest.fixture(scope="module")
def log() -> RankingLog:
    return ranking_log(shop(3, users=80, items=150, events=3_000).dataset, EVENTS)


def test_figures_of_known_ranks() -> None:
    found = figures(np.array([0, 1, 9, 10, -1]))
    assert found["targets"] == 4
    assert found["hr_at_10"] == 0.75
    assert found["ndcg_at_10"] == pytest.approx((1 + 1 / np.log2(3) + 1 / np.log2(11)) / 4, abs=1e-4)
    assert found["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 10 + 1 / 11) / 4, abs=1e-4)
    assert found["map"] == pytest.approx((1 + 1 / 2 + 1 / 10) / 4, abs=1e-4)
    assert figures(np.array([-1]))["hr_at_10"] is None


def test_spans_split_targets_by_time_and_by_history() -> None:
    found = spans(np.array([0, 20, 0, -1, 0, 20]), np.array([0, 4, 5, 6, 7, 8]))
    assert [half["targets"] for half in found["halves"]] == [3, 2]
    assert (found["cold"]["targets"], found["cold"]["hr_at_10"]) == (2, 0.5)
    assert found["warm"]["targets"] == 3
    assert found["with_history"]["targets"] == 4


def test_the_order_of_the_file_says_nothing() -> None:
    events = [rating(f"u{n % 7}", f"i{n % 11}", 1 + n % 5, 1_000 * (n // 30)) for n in range(200)]
    items = [Item(f"i{n}", categories=[f"c{n % 3}"]) for n in range(11)]
    one = ranking_log(Dataset("d", items, events), EVENTS)
    random.Random(4).shuffle(items)
    random.Random(5).shuffle(events)
    other = ranking_log(Dataset("d", items, events), EVENTS)
    assert one.items == other.items
    for column, same in zip(one.stream, other.stream, strict=True):
        np.testing.assert_array_equal(column, same)
    np.testing.assert_array_equal(one.category, other.category)


def test_targets_are_liked_and_new_to_their_user() -> None:
    events = [
        rating("u", "a", 5, 1),
        rating("u", "b", 3, 2),
        rating("u", "a", 5, 3),
        rating("u", "c", None, 4, "click"),
        rating("u", "d", None, 5, "view"),
        rating("u", "e", None, 6, "impression"),
    ]
    log = ranking_log(Dataset("d", [Item(each) for each in "abcde"], events), EVENTS)
    assert log.events == 5
    assert log.targets.tolist() == [True, False, False, True, False]


def test_values_that_are_all_the_same_are_clicks() -> None:
    events = [rating("u", each, 1.0, at) for at, each in enumerate("abc")]
    log = ranking_log(Dataset("d", [], events), EVENTS)
    assert log.targets.all()
    assert "click" in log.notes[0]


@pytest.mark.parametrize("scale", [1, 10])
def test_ratings_of_one_and_of_ten_are_ratings_of_five(scale: int) -> None:
    values = [1 + n % 5 for n in range(100)]
    made = [
        ranking_log(
            Dataset("d", [], [rating("u", f"i{n}", value * of / 5, n) for n, value in enumerate(values)]), EVENTS
        )
        for of in (5, scale)
    ]
    assert made[0].stream.target.tolist() == made[1].stream.target.tolist()
    assert made[0].stream.valence.tolist() == pytest.approx(made[1].stream.valence.tolist())
    assert made[0].notes == []
    assert f"ratings of {scale}" in made[1].notes[0]


def test_counts_are_clicks_and_what_is_left_out_is_said() -> None:
    events = [rating("u", f"i{n}", 3.0 * n, n) for n in range(20)]
    events += [rating("u", "bought", None, 30, "transaction")]
    log = ranking_log(Dataset("d", [], events, refused=["d.csv, line 3, column user: is empty"]), EVENTS)
    assert log.events == 20
    assert log.stream.target.all()
    said = " ".join(log.notes)
    assert "57 are no ratings" in said
    assert "transaction (1)" in said
    assert "line 3" in said


def test_new_items_are_candidates_from_their_release_on_and_judged_by_their_first_likings(log: RankingLog) -> None:
    released = releases(log)
    settings = Settings()
    vectors = np.eye(len(log.items), 8, dtype=np.float32)
    places = replay_released(log, Content(vectors, "made", settings), released)
    assert ((places >= 0) == log.targets).all()
    assert released.targets.sum() > 10
    own = [0] * len(log.items)
    for event in np.flatnonzero(released.targets):
        item = int(log.stream.item[event])
        assert event >= released.at[item] > 0
        own[item] += 1
    assert max(own) == 5
    # Before its release nobody can have had it.
    for event, item in enumerate(log.stream.item.tolist()):
        assert event >= released.at[item]


def test_no_event_is_known_before_it_came(log: RankingLog) -> None:
    whole, part = replay(log), replay(log.first(1_000))
    np.testing.assert_array_equal(whole.rank[:1_000], part.rank)
    np.testing.assert_array_equal(whole.slates[:1_000], part.slates)


def test_a_slate_holds_nothing_that_its_user_has_had(log: RankingLog) -> None:
    slates = replay(log).slates
    had: dict[int, set[int]] = {}
    for user, item, slate in zip(log.stream.user.tolist(), log.stream.item.tolist(), slates.tolist(), strict=True):
        shown = [row for row in slate if row >= 0]
        assert len(set(shown)) == len(shown)
        assert had.setdefault(user, set()).isdisjoint(shown)
        had[user].add(item)


def test_rank_and_slate_agree(log: RankingLog) -> None:
    found = replay(log)
    for rank, slate, item in zip(found.rank, found.slates, log.stream.item, strict=True):
        if 0 <= rank < 10:
            assert slate[rank] == item
        elif rank >= 10:
            assert item not in slate


@pytest.mark.parametrize("name", [name for name in PEERS if name != "als"])
def test_a_peer_is_beaten_where_there_is_structure(log: RankingLog, name: str) -> None:
    own, peer = replay(log), judged(PEERS[name](log), log, releases(log)).rank
    assert (peer >= 0).tolist() == (own.rank >= 0).tolist()
    assert figures(own.rank)["hr_at_10"] > figures(peer)["hr_at_10"] > 10 / len(log.items) / 3


def test_without_a_scorer_another_ranking_is_learned(log: RankingLog) -> None:
    without = replay(log, without="next")
    assert (without.shared.mix[:, 1] == 0).all()
    assert not np.array_equal(without.rank, replay(log).rank)


def test_coverage_and_diversity() -> None:
    items = [Item("a", categories=["x"]), Item("b", categories=["x"]), Item("c", categories=["y"]), Item("d")]
    log = ranking_log(Dataset("d", items, [rating("u", "a", None, 1, "click")]), EVENTS)
    row = {item: at for at, item in enumerate(log.items)}
    same = beyond_accuracy(log, np.array([[row["a"], row["b"], -1]], np.int32))
    apart = beyond_accuracy(log, np.array([[row["a"], row["c"], -1]], np.int32))
    assert same["coverage"] == apart["coverage"] == 0.5
    assert (same["diversity"], apart["diversity"]) == (0.0, 1.0)


def test_the_figures_are_json(log: RankingLog) -> None:
    found = evaluate(log.first(400), peers=["popularity"], ablation=True)
    shown = json.loads(json.dumps(found.as_dict()))
    assert {
        "hr_at_10",
        "ndcg_at_10",
        "mrr",
        "map",
        "coverage",
        "cold",
        "warm",
        "halves",
        "us_per_event",
    } <= shown.keys()
    assert shown["peers"]["popularity"]["targets"] == shown["targets"] == 400
    assert set(shown["ablation"]) > {"together", "category"}


def test_the_command_reads_csv_files(tmp_path: Path) -> None:
    rows = "".join(f"u{n % 9},i{n * n % 23},{1 + n % 5},{n}\n" for n in range(300))
    (tmp_path / "r.csv").write_text("user,item,value,timestamp\n" + rows)
    (tmp_path / "i.csv").write_text("item,title,categories\n" + "".join(f"i{n},T{n},c{n % 4}\n" for n in range(23)))
    arguments = ["evaluate", "ranking", "--interactions", str(tmp_path / "r.csv"), "--items", str(tmp_path / "i.csv")]
    done = CliRunner().invoke(app, [*arguments, "--no-peers", "--json"])
    assert done.exit_code == 0, done.output
    shown = json.loads(done.stdout.splitlines()[-1])
    assert shown["events"] == 300
    assert 0 < shown["hr_at_10"] <= 1
    table = CliRunner().invoke(app, [*arguments, "--no-peers"])
    assert table.exit_code == 0
    assert "first five events" in table.stdout
    both = CliRunner().invoke(app, [*arguments, "--stream", "shop"])
    assert both.exit_code == 2


def test_reasons_name_events_without_which_the_items_fall(log: RankingLog) -> None:
    found = reasons_check.check(log.first(3_000), 100)
    assert found["checked"] == 100
    assert found["hold"] >= 99
