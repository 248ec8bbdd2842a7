"""`upwell verify`: what is measured is judged, kept, and not measured again; what fails is said, and the rest goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from upwell.cli import verify
from upwell.cli.main import app
from upwell.evaluation.full_size import Measurement, Step

SMALL = "bench ranking --events 1000 --users 50 --items 1000 --json"


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    measurements = (
        Measurement("broken", 1, (Step("rules put --json nothing-of-the-kind"),)),
        Measurement(
            "small",
            1,
            (
                Step(
                    SMALL,
                    {
                        "events = 1000": lambda report: report["events"] == 1000,
                        "a million users": lambda report: report["users"] == 1_000_000,
                    },
                ),
            ),
        ),
    )
    monkeypatch.setattr(verify, "MEASUREMENTS", measurements)
    return tmp_path / "results"


def test_a_target_that_is_missed_and_a_command_that_fails_are_said(results: Path) -> None:
    found = CliRunner().invoke(app, ["verify", "--only", "broken,small", "--results", str(results)])

    assert found.exit_code == 1
    assert "FAILED   broken: exit code 2, and no report" in found.stdout
    assert "reached  small: events = 1000" in found.stdout
    assert "MISSED   small: a million users" in found.stdout
    (file,) = results.iterdir()
    kept = json.loads(file.read_text())
    assert kept["machine"]["cores"]
    assert list(kept["measurements"]) == ["small"]
    assert kept["measurements"]["small"]["reports"][f"upwell {SMALL}"]["users"] == 50


def test_what_is_measured_is_not_measured_again(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "_commit", lambda: "0123456")  # a checkout with changes measures everything again
    arguments = ["verify", "--only", "small", "--results", str(results)]
    CliRunner().invoke(app, arguments)
    (file,) = results.iterdir()
    first = json.loads(file.read_text())

    found = CliRunner().invoke(app, arguments)

    assert "0 to measure" in found.stderr
    assert "MISSED   small: a million users" in found.stdout
    assert json.loads(file.read_text())["measurements"] == first["measurements"]


def test_an_unknown_measurement_is_refused(results: Path) -> None:
    found = CliRunner().invoke(app, ["verify", "--only", "large", "--results", str(results)])

    assert found.exit_code == 2
    assert "choose from broken, small" in found.stderr
