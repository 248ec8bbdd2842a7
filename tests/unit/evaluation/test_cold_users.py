"""New users whose attributes say what they like, foreseen with segments and without."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from upwell.cli.main import app
from upwell.evaluation.cold_users import movielens_users, read_users
from upwell.evaluation.datasets import DatasetError


def files(folder: Path, told: bool) -> tuple[Path, Path]:
    """Users of four plans; each plan has 12 films of its own, of which each user sees three.

    Args:
        told: whether the file of users says the plans as they are, or at random.
    """
    chance, interactions, people = random.Random(3), ["user,item,timestamp"], ["user,plan,note"]
    for user in range(300):
        plan = user % 4
        people.append(f"u{user},{plan if told else chance.randrange(4)},{'x' * 100}")
        films = chance.sample(range(12), 3)
        interactions.extend(f"u{user},{plan}-{film},{1_700_000_000 + 100 * user + film}" for film in films)
    named = folder / "ratings.csv", folder / "users.csv"
    for path, lines in zip(named, (interactions, people), strict=True):
        path.write_text("\n".join(lines))
    return named


@pytest.mark.parametrize("told", [True, False])
def test_segments_help_where_attributes_say_something_and_cost_little_where_they_do_not(
    tmp_path: Path, told: bool
) -> None:
    interactions, users = files(tmp_path, told)
    run = CliRunner().invoke(
        app,
        [
            "evaluate",
            "ranking",
            "--interactions",
            str(interactions),
            "--users",
            str(users),
            "--no-peers",
            "--no-new-items",
            "--json",
        ],
    )
    assert run.exit_code == 0, run.output
    found = json.loads(run.stdout.splitlines()[-1])["segments"]
    assert found["attributes"] == ["plan"]  # a note of 100 characters is none
    assert found["users"] == 300
    assert found["with"]["targets"] == found["without"]["targets"] == 900
    assert sum(half["with"]["targets"] for half in found["halves"]) == 900
    gain = found["with"]["hr_at_10"] - found["without"]["hr_at_10"]
    assert found["difference"] == pytest.approx(gain, abs=2e-4)
    assert found["standard_error"] > 0
    assert gain > 0.1 if told else gain > -0.05


def test_what_answers_are_worth_is_measured_on_users_who_come_later(tmp_path: Path) -> None:
    interactions, _ = files(tmp_path, told=True)
    run = CliRunner().invoke(
        app,
        [
            "evaluate",
            "ranking",
            "--interactions",
            str(interactions),
            "--elicitation",
            "--no-peers",
            "--no-new-items",
            "--json",
        ],
    )
    assert run.exit_code == 0, run.output
    found = json.loads(run.stdout.splitlines()[-1])["elicitation"]
    assert 0 < found["users"] <= 150
    for name in ("elicited", "most_popular"):
        assert 0 < found[name]["known"] <= 3
        assert 0 < found[name]["precision_at_10"] < 0.3
    apart = found["elicited"]["precision_at_10"] - found["most_popular"]["precision_at_10"]
    assert found["difference"]["precision_at_10"] == pytest.approx(apart, abs=2e-4)


def test_mistakes_are_said(tmp_path: Path) -> None:
    interactions, users = files(tmp_path, told=True)
    run = CliRunner()
    ask = ["evaluate", "ranking", "--interactions", str(interactions), "--no-peers", "--no-new-items"]
    unknown = run.invoke(app, [*ask, "--users", str(users), "--segments", "plan,sex"])
    assert (unknown.exit_code, "no user has sex; known are note, plan" in unknown.output) == (2, True)
    whose = run.invoke(app, [*ask, "--segments", "plan"])
    assert (whose.exit_code, "--segments needs --users" in whose.output) == (2, True)
    (tmp_path / "empty.csv").write_text("user\nu1")
    with pytest.raises(DatasetError, match="says nothing of its users"):
        read_users(tmp_path / "empty.csv", [])
    with pytest.raises(DatasetError, match="is missing"):
        movielens_users(tmp_path / "ml-100k.user")
