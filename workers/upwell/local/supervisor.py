"""Keeps programs running: starts them, restarts what crashes with back-off, ends them with the process that asked.

In go command lines, out come processes with logs. Guarantee: whatever it started ends with it, also on SIGKILL.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Self, cast

from upwell.local.errors import StackError
from upwell.local.processes import Identity, group_alive, signal_group

LAUNCHER = Path(__file__).with_name("launch.py")
TICK_S = 0.05
LOG_LIMIT_BYTES = 64 * 2**20


class State(StrEnum):
    """Where a managed process stands."""

    RUNNING = "running"
    """It has a pid."""
    BACKING_OFF = "backing off"
    """It crashed and is started again after a pause."""
    FINISHED = "finished"
    """It ended by itself and is not started again: its exit code says that this is of no use, or it is to run once."""
    STOPPED = "stopped"
    """It was asked to end and did."""


@dataclass
class ManagedProcess:
    """One supervised program. Written by the supervisor's thread alone; read by anyone."""

    name: str
    argv: list[str]
    env: dict[str, str]
    log_path: Path
    cwd: Path | None = None
    stop_signal: int = signal.SIGTERM
    stop_timeout_s: float = 20.0
    death_signal: int = signal.SIGKILL
    """What it gets when the supervising process dies unasked."""
    nice: int = 0
    user: tuple[int, int] | None = None
    """uid and gid to become; only as root."""
    reach: bool = False
    """With `user`: may walk through folders that are closed to that user."""
    restart: bool = True
    give_up_codes: frozenset[int] = frozenset({2})
    """Exit codes that say that a restart cannot help (2: wrong configuration)."""
    backoff_s: tuple[float, float] = (0.2, 10.0)
    """First and longest pause before a restart; doubles for each crash within ten seconds of the last start."""

    state: State = State.STOPPED
    pid: int | None = None
    identity: Identity | None = None
    starts: int = 0
    exit_code: int | None = None
    started_at: float = 0.0
    not_before: float = 0.0
    crashes: int = 0
    popen: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    stopping_since: float | None = None

    @property
    def restarts(self) -> int:
        return max(0, self.starts - 1)


class Supervisor:
    """Supervises programs from one thread of this process.

    The thread that starts a process must outlive it, because Linux ends a process "with its parent" when that very
    thread ends. Hence all work is done in one thread, and every call waits for it.
    """

    def __init__(
        self,
        on_start: Callable[[ManagedProcess], None] | None = None,
        on_exit: Callable[[ManagedProcess], None] | None = None,
    ) -> None:
        """`on_start` and `on_exit` are called in the supervisor's thread and must not call back into it."""
        self._processes: dict[str, ManagedProcess] = {}
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._on_start, self._on_exit = on_start, on_exit
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str] | None = None,
        log_path: Path | None = None,
        **options: Any,
    ) -> ManagedProcess:
        """Start a program and keep it running.

        Args:
            name: unique; `stop`, `restart` and `pid` find it by this.
            argv: program and arguments.
            env: its whole environment; default: this process's.
            log_path: where its output is appended; default: nowhere.
            options: fields of `ManagedProcess` from `cwd` to `backoff_s`.

        Raises:
            StackError: a process of this name runs already, or the program cannot be started.

        """

        def begin() -> ManagedProcess:
            known = self._processes.get(name)
            if known is not None and known.state in (State.RUNNING, State.BACKING_OFF):
                raise StackError(f"{name} runs already, as pid {known.pid}")
            process = ManagedProcess(
                name, list(argv), dict(os.environ if env is None else env), log_path or Path(os.devnull), **options
            )
            self._processes[name] = process
            self._spawn(process)
            return process

        return cast("ManagedProcess", self._call(begin))

    def stop(self, name: str, *, kill: bool = False) -> None:
        """End one program: its stop signal, then SIGKILL after its time. Returns once it is gone."""
        self.stop_all([name], kill=kill)

    def stop_all(self, names: Sequence[str] | None = None, *, kill: bool = False) -> None:
        """End all programs, or these, at the same time; see `stop`."""

        def begin() -> list[ManagedProcess]:
            chosen = [self._processes[name] for name in (names or list(self._processes)) if name in self._processes]
            for process in chosen:
                if process.state is State.BACKING_OFF:
                    process.state = State.STOPPED
                if process.pid is not None:
                    process.stopping_since = process.stopping_since or time.monotonic()
                    self._send(process, signal.SIGKILL if kill else process.stop_signal)
            return chosen

        for process in self._call(begin):
            while process.state is State.RUNNING and self._thread.is_alive():
                time.sleep(TICK_S / 2)

    def restart(self, name: str, *, kill: bool = False, timeout_s: float = 60.0) -> ManagedProcess:
        """End one program (with SIGKILL where `kill`) and wait until it has been started again."""
        process = self._processes[name]
        before = process.starts

        def begin() -> None:
            process.crashes = 0
            if process.pid is None:
                process.state, process.not_before = State.BACKING_OFF, 0.0
            else:
                self._send(process, signal.SIGKILL if kill else process.stop_signal)

        self._call(begin)
        deadline = time.monotonic() + timeout_s
        while process.starts == before:
            if time.monotonic() > deadline:
                raise StackError(f"{name} (pid {process.pid}) did not end within {timeout_s:.0f} s of being asked to")
            time.sleep(TICK_S)
        return process

    def pid(self, name: str) -> int | None:
        """The program's pid now; None while it is down or unknown."""
        process = self._processes.get(name)
        return process.pid if process else None

    @property
    def processes(self) -> dict[str, ManagedProcess]:
        return dict(self._processes)

    def close(self, *, kill: bool = False) -> None:
        """End everything and the supervisor itself."""
        if self._closed:
            return
        self.stop_all(kill=kill)
        self._closed = True
        self._thread.join()

    # In the supervisor's thread from here on.

    def _call(self, function: Callable[[], Any]) -> Any:
        if self._closed:
            raise StackError("the supervisor has ended")
        future: Future[Any] = Future()
        self._calls.put((function, future))
        return future.result()

    def _run(self) -> None:
        while not self._closed:
            with contextlib.suppress(queue.Empty):
                function, future = self._calls.get(timeout=TICK_S)
                try:
                    future.set_result(function())
                except BaseException as error:  # handed to the caller
                    future.set_exception(error)
            for process in list(self._processes.values()):
                try:
                    self._watch(process)
                except Exception:  # of a callback: it must not end what it watches
                    traceback.print_exc()

    def _watch(self, process: ManagedProcess) -> None:
        now = time.monotonic()
        if process.popen is not None:
            code = process.popen.poll()
            if code is not None:
                self._ended(process, code)
            elif process.stopping_since is not None and now - process.stopping_since > process.stop_timeout_s:
                signal_group(process.popen.pid, signal.SIGKILL)
        elif process.state is State.BACKING_OFF and now >= process.not_before:
            try:
                self._spawn(process)
            except OSError:
                self._back_off(process)

    def _spawn(self, process: ManagedProcess) -> None:
        command = launched(process.argv, process.user, process.reach, process.death_signal, process.nice)
        if process.log_path != Path(os.devnull):
            _rotate(process.log_path)
        with process.log_path.open("ab") as log:
            process.popen = subprocess.Popen(
                command,
                env=process.env,
                cwd=process.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        process.pid = process.popen.pid
        process.identity = Identity.of(process.pid)
        process.state, process.started_at, process.exit_code = State.RUNNING, time.monotonic(), None
        process.starts += 1
        if self._on_start:
            self._on_start(process)

    def _ended(self, process: ManagedProcess, code: int) -> None:
        pid = process.popen.pid if process.popen else 0
        # Children of a crashed server (Triton's model processes) must not outlive it.
        if group_alive(pid):
            signal_group(pid, signal.SIGKILL)
        asked, process.stopping_since = process.stopping_since is not None, None
        process.popen, process.pid, process.exit_code = None, None, code
        if asked:
            process.state = State.STOPPED
        elif not process.restart or code in process.give_up_codes:
            process.state = State.FINISHED
        else:
            self._back_off(process)
        if self._on_exit:
            self._on_exit(process)

    def _back_off(self, process: ManagedProcess) -> None:
        now = time.monotonic()
        process.crashes = process.crashes + 1 if now - process.started_at < 10 else 0
        first, longest = process.backoff_s
        process.not_before = now + min(longest, first * 2 ** min(process.crashes, 20))
        process.state = State.BACKING_OFF

    @staticmethod
    def _send(process: ManagedProcess, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            if process.popen is not None:
                process.popen.send_signal(number)


def launched(
    argv: Sequence[str],
    user: tuple[int, int] | None = None,
    reach: bool = False,
    death_signal: int = signal.SIGKILL,
    nice: int = 0,
) -> list[str]:
    """The command line that runs `argv` so that it ends with this thread of this process; see `ManagedProcess`."""
    options = {"parent": os.getpid(), "death_signal": int(death_signal), "nice": nice}
    if user is not None:
        options |= {"uid": user[0], "gid": user[1], "reach": reach}
    return [sys.executable, "-I", "-S", str(LAUNCHER), json.dumps(options), *argv]


def _rotate(path: Path) -> None:
    """Keep one older log beside the current one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > LOG_LIMIT_BYTES:
            path.replace(path.with_suffix(path.suffix + ".1"))
