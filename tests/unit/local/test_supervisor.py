"""The supervisor with real processes: restarts, stops, gives up where a restart cannot help, and leaves nobody behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from support import eventually
from upwell.local.errors import StackError
from upwell.local.processes import Identity
from upwell.local.supervisor import State, Supervisor

WAITS = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
DEAF = [
    sys.executable,
    "-S",
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)",
]
PARENT = """
import sys, time
from upwell.local.supervisor import Supervisor
supervisor = Supervisor()
print(supervisor.start("child", sys.argv[1:]).pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    with Supervisor() as running:
        yield running


def test_pid_by_name_and_log(supervisor: Supervisor, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "talks.log"
    process = supervisor.start("talks", DEAF, log_path=log, stop_timeout_s=0.2)
    assert supervisor.pid("talks") == process.pid
    assert supervisor.pid("nobody") is None
    eventually(lambda: log.read_text() == "up\n", message="its output is in the log")


def test_killed_program_is_started_again(supervisor: Supervisor) -> None:
    first = supervisor.start("waits", WAITS).pid
    os.kill(first, signal.SIGKILL)
    eventually(lambda: supervisor.pid("waits") not in (None, first), message="another process runs")
    process = supervisor.processes["waits"]
    assert (process.restarts, process.state) == (1, State.RUNNING)


def test_restart_waits_for_the_next_start(supervisor: Supervisor) -> None:
    first = supervisor.start("waits", WAITS).pid
    assert supervisor.restart("waits", kill=True).pid != first
    assert supervisor.restart("waits").restarts == 2


def test_crash_after_crash_is_backed_off(supervisor: Supervisor) -> None:
    crashes = supervisor.start("crashes", [sys.executable, "-S", "-c", "raise SystemExit(1)"], backoff_s=(0.01, 30.0))
    eventually(lambda: crashes.starts >= 4, message="it is tried again")
    assert crashes.crashes >= 3
    assert crashes.exit_code in (1, None)


def test_wrong_configuration_is_not_tried_again(supervisor: Supervisor) -> None:
    refuses = supervisor.start("refuses", [sys.executable, "-S", "-c", "raise SystemExit(2)"])
    eventually(lambda: refuses.state is State.FINISHED, message="it is given up")
    assert (refuses.starts, refuses.exit_code) == (1, 2)


def test_deaf_program_is_killed_in_the_end(supervisor: Supervisor, tmp_path: Path) -> None:
    deaf = supervisor.start("deaf", DEAF, log_path=tmp_path / "log", stop_timeout_s=0.3)
    eventually((tmp_path / "log").read_text, message="it ignores SIGTERM by now")
    supervisor.stop("deaf")
    assert (deaf.state, deaf.exit_code) == (State.STOPPED, -signal.SIGKILL)


def test_name_is_taken_while_it_runs(supervisor: Supervisor) -> None:
    supervisor.start("waits", WAITS)
    with pytest.raises(StackError, match="waits runs already, as pid"):
        supervisor.start("waits", WAITS)
    supervisor.stop("waits")
    assert supervisor.start("waits", WAITS).state is State.RUNNING


def test_callbacks_hear_of_starts_and_exits() -> None:
    heard: list[str] = []
    with Supervisor(
        on_start=lambda p: heard.append(f"start {p.name}"), on_exit=lambda p: heard.append(f"exit {p.name}")
    ) as supervisor:
        supervisor.start("waits", WAITS)
        supervisor.stop("waits")
    assert heard == ["start waits", "exit waits"]


def test_children_end_with_a_killed_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, *WAITS], stdout=subprocess.PIPE) as parent:
        child = int(parent.stdout.readline())
        assert psutil.pid_exists(child)
        parent.kill()
    eventually(lambda: Identity.of(child) is None, message="the child has ended")


def test_identity_tells_a_pid_from_its_next_owner() -> None:
    own = Identity.own()
    assert own.alive()
    assert Identity.from_dict(own.as_dict()) == own
    assert not Identity(own.pid, own.started + 1, own.boot).alive()
    assert not Identity(own.pid, own.started, "another boot").alive()
