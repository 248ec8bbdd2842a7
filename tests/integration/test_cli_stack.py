"""The commands of the local stack, run as a user runs them: addresses, exit codes, Ctrl-C, logs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from support import eventually
from upwell.local.stack import Stack

pytestmark = pytest.mark.integration
UPWELL = [sys.executable, "-m", "upwell.cli.main"]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"
    Stack(tmp_path / "home").wipe()


@pytest.fixture
def upwell(home: Path) -> Run:
    env = {**os.environ, "UPWELL_HOME": str(home)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*UPWELL, *arguments], env=env, capture_output=True, text=True, check=False, timeout=120)

    return run


def test_up_stays_up_until_down(upwell: Run, home: Path) -> None:
    assert upwell("status").returncode == 3
    up = upwell("up", "--services", "postgres", "--json")
    assert up.returncode == 0, up.stderr
    dsn = json.loads(up.stdout)["endpoints"]["postgres"]
    with psycopg.connect(dsn, autocommit=True) as database:
        database.execute("CREATE TABLE kept AS SELECT 42 AS answer")

    status = json.loads(upwell("status", "--json").stdout)
    assert (status["running"], status["mode"], status["services"]["postgres"]["state"]) == (True, "detached", "ready")
    assert f"export UPWELL_POSTGRES__DSN='{dsn}'" in upwell("status", "--env").stdout
    assert "ready to accept connections" in upwell("logs", "postgres", "-n", "20").stdout

    doctor = json.loads(upwell("doctor", "--json").stdout)
    assert doctor["ok"]
    assert {check["name"]: check["verdict"] for check in doctor["checks"]}["postgres answers"] == "ok"

    assert upwell("down").returncode == 0
    assert upwell("status").returncode == 3
    again = json.loads(upwell("up", "--services", "postgres", "--json").stdout)["endpoints"]["postgres"]
    assert again == dsn
    with psycopg.connect(again) as database:
        assert database.execute("SELECT answer FROM kept").fetchone() == (42,)
    assert upwell("down", "--wipe").returncode == 0
    assert not home.exists()


def test_foreground_ends_with_ctrl_c(home: Path) -> None:
    env = {**os.environ, "UPWELL_HOME": str(home)}
    command = [*UPWELL, "up", "--services", "postgres", "--foreground"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as up:
        eventually(lambda: "Ctrl-C stops it" in up.stdout.readline(), message="it says how to stop it")
        assert Stack(home).status()["mode"] == "attached"
        up.send_signal(signal.SIGINT)
        assert up.wait(60) == 0
    assert not Stack(home).status()["running"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("up", "--services", "postgrs"), "unknown service postgrs: choose from kafka, postgres, triton"),
        (("up", "--port", "kafka=none"), "--port kafka=none: give NAME=NUMBER"),
        (("up", "--option", "max_connections=3"), "--option max_connections=3: give SERVICE.NAME=VALUE"),
        (("logs", "zookeeper"), "no server is called zookeeper: kafka, postgres, triton, supervisor"),
        (("setup", "--only", "everything"), "unknown part everything: choose from kafka, weights, models"),
    ],
)
def test_mistakes_are_said_with_code_2(upwell: Run, arguments: tuple[str, ...], words: str) -> None:
    done = upwell(*arguments)
    assert done.returncode == 2
    assert words in done.stderr


def test_failures_are_said_with_code_3(upwell: Run) -> None:
    done = upwell("up", "--services", "postgres", "--option", "postgres.shared_buffers=1TB")
    assert done.returncode == 3
    assert "postgres does not start" in done.stderr
    assert "Cannot allocate memory" in done.stderr
