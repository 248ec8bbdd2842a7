"""Logs from CSV files, and `upwell evaluate policy` on them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from upwell.cli.main import app
from upwell.evaluation.datasets import DatasetError
from upwell.evaluation.off_policy import Assumption, estimates
from upwell.evaluation.off_policy_log import read_log
from upwell.evaluation.off_policy_world import Judged, Nature, World


def write(folder: Path, text: str) -> Path:
    path = folder / "shown.csv"
    path.write_text(text)
    return path


def test_single_actions(tmp_path):
    log = read_log(write(tmp_path, "propensity,target,reward\n0.5,0.25,1\n0.2,0.4,0\n"), Assumption.INDEPENDENCE)
    assert log.slate.tolist() == [0, 1]
    assert log.position.tolist() == [0, 0]
    assert log.cluster is None
    assert next(iter(estimates(log))).value == pytest.approx(0.25)


def test_slates_of_users_in_any_order(tmp_path):
    log = read_log(write(tmp_path, (
        "user;slate;position;propensity_prefix;target_prefix;reward;predicted;expected\n"
        "u;b;1;.1;.2;1;.5;.6\n" "v;a;0;.5;.5;0;.1;.2\n" "u;b;0;.5;1;0;.3;.3\n" "u;c;0;1;1;1;.3;.3\n"
    )), Assumption.CASCADE)  # fmt: skip
    assert log.slate.tolist() == [0, 1, 0, 2]
    assert log.cluster is not None
    assert log.cluster.tolist() == [0, 1, 0]
    assert log.expected is not None
    assert log.expected.tolist() == [0.6, 0.2, 0.3, 0.3]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("propensity,reward\n.5,1\n", "no column target"),
        ("propensity,target,reward\n", "holds no row"),
        ("propensity,target,reward\n.5,.5,1\n0,.5,1\n", "line 3, column propensity: 0 is no probability of what was shown"),
        ("propensity,target,reward\n.5,1.5,1\n", "line 2, column target: 1.5 is no probability"),
        ("propensity,target,reward\n.5,,1\n", "line 2, column target: is empty"),
        ("propensity,target,reward\n.5,.5,much\n", "line 2, column reward: 'much' is not a finite number"),
        ("propensity,target,reward\n.5,.5,1,7\n.5,.5,1\n", "line 2, column 4: 4 values for 3 columns"),
        ("propensity,target,reward,predicted\n.5,.5,1,1\n", "predicted and expected belong together"),
        ("slate,position,propensity,target,reward\na,0,.5,.5,1\na,0,.5,.5,1\n", "line 3, column position: the slate has"),
        ("slate,position,propensity,target,reward\na,-1,.5,.5,1\n", "line 2, column position: -1 is below 0"),
        ("slate,position,user,propensity,target,reward\na,0,u,1,1,1\na,1,v,1,1,1\n", "line 3, column user"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named(tmp_path, text, said):
    with pytest.raises(DatasetError, match=r"shown\.csv") as caught:
        read_log(write(tmp_path, text), Assumption.INDEPENDENCE)
    assert said in str(caught.value)


def test_the_command_finds_the_truth_of_a_world(tmp_path, capsys):
    world = World(Nature.INDEPENDENT, Judged.BUDGET, 3)
    log = world.log(4_000, 1)[Assumption.INDEPENDENCE]
    columns = ("slate", "position", "propensity", "target", "reward", "predicted", "expected")
    with (tmp_path / "shown.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(np.stack([getattr(log, name) for name in columns]).T.tolist())
    command = ["evaluate", "policy", "--log", str(tmp_path / "shown.csv"), "--resamples", "100"]
    app([*command, "--json"], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)
    assert found["slates"] == 4_000
    assert found["notes"] == []
    assert set(found["estimates"]) == {"ips", "snips", "dm", "dr", "sndr"}
    for name in ("ips", "snips", "dr"):
        each = found["estimates"][name]
        assert abs(each["value"] - world.truth()) < 3 * each["standard_error"]
        assert each["bootstrap"][0] < each["value"] < each["bootstrap"][1]
    app(command, standalone_mode=False)
    shown = capsys.readouterr().out
    assert "effective" in shown
    assert f"{found['estimates']['dr']['value']:.4f}" in shown


def test_the_command_says_when_a_log_carries_too_little(tmp_path, capsys):
    rows = "".join(f"{0.9 if n % 10 else 0.01},0.9,1\n" for n in range(200))
    app(["evaluate", "policy", "--log", str(write(tmp_path, "propensity,target,reward\n" + rows)), "--json"],
        standalone_mode=False)  # fmt: skip
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert any("carry no more than" in note for note in notes)
