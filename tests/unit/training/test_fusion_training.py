"""Training and examination of fusion: the exam against a slow count, what is learned from what, and what is kept."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from upwell.cli.main import app
from upwell.evaluation.fusion import DAY_MS, Exam, Log, clustered_error, log_of, split, table
from upwell.events.contracts import Interaction
from upwell.settings import Settings
from upwell.training import fusion_features, fusion_fit, fusion_runs
from upwell.training.fusion import MODALITIES, Part, create, load
from upwell.training.fusion_features import Features, FeaturesError
from upwell.training.fusion_fit import Recipe

HALF_LIFE = 30 * DAY_MS
GROUPS, EACH = 6, 10
QUICK = Recipe(epochs=6, steps=12, batch=64, learning_rate=3e-3)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def some_log(events: int, users: int, items: int, seed: int = 0) -> Log:
    rng = np.random.default_rng(seed)
    return Log(
        rng.integers(0, users, events).astype(np.int32),
        rng.integers(0, items, events).astype(np.int32),
        rng.choice([1.0, 2.0, -2.0], events, p=[0.6, 0.3, 0.1]).astype(np.float32),
        np.sort(rng.integers(0, 40 * DAY_MS, events)).astype(np.int64),
    )


@pytest.fixture(scope="module")
def world() -> tuple[Features, Log]:
    """Items of six groups that only their pictures show; users who like two groups each; texts that say nothing."""
    rng = np.random.default_rng(4)
    n = GROUPS * EACH
    group = np.repeat(np.arange(GROUPS), EACH)
    signs = rng.normal(size=(GROUPS, 24))
    layout = {
        "text": (Part(16, shared=True),),
        "image": (Part(24),),
        "audio": (Part(8),),
        "speech": (Part(16, shared=True),),
    }
    inputs = {
        "text": unit(rng.normal(size=(n, 16))),
        "image": unit(0.5 * signs[group] + rng.normal(size=(n, 24))),
        "audio": unit(rng.normal(size=(n, 8))),
        "speech": np.zeros((n, 16), np.float32),
    }
    present = np.ones((n, 4), bool)
    present[:, 3] = False
    present[::5, 2] = False
    inputs["audio"][::5] = 0
    features = Features([f"item-{i}" for i in range(n)], inputs, present, layout, dict.fromkeys(MODALITIES, "made@1"))
    users, items, times = [], [], []
    for event in range(2400):
        user = int(rng.integers(40))
        liked = (user % GROUPS, (user * 5 + 1) % GROUPS)[int(rng.integers(2))]
        users.append(user)
        items.append(liked * EACH + int(rng.integers(EACH)) if rng.random() < 0.9 else int(rng.integers(n)))
        times.append(event * DAY_MS // 60)
    return features, Log(
        np.array(users, np.int32), np.array(items, np.int32), np.ones(2400, np.float32), np.array(times)
    )


def test_ranks_are_those_of_a_slow_count():
    log, vectors = some_log(300, 6, 40), unit(np.random.default_rng(1).normal(size=(40, 5)))
    exam = Exam(log, 150, 280, 40, HALF_LIFE)
    expected = []
    for i in range(150, 280):
        user, item = log.users[i], log.items[i]
        past = np.flatnonzero(log.users[:i] == user)
        consumed = {int(log.items[j]) for j in past if log.weights[j] > 0}
        if log.weights[i] <= 0 or item in consumed or not consumed:
            continue
        fades = log.weights[past] * 2.0 ** ((log.times[past] - log.times[i]) / HALF_LIFE)
        scores = vectors.astype(float) @ (fades @ vectors[log.items[past]])
        expected.append(1 + sum(scores[j] > scores[item] for j in range(40) if j not in consumed and j != item))
    assert len(exam) == len(expected) > 40
    assert exam.ranks(vectors).tolist() == expected


def test_an_item_of_which_nothing_is_known_never_ranks_above_another():
    log = some_log(200, 4, 12)
    exam = Exam(log, 100, 200, 12, HALF_LIFE)
    candidates = [12 - len(seen) for seen in exam._seen]
    assert exam.ranks(np.zeros((12, 5), np.float32)).tolist() == candidates


def test_figures_and_their_errors():
    exam = Exam(some_log(300, 6, 40), 150, 300, 40, HALF_LIFE)
    ranks = np.arange(1, len(exam) + 1)
    figures = exam.figures(ranks)
    assert figures.hr == pytest.approx(10 / len(exam))
    assert figures.ndcg == pytest.approx(sum(1 / math.log2(1 + rank) for rank in range(1, 11)) / len(exam))
    assert exam.figures(ranks, np.zeros(len(exam), bool)).questions == 0
    assert exam.difference(ranks, ranks).as_dict() == {"ndcg@10": 0.0, "se": 0.0}
    values = np.random.default_rng(0).normal(size=400)
    alone = clustered_error(values, np.arange(400, dtype=np.int32))
    assert alone == pytest.approx(values.std(ddof=1) / 20, rel=1e-9)
    # The same values four times over tell no more than once.
    fourfold = clustered_error(np.repeat(values, 4), np.repeat(np.arange(400, dtype=np.int32), 4))
    assert fourfold == pytest.approx(alone)


def test_popularity_ranks_what_was_consumed_before():
    log = Log(
        np.array([0, 1, 2, 3, 3, 3], np.int32), np.array([5, 5, 5, 1, 5, 2], np.int32),
        np.ones(6, np.float32), np.arange(6, dtype=np.int64) * 1000,
    )  # fmt: skip
    exam = Exam(log, 4, 6, 8, HALF_LIFE)
    assert exam.popularity_ranks(DAY_MS).tolist() == [1, 6]


def test_a_split_is_by_time_and_cold_items_have_no_past():
    log = some_log(1000, 20, 50)
    cut = split(log, 50, cold=0.2, seed=1)
    assert cut.log.times[: cut.fit].max() <= cut.log.times[cut.fit : cut.test].min()
    assert cut.log.times[: cut.test].max() <= cut.log.times[cut.test :].min()
    assert len(cut.log) - cut.test == 200
    assert cut.cold.sum() >= 10
    assert not cut.cold[cut.log.items[: cut.test]].any()
    assert cut.cold[cut.log.items[cut.test :]].any()
    with pytest.raises(ValueError, match="too few"):
        split(some_log(3, 2, 2), 2)


def test_the_log_weighs_events_as_the_product_does():
    events = [
        Interaction("1", "u", "like", 3, "a"),
        Interaction("2", "u", "rating", 1, "b", value=0.0),
        Interaction("3", "v", "impression", 2, "a"),
        Interaction("4", "v", "click", 2, "unknown"),
    ]
    log = log_of(events, ["a", "b"], Settings())
    assert log.items.tolist() == [1, 0]
    assert log.weights.tolist() == [-1.0, 2.0]
    assert log.times.tolist() == [1, 3]


def test_pairs_are_of_one_user_and_soon_after_each_other():
    log = Log(
        np.array([0, 1, 0, 0, 0, 0], np.int32), np.array([1, 9, 2, 3, 3, 4], np.int32),
        np.array([1, 1, 1, -1, 1, 1], np.float32), np.array([0, 1, 2, 3, 4, 1000], np.int64),
    )  # fmt: skip
    assert fusion_fit.pairs(log, reach=2, within_ms=100).tolist() == [[1, 2], [1, 3], [2, 3]]
    assert fusion_fit.pairs(log, reach=1, within_ms=5000).tolist() == [[1, 2], [2, 3], [3, 4]]


def test_dropout_never_leaves_an_item_without_anything():
    present = torch.rand(500, 4, generator=torch.Generator().manual_seed(0)) < 0.5
    for share in (0.3, 1.0):
        left = fusion_fit._drop(present, share, torch.Generator().manual_seed(1))
        assert not (left & ~present).any()
        assert torch.equal(left.any(1), present.any(1))
    assert (left.sum(1) <= 1).all()


def test_learned_strategies_find_what_the_mean_does_not_know(world):
    features, log = world
    cut = split(log, len(features.items), cold=0.1)
    names = ["weighted", "concat", "gated", "late", "contrastive"]
    # So many dimensions that late fusion has room for all parts as they are.
    outcome = fusion_runs.compare(features, cut, names, Settings(), QUICK, data="made", dimension=64)
    found = outcome.report["strategies"]
    assert list(found) == ["mean", "centred", *names]
    for name in names:
        gain = found[name]["against_mean"]
        assert gain["ndcg@10"] > 2 * gain["se"], (name, gain)
        # The picture is what they learned from.
        assert found[name]["missing"]["image"]["ndcg@10"] < found[name]["all"]["ndcg@10"]
        assert found[name]["weights"]["speech"] == 0.0
        assert sum(found[name]["weights"].values()) == pytest.approx(1, abs=2e-3)
    assert set(found["mean"]["missing"]) == {"text", "image", "audio"}
    assert found["concat"]["cold"]["questions"] > 0
    assert outcome.best in names
    json.dumps(outcome.report)
    assert "contrastive" in table(outcome.report | {"best": outcome.best})


def test_the_same_seed_gives_the_same_model(world, tmp_path):
    features, log = world
    cut = split(log, len(features.items))
    few = Recipe(epochs=2, steps=3, batch=32)

    def version(recipe: Recipe) -> str:
        outcome = fusion_runs.compare(features, cut, ["gated"], Settings(), recipe, data="made")
        return fusion_runs.keep(outcome.models["gated"], tmp_path, {"encoders": features.versions}).name

    one = version(few)
    assert version(few) == one
    assert version(Recipe(epochs=2, steps=3, batch=32, seed=8)) != one
    assert len(list(tmp_path.iterdir())) == 2
    assert load(tmp_path / one).version == one


def test_training_that_gains_nothing_keeps_the_model_that_it_began_with(world):
    features, log = world
    nonsense = Log(log.users, np.random.default_rng(0).permutation(log.items), log.weights, log.times)
    cut = split(nonsense, len(features.items), cold=0.0)
    valid = Exam(log, 0, 100, len(features.items), HALF_LIFE)
    model = create("concat", features.layout, 16)
    course = fusion_fit.train(
        model, features, cut.log.part(slice(0, cut.fit)), valid, Recipe(epochs=3, steps=4, patience=1)
    )
    assert course.valid[course.best] == max(course.valid)
    assert len(course.valid) <= 4


def test_nothing_to_learn_from_is_said(world):
    features, log = world
    strangers = Log(np.arange(len(log), dtype=np.int32), log.items, log.weights, log.times)
    with pytest.raises(ValueError, match="no user comes back"):
        fusion_runs.compare(features, split(strangers, 60), ["gated"], Settings(), QUICK, data="made")
    with pytest.raises(ValueError, match="nothing to learn from"):
        fusion_fit.train(
            create("gated", features.layout, 16), features, strangers, Exam(log, 9, 99, 60, HALF_LIFE), QUICK
        )
    with pytest.raises(ValueError, match="is called blend"):
        fusion_runs.known_strategies("gated, blend")


def test_the_command_trains_on_csv_files_and_keeps_a_version(world, tmp_path):
    features, log = world
    fusion_features.save(features, tmp_path / "features.safetensors")
    rows = zip(log.users, log.items, log.times + 10**12, strict=True)
    lines = [f"user-{user},item-{item},{time}" for user, item, time in rows]
    (tmp_path / "log.csv").write_text("\n".join(["user,item,timestamp", *lines]))
    given = ["train", "fusion", "--interactions", str(tmp_path / "log.csv"), "--out", str(tmp_path / "models")]
    given += ["--features", str(tmp_path / "features.safetensors")]
    done = CliRunner().invoke(app, [*given, "--strategy", "weighted,concat", "--epochs", "1", "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout.strip().splitlines()[-1])
    assert set(report["strategies"]) == {"mean", "centred", "weighted", "concat"}
    kept = load(tmp_path / "models" / report["version"])
    assert kept.version == report["version"]
    assert kept.about["encoders"] == features.versions
    assert (tmp_path / "models" / "report" / "fusion.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "models" / "report" / "fusion.json").read_text()) == report
    wrong = CliRunner().invoke(app, [*given, "--strategy", "blend"])
    assert wrong.exit_code == 2
    assert "is called blend" in wrong.stderr


def test_features_come_back_as_they_were_kept(world, tmp_path):
    features, _ = world
    fusion_features.save(features, tmp_path / "kept.safetensors")
    other = fusion_features.load(tmp_path / "kept.safetensors")
    assert other.items == features.items
    assert other.layout == features.layout
    assert other.versions == features.versions
    assert np.array_equal(other.present, features.present)
    assert all(np.array_equal(other.inputs[name], features.inputs[name]) for name in MODALITIES)
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(FeaturesError, match="holds no features"):
        fusion_features.load(tmp_path / "broken.safetensors")
    with pytest.raises(FeaturesError, match="text is"):
        Features(features.items, {**features.inputs, "text": np.zeros((2, 2))}, features.present, features.layout, {})
