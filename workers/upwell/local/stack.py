"""The local stack as one thing: `Stack(home).start()` gives real Kafka, PostgreSQL and Triton, and their addresses.

    with Stack(Path("data")) as stack:            # ends with this block, and with this process, also on SIGKILL
        stack.endpoints().kafka                    # "127.0.0.1:21001"

    Stack().start(services=("kafka", "postgres"), detached=True)   # lives on until Stack().stop(), as `upwell up` does

One supervisor process per home runs the servers (`daemon.py`); this class starts it, reads the state that it writes,
and signals it. Any process may use the same home at the same time: `start` joins a stack that runs already.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from upwell.local import assets, checks
from upwell.local.errors import StackError
from upwell.local.own_models import Served
from upwell.local.paths import default_cache, default_home
from upwell.local.processes import Identity, boot_id, end, mentioning
from upwell.local.triton import clean_shared_memory

SERVICES = ("kafka", "postgres", "triton")
STOP_SIGNALS = {"kafka": signal.SIGTERM, "postgres": signal.SIGINT, "triton": signal.SIGTERM}
POLL_S = 0.05
_DETACHED: list[subprocess.Popen[bytes]] = []
"""Supervisors that outlive this process: referred to here, or Python would complain of forgotten children."""


@dataclass(frozen=True)
class Endpoints:
    """Addresses of a running stack; empty where the service was not asked for."""

    kafka: str = ""
    """Bootstrap server, host:port."""
    postgres: str = ""
    """libpq connection URI, with the password."""
    triton: str = ""
    """gRPC address, host:port."""
    triton_http: str = ""
    """HTTP address, host:port."""
    triton_metrics: str = ""
    """Prometheus metrics, host:port, path /metrics."""

    def environment(self) -> dict[str, str]:
        """The same as settings of the workers, for a process's environment."""
        named = {"KAFKA__BOOTSTRAP_SERVERS": self.kafka, "POSTGRES__DSN": self.postgres, "TRITON__URL": self.triton}
        return {f"UPWELL_{name}": value for name, value in named.items() if value}


class Stack:
    """One local stack: everything it keeps is under `home`, what it downloads is under `cache`."""

    def __init__(
        self,
        home: Path | None = None,
        cache: Path | None = None,
        *,
        ports: Mapping[str, int] | None = None,
        options: Mapping[str, Mapping[str, str]] | None = None,
        ephemeral: bool = False,
    ) -> None:
        """`ports`: wanted ports by name (`kafka`, `postgres`, `triton`, …), else free ones are chosen and kept.

        `options`: service name to its own settings, passed through. `ephemeral`: the home is removed with all data when
        the stack ends, however it ends.
        """
        self.home = (home or default_home()).expanduser().absolute()
        self.cache = (cache or default_cache()).expanduser().absolute()
        self._ports, self._options = dict(ports or {}), {name: dict(found) for name, found in (options or {}).items()}
        self._own, self._ephemeral = False, ephemeral
        self._daemon: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._own:
            self.stop()

    def start(
        self,
        services: Sequence[str] = SERVICES,
        *,
        models: Sequence[str] | None = None,
        served: Mapping[str, Served] | None = None,
        detached: bool = False,
        progress: Callable[[str], None] | None = None,
        timeout_s: float = 300.0,
    ) -> Endpoints:
        """Start what does not run yet and wait until all of it is ready; downloads what is missing.

        Args:
            services: of `SERVICES`.
            models: Triton models to load; default: all in the repository.
            served: those that are not as they are packaged, all of them; default: as they were at the last start.
            detached: the stack outlives this process; else it ends with it.
            progress: called with a line for people now and then.
            timeout_s: for the servers to become ready; downloads are not counted.

        Raises:
            StackError: a prerequisite is missing, a port is taken, or a server does not come up; the message says which.

        """
        say = progress or (lambda _: None)
        if unknown := set(services) - set(SERVICES):
            raise StackError(f"unknown service {', '.join(sorted(unknown))}: there are {', '.join(SERVICES)}")
        checks.require(services, self.home)
        if "kafka" in services:
            assets.fetch_jars(self.cache, say)
        self.home.mkdir(parents=True, exist_ok=True)
        wanted = {
            "services": list(services),
            "models": None if models is None else list(models),
            "served": None if served is None else {name: asdict(one) for name, one in served.items()},
        }
        daemon: subprocess.Popen[bytes] | None = None
        asked = self.home / f"wanted-{secrets.token_hex(6)}.json"
        if self._running() is None:
            if left := self.clean_stale():
                say(left)
            self._drop_forgotten()
            self._ask(asked, wanted)
            daemon = self._daemon = self._launch(detached)
        else:
            self._ask(asked, wanted)
        self._await(asked, wanted, daemon, say, timeout_s)
        if daemon is not None:
            self._own = not detached
            if detached:
                _DETACHED.append(daemon)
        return self.endpoints()

    def stop(self, timeout_s: float = 60.0) -> bool:
        """End the stack, whoever started it; True where one ran. Data stays."""
        self._own = False
        supervisor = self._running()
        if supervisor is None:
            return bool(self.clean_stale())
        with contextlib.suppress(ProcessLookupError):
            os.kill(supervisor.pid, signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        while supervisor.alive():
            if time.monotonic() > deadline:
                os.kill(supervisor.pid, signal.SIGKILL)
                break
            self._reap()
            time.sleep(POLL_S)
        self._reap()
        self.clean_stale()
        return True

    def abandon(self) -> None:
        """Stop what this object's own unfinished or attached start began; a stack that others started stays."""
        if self._daemon is not None:
            self.stop()

    def wipe(self) -> None:
        """Stop, and remove all data, logs and ports of this home; downloads in the cache stay."""
        self.stop()
        remove_home(self.home)

    def restart(self, service: str, *, kill: bool = False, timeout_s: float = 120.0) -> Endpoints:
        """End one server (SIGKILL where `kill`, else in its own good time) and wait until it is ready again.

        Raises:
            StackError: it does not run, or does not come back in time.

        """
        before = self._state().get("services", {}).get(service)
        if self._running() is None or before is None or before["pid"] is None:
            raise StackError(f"{service} does not run in {self.home}: start it with `upwell up`")
        with contextlib.suppress(ProcessLookupError):
            os.kill(before["pid"], signal.SIGKILL if kill else STOP_SIGNALS[service])
        began = time.monotonic()
        killed = kill
        while True:
            now = self._state().get("services", {}).get(service, before)
            if now["starts"] > before["starts"] and now["state"] == "ready":
                return self.endpoints()
            if not killed and now["pid"] == before["pid"] and time.monotonic() - began > 20:
                killed = True
                os.kill(before["pid"], signal.SIGKILL)
            if self._running() is None or time.monotonic() - began > timeout_s:
                raise StackError(f"{service} did not come back within {timeout_s:.0f} s.{self.log_tail(service)}")
            time.sleep(POLL_S)

    def status(self) -> dict[str, Any]:
        """What runs: `running`, `stale`, `mode`, `supervisor`, `services` (state, pid, restarts), `endpoints`; JSON-able."""
        running, state = self._running(), self._state()
        return {
            "home": str(self.home),
            "cache": str(self.cache),
            "running": running is not None,
            "stale": running is None and bool(state),
            "mode": state.get("mode") if running else None,
            "supervisor": running.pid if running else None,
            "services": state.get("services", {}) if running else {},
            "endpoints": asdict(self.endpoints()) if running else {},
        }

    def endpoints(self) -> Endpoints:
        """Addresses of the running services.

        Raises:
            StackError: no stack runs in this home.

        """
        if self._running() is None:
            raise StackError(f"no stack runs in {self.home}: start one with `upwell up`")
        return Endpoints(**self._state()["endpoints"])

    def pid(self, service: str) -> int | None:
        """A server's pid now; None while it is down."""
        found = self._state().get("services", {}).get(service, {}).get("pid")
        return int(found) if found is not None else None

    def known_ports(self) -> dict[str, int]:
        """Ports of the last start, by name."""
        try:
            found: dict[str, int] = json.loads((self.home / "ports.json").read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return found

    def log_path(self, service: str) -> Path:
        """Where a server's log is; `supervisor` is one too."""
        return self.home / "logs" / f"{service}.log"

    def log_tail(self, service: str, lines: int = 12) -> str:
        """The last lines of a log, as the end of an error message."""
        try:
            text = self.log_path(service).read_text(errors="replace")
        except FileNotFoundError:
            return ""
        return f" The last lines of {self.log_path(service)}:\n" + "\n".join(text.splitlines()[-lines:])

    def stale(self) -> str:
        """What a killed run left behind, in words; empty where nothing."""
        state = self._state()
        if not state or self._running() is not None:
            return ""
        left = self._leftovers(state)
        rest = f"{len(left)} of its processes still run" if left else "none of its processes is left"
        return f"The stack in {self.home} was not shut down (its supervisor, process {state['supervisor']['pid']}, is gone); {rest}."

    def clean_stale(self) -> str:
        """End and remove what a killed run left behind; says what in words, empty where nothing."""
        said, state = self.stale(), self._state()
        if not said:
            return ""
        end(self._leftovers(state))
        clean_shared_memory(state.get("shared_memory_prefix", ""))
        (self.home / "stack.json").unlink(missing_ok=True)
        return f"{said} Cleaned up; data is kept."

    def _leftovers(self, state: dict[str, Any]) -> list[Identity]:
        if state["supervisor"]["boot"] != boot_id():
            return []
        recorded = [
            Identity.from_dict(found["identity"]) for found in state["services"].values() if found.get("identity")
        ]
        return [*{identity: None for identity in [*recorded, *mentioning(self.home)] if identity.alive()}]

    def _state(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.home / "stack.json").read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return found

    def _running(self) -> Identity | None:
        """The supervisor, where it holds this home's lock."""
        self._reap()
        try:
            with (self.home / "stack.lock").open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            state = self._state()
            if state:
                supervisor = Identity.from_dict(state["supervisor"])
                return supervisor if supervisor.alive() else None
        except (FileNotFoundError, PermissionError):
            pass
        return None

    def _launch(self, detached: bool) -> subprocess.Popen[bytes]:
        (self.home / "logs").mkdir(exist_ok=True)
        spec = {
            "cache": str(self.cache), "ports": self._ports, "options": self._options,
            "owner": None if detached else Identity.own().as_dict(), "ephemeral": self._ephemeral,
        }  # fmt: skip
        # The marker tells processes of this stack from any other's, should the supervisor die.
        env = {**os.environ, "UPWELL_STACK": str(self.home)}
        with self.log_path("supervisor").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "upwell.local.daemon", str(self.home), json.dumps(spec)],
                env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def _ask(self, asked: Path, wanted: dict[str, Any]) -> None:
        """Leave a wish for the supervisor, whole or not at all; it removes the file once it works on it."""
        draft = asked.with_suffix(".new")
        draft.write_text(json.dumps(wanted))
        draft.replace(asked)

    def _drop_forgotten(self) -> None:
        """Wishes of processes that were killed while they asked; not those of one that asks at this moment."""
        for forgotten in self.home.glob("wanted-*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - forgotten.stat().st_mtime > 60:
                    forgotten.unlink()

    def _reap(self) -> None:
        if self._daemon is not None and self._daemon.poll() is not None:
            self._daemon = None

    def _await(
        self,
        asked: Path,
        wanted: dict[str, Any],
        daemon: subprocess.Popen[bytes] | None,
        say: Callable[[str], None],
        timeout_s: float,
    ) -> None:
        began, ready, said = time.monotonic(), set[str](), set[str]()
        while True:
            state = self._state()
            services = state.get("services", {})
            for name, found in services.items():
                if found["state"] == "ready" and name not in ready:
                    ready.add(name)
                    say(f"{name} is ready after {time.monotonic() - began:.1f} s")
            for note in state.get("notes", []):
                if note not in said:
                    said.add(note)
                    say(note)
            if error := state.get("error"):
                if daemon is not None:
                    daemon.wait()
                    (self.home / "stack.json").unlink(missing_ok=True)
                raise StackError(error)
            triton = services.get("triton", {})
            if daemon is None and "triton" in wanted["services"] and (detail := triton.get("detail")):
                raise StackError(detail)
            loaded = set(triton.get("wanted", ()) if wanted["models"] is None else wanted["models"]) <= set(
                triton.get("models", ())
            )
            if not asked.exists() and self._running() and set(wanted["services"]) <= ready and loaded:
                return
            if daemon is not None and daemon.poll() is not None:
                if self._running() is None:
                    raise StackError(
                        f"the supervisor of the stack ended with code {daemon.returncode}.{self.log_tail('supervisor')}"
                    )
                daemon = None  # another process started the stack at the same time; join it
                self._ask(asked, wanted)
            if time.monotonic() - began > timeout_s:
                late = ", ".join(name for name in wanted["services"] if name not in ready) or "models"
                if daemon is not None:
                    self.stop()
                raise StackError(
                    f"{late} did not become ready within {timeout_s:.0f} s: see the logs in {self.home / 'logs'}"
                )
            time.sleep(POLL_S)


def remove_home(home: Path) -> None:
    """Remove what a stack keeps in its home, and the home itself where nothing else is in it."""
    for name in ("kafka", "postgres", "triton", "logs"):
        shutil.rmtree(home / name, ignore_errors=True)
    for name in ("stack.json", "ports.json", "stack.lock"):
        (home / name).unlink(missing_ok=True)
    for asked in home.glob("wanted-*"):
        asked.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        home.rmdir()
