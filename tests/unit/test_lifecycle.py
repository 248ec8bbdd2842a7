"""Signals and exit codes: finish the batch on the first signal, stop at once on the second, say whose fault it is."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import KafkaError, KafkaException

from upwell.bus.errors import Fenced, Inconsistent, Unavailable
from upwell.cli import exits
from upwell.inference.errors import InferenceUnavailable
from upwell.lifecycle import Stop
from upwell.settings import ConfigError

BATCH = """
import sys
from upwell.lifecycle import Stop
stop = Stop().listen()
print("ready", flush=True)
while not stop:
    stop.wait(60)
print("finishing", flush=True)
sys.stdin.read()  # the batch in hand ends when the test says so
print("done", flush=True)
"""


@pytest.fixture
def batch() -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", BATCH], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_lets_the_batch_finish(batch: subprocess.Popen[str], number: signal.Signals) -> None:
    batch.send_signal(number)
    assert batch.stdout is not None
    assert batch.stdout.readline() == "finishing\n"
    assert batch.communicate(timeout=30)[0] == "done\n"
    assert batch.returncode == 0


def test_a_second_signal_stops_at_once(batch: subprocess.Popen[str]) -> None:
    assert batch.stdout is not None
    batch.send_signal(signal.SIGTERM)
    assert batch.stdout.readline() == "finishing\n"
    batch.send_signal(signal.SIGTERM)
    assert batch.wait(30) == 128 + signal.SIGTERM
    assert batch.communicate()[0] == ""


def test_stop_can_be_asked_for_without_a_signal() -> None:
    stop = Stop()
    assert not stop
    assert not stop.wait(0)
    stop.set()
    assert stop
    assert stop.wait(60)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("trends.window_s"), exits.CONFIG),
        (Inconsistent("the topic was re-created: `upwell rebase`"), exits.CONFIG),
        (Unavailable("no broker"), exits.INFRASTRUCTURE),
        (Fenced("another worker runs in this slot"), exits.INFRASTRUCTURE),
        (KafkaException(KafkaError(KafkaError._TRANSPORT)), exits.INFRASTRUCTURE),
        (KafkaException(KafkaError(KafkaError._INVALID_ARG, "No such configuration property")), exits.CONFIG),
        (psycopg.OperationalError("connection refused"), exits.INFRASTRUCTURE),
        (InferenceUnavailable("no model server"), exits.INFRASTRUCTURE),
        (ZeroDivisionError("oops"), exits.BUG),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_exit_codes_say_whose_fault_it_is(error: Exception, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, exits.mapped("some step"):
        raise error
    assert ended.value.code == code
    said = capsys.readouterr()
    told = said.err + said.out
    assert "some step" in told or code == exits.CONFIG
    said_by = error.args[0].str() if isinstance(error, KafkaException) and code == exits.CONFIG else str(error)
    assert said_by in told or code == exits.BUG
    # Only a bug shows where it is.
    assert ("Traceback" in told) == (code == exits.BUG)


def test_ctrl_c_is_no_error() -> None:
    with pytest.raises(SystemExit) as ended, exits.mapped("some step"):
        raise KeyboardInterrupt
    assert ended.value.code == 130


Upwell = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def upwell(tmp_path: Path) -> Upwell:
    """The real command, in a folder and an environment without settings."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("UPWELL_")}
        return subprocess.run(
            [sys.executable, "-m", "upwell.cli.main", *arguments],
            cwd=tmp_path,
            env=environment | variables,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["worker", "intercations"], "items, interactions, content or trends"),
        (["worker", "trends", "--set", "trends.windows_s=1"], "did you mean trends.window_s"),
        (["worker", "trends", "--set", "trends.window_s"], "expected group.name=value"),
        (["config", "--config", "missing.toml"], "no such settings file"),
        (["config", "--set", "ranking.slate=-1"], "ranking.slate"),
        (["topics", "create", "--set", "kafka.options.lingr.ms=5"], 'No such configuration property: "lingr.ms"'),
        (["worker", "items", "--set", "kafka.options.security.protocol=tls"], "security.protocol"),
        (["migrate", "--set", "postgres.options.sslmod=require"], 'invalid connection option "sslmod"'),
        (["migrate", "--set", "postgres.dsn=postgresql://h/d?sslmod=require"], 'invalid URI query parameter: "sslmod"'),
        (["migrate", "--set", "postgres.dsn=nonsense"], "postgres.dsn: neither a libpq connection string"),
        (["migrate", "--set", "postgres.dsn=host=127.0.0.1 port=abc"], "port abc is no number"),
        (["migrate", "--set", "postgres.dsn=postgresql://h:99999/d"], "port 99999 is no number"),
        (["worker", "items", "--set", "postgres.options.port=99999"], "port 99999 is no number"),
        (["migrate", "--set", "postgres.options.connect_timeout=soon"], "connect_timeout = 'soon'"),
    ],
)
def test_mistakes_of_ours_end_with_2_and_one_line(upwell: Upwell, arguments: list[str], said: str) -> None:
    done = upwell(*arguments)
    assert done.returncode == exits.CONFIG
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not done.stdout


def test_a_connection_string_that_cannot_be_read_is_not_repeated(upwell: Upwell) -> None:
    for dsn in ("host=h password=hun ter2", "host='h password=hunter2"):
        done = upwell("migrate", UPWELL_POSTGRES__DSN=dsn)
        assert done.returncode == exits.CONFIG
        assert "postgres.dsn" in done.stderr
        assert "ter2" not in done.stderr + done.stdout


def test_a_taken_metrics_port_ends_with_2(upwell: Upwell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = upwell("worker", "items", "--set", f"telemetry.metrics_port={port}")
    assert done.returncode == exits.CONFIG
    assert f"telemetry.metrics_port = {port} on 127.0.0.1" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_variable_ends_with_2(upwell: Upwell) -> None:
    done = upwell("config", UPWELL_RANKING__SLAT="3")
    assert (done.returncode, "ranking.slate" in done.stderr) == (exits.CONFIG, True)


def test_an_impossible_command_line_ends_with_2(upwell: Upwell) -> None:
    assert upwell("worker").returncode == exits.CONFIG
    assert upwell("worker", "trends", "--slot", "-1").returncode == exits.CONFIG
    assert upwell("nonsense").returncode == exits.CONFIG


def test_help_and_version_answer(upwell: Upwell) -> None:
    assert upwell("--version").stdout.strip()
    for command in (["--help"], ["worker", "--help"], ["config", "--help"], ["topics", "create", "--help"]):
        done = upwell(*command)
        assert (done.returncode, "Usage" in done.stdout) == (0, True)
