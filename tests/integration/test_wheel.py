"""The wheel works where there is no checkout: command, settings, schemas, SQL and model repository come with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from upwell import __version__

ROOT = Path(__file__).parents[2]

Run = Callable[..., str]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by the backend itself: no network, no build environment."""
    into = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(into)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (built,) = into.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def run(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a command of the installed wheel, outside of the checkout; this environment lends the dependencies."""
    home = tmp_path_factory.mktemp("elsewhere")
    installed = home / "installed"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*pip, "--target", str(installed), str(wheel)], check=True, cwd=home)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("UPWELL_")}
    # Before the checkout's own (editable) installation.
    environment["PYTHONPATH"] = str(installed)

    def run(*command: str) -> str:
        found = [str(installed / "bin" / "upwell")] if command[0] == "upwell" else [sys.executable]
        done = subprocess.run(
            [*found, *command[1:]], cwd=home, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_it_holds_what_the_code_reads(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as found:
        names = set(found.namelist())
    for folder in ("schemas", "triton_models"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert f"upwell/_data/{path.relative_to(ROOT).as_posix()}" in names
    package = ROOT / "workers" / "upwell"
    for path in package.rglob("*"):
        if path.suffix in {".py", ".sql", ".txt"} and "__pycache__" not in path.parts:
            assert f"upwell/{path.relative_to(package).as_posix()}" in names
    assert not [name for name in names if "__pycache__" in name or name.startswith(("tests", "workers"))]


def test_the_command_runs(run: Run) -> None:
    assert run("upwell", "--version").strip() == __version__
    assert "worker" in run("upwell", "--help")
    settings = json.loads(run("upwell", "config", "--json", "--set", "ranking.slate=7"))
    assert settings["ranking"]["slate"] == 7
    assert "*" in settings["postgres"]["dsn"]


def test_schemas_sql_and_models_are_inside(run: Run) -> None:
    script = """
import json
from upwell import resources
from upwell.events import schemas
from upwell.store import migrations
print(json.dumps({
    "where": resources.__file__,
    "schemas": sorted(schemas.parsed(name)["name"] for name in schemas.CONTRACTS),
    "migrations": [name for name, text in migrations.available() if "CREATE TABLE" in text],
    "models": sorted(path.parent.name for path in resources.folder("triton_models").glob("*/config.pbtxt")),
}))
"""
    found = json.loads(run("python", "-c", script))
    assert "/installed/upwell/" in found["where"]
    assert "upwell.Ranking" in found["schemas"]
    assert "0001_initial" in found["migrations"]
    assert "text_encoder" in found["models"]
