"""The supervisor process of one local stack: brings the servers up, keeps them up, writes `stack.json`, ends them.

Started by `Stack.start`, which asks by files `wanted-*.json`. SIGTERM ends the stack, and so does its owner's end.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from upwell.local import assets
from upwell.local.errors import StackError
from upwell.local.kafka import Kafka
from upwell.local.own_models import Served
from upwell.local.paths import models_dir
from upwell.local.postgres import Postgres
from upwell.local.processes import Identity, choose_port, port_free, port_holder
from upwell.local.stack import Endpoints, Stack, remove_home
from upwell.local.supervisor import ManagedProcess, State, Supervisor
from upwell.local.triton import Triton, clean_shared_memory

TICK_S = 0.1
LOOK_S = 0.5
"""Pause between looks at a server that is ready."""
RETRY_S = 1.0
"""Pause after a model could not be loaded."""
TRIES = 4
"""So many starts that never became ready are a failure to start; later crashes are restarted without end."""
PORT_NAMES = (*Kafka.port_names, *Postgres.port_names, *Triton.port_names)


class Service(Protocol):
    """A server that the stack runs."""

    name: str

    def prepare(self) -> None: ...
    def process(self) -> dict[str, Any]: ...
    def ready(self, pid: int) -> bool: ...
    def after_exit(self) -> None: ...


class Daemon:
    """State of the stack and the loop that keeps it true."""

    def __init__(self, home: Path, spec: dict[str, Any]) -> None:
        self.home, self.spec = home, spec
        self.cache = Path(spec["cache"])
        self.owner = Identity.from_dict(spec["owner"]) if spec["owner"] else None
        self.prefix = f"upwell_{hashlib.sha256(str(home).encode()).hexdigest()[:12]}_"
        self.notes: list[str] = []
        self.error = ""
        self.services: dict[str, Service] = {}
        self.states: dict[str, str] = {}
        self.ready_starts: dict[str, int] = {}
        self.details: dict[str, str] = {}
        self.ending = threading.Event()
        self.supervisor = Supervisor()
        self._written = ""

    def run(self) -> int:
        """Until asked to end; 0, or 3 where a server would not start."""
        self.ports = self._choose_ports()
        while not self.ending.wait(TICK_S):
            for asked in self.home.glob("wanted-*.json"):
                self._bring_up(json.loads(asked.read_text()))
                self._write()
                asked.unlink()
            if self.owner and not self.owner.alive():
                log(f"owner {self.owner.pid} has ended")
                self.ending.set()
            self._write()
        return self._end()

    def _bring_up(self, wanted: dict[str, Any]) -> None:
        for name in wanted["services"]:
            if name not in self.services:
                self.services[name] = self._service(name, wanted)
                self.states[name] = "starting"
                threading.Thread(target=self._keep, args=(self.services[name],), name=name, daemon=True).start()
            elif isinstance(service := self.services[name], Triton):
                service.want(wanted["models"], _served(wanted))

    def _service(self, name: str, wanted: dict[str, Any]) -> Service:
        options = self.spec["options"].get(name, {})
        if name == "kafka":
            return Kafka(self.home, assets.jars_dir(self.cache), self.ports, options)
        if name == "postgres":
            return Postgres(self.home, self.ports, options)
        folder = models_dir(self.cache)
        return Triton(
            self.home, folder, self.ports, wanted=wanted["models"], shared_memory_prefix=self.prefix,
            served=_served(wanted), options=options,
        )  # fmt: skip

    def _keep(self, service: Service) -> None:
        """One thread per service: bring it up, then watch that it is ready after each start."""
        try:
            service.prepare()
            log(f"starting {service.name}")
            process = self.supervisor.start(service.name, **service.process())
            ready_start, ended_start = 0, 0  # number of the start that was last found ready, ended
            while not self.ending.wait(TICK_S):
                starts = process.starts
                if process.pid is not None and self._ready(service, process.pid, ready_start > 0):
                    if ready_start != starts:
                        ready_start = self.ready_starts[service.name] = starts
                        log(f"{service.name} is ready, start {starts}, pid {process.pid}")
                    self.states[service.name] = "ready"
                    self.details.pop(service.name, None)
                    self.ending.wait(LOOK_S)
                    continue
                self.states[service.name] = "starting" if ready_start == 0 else "restarting"
                if process.state is not State.RUNNING and ended_start != starts:
                    ended_start = starts
                    log(f"{service.name} ended with code {process.exit_code}")
                    service.after_exit()
                if ready_start == 0 and starts >= TRIES and process.state is not State.RUNNING:
                    raise StackError(
                        f"{service.name} does not start: it ended with code {process.exit_code}.{self._tail(process)}"
                    )
        except StackError as error:
            self._fail(service, str(error))
        except Exception:
            self._fail(service, f"{service.name} could not be started:\n{traceback.format_exc()}")

    def _ready(self, service: Service, pid: int, was_ready: bool) -> bool:
        """What ended a first start is tried again for ever once the service has been ready."""
        try:
            return service.ready(pid)
        except StackError as error:
            if not was_ready:
                raise
            if self.details.get(service.name) != str(error):
                self.details[service.name] = str(error)
                log(str(error))
            self.ending.wait(RETRY_S)
            return False

    def _fail(self, service: Service, message: str) -> None:
        if not self.ending.is_set():
            self.states[service.name] = "failed"
            self.error = self.error or message
            log(message)
            self.ending.set()

    def _end(self) -> int:
        log("ending")
        self._write()
        self.supervisor.close()
        clean_shared_memory(self.prefix)
        if self.error:
            self._write()
            return 3
        (self.home / "stack.json").unlink(missing_ok=True)
        if self.spec.get("ephemeral"):
            remove_home(self.home)
        return 0

    def _choose_ports(self) -> dict[str, int]:
        """Wanted ports, else those of last time where still free, else free ones; recorded for the next time."""
        file, known = self.home / "ports.json", Stack(self.home).known_ports()
        start = 20_000 + int(self.prefix[7:15], 16) % 12_000
        chosen: dict[str, int] = {}
        for name in PORT_NAMES:
            port = self.spec["ports"].get(name)
            if port is not None:
                if not port_free(port):
                    raise StackError(
                        f"port {port}, wanted for {name}, is taken by {port_holder(port)}: end that, or choose another port"
                    )
            elif (port := known.get(name)) is None or port in chosen.values() or not port_free(port):
                before, port = port, choose_port(start, {*chosen.values(), *known.values()})
                if before is not None:
                    self.notes.append(
                        f"port {before}, last used for {name}, is taken by {port_holder(before)}: using {port}"
                    )
            chosen[name] = port
        draft = self.home / "ports.json.new"
        draft.write_text(json.dumps(chosen, indent=2))
        draft.replace(file)
        return chosen

    def _endpoints(self) -> dict[str, str]:
        found: dict[str, str] = dict.fromkeys(Endpoints.__dataclass_fields__, "")
        for name, service in self.services.items():
            if isinstance(service, Triton):
                found |= service.endpoints
            elif isinstance(service, (Kafka, Postgres)):
                found[name] = service.endpoint
        return found

    def _write(self) -> None:
        """`stack.json`: what other processes know of this stack."""
        services = {name: self._describe(name, self.supervisor.processes.get(name)) for name in list(self.services)}
        state = {
            "format": 1,
            "supervisor": Identity.own().as_dict(),
            "mode": "attached" if self.owner else "detached",
            "owner": self.owner.pid if self.owner else None,
            "shared_memory_prefix": self.prefix,
            "services": services,
            "endpoints": self._endpoints(),
            "notes": self.notes,
            "error": self.error,
        }
        text = json.dumps(state, indent=2)
        if text != self._written:
            draft = self.home / "stack.json.new"
            draft.touch(mode=0o600)  # it holds the password
            draft.write_text(text)
            draft.replace(self.home / "stack.json")
            self._written = text

    def _describe(self, name: str, process: ManagedProcess | None) -> dict[str, Any]:
        service = self.services[name]
        running = process is not None and process.state is State.RUNNING
        state = self.states[name]
        if state == "ready" and not (process and running and self.ready_starts.get(name) == process.starts):
            state = "restarting"
        return {
            "state": state,
            "pid": process.pid if process else None,
            "identity": process.identity.as_dict() if process and running and process.identity else None,
            "starts": process.starts if process else 0,
            "restarts": process.restarts if process else 0,
            "log": str(self.home / "logs" / f"{name}.log"),
            **({"models": service.loaded, "wanted": service.wanted()} if isinstance(service, Triton) else {}),
            "detail": self.details.get(name, ""),
        }

    def _tail(self, process: ManagedProcess) -> str:
        with contextlib.suppress(OSError):
            lines = process.log_path.read_text(errors="replace").splitlines()[-15:]
            return f" The last lines of {process.log_path}:\n" + "\n".join(lines)
        return ""


def _served(wanted: dict[str, Any]) -> dict[str, Served] | None:
    told = wanted["served"]
    return None if told is None else {name: Served(**one) for name, one in told.items()}


def log(message: str) -> None:
    print(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {message}", flush=True)


def main() -> int:
    home, spec = Path(sys.argv[1]), json.loads(sys.argv[2])
    os.umask(0o022)
    with (home / "stack.lock").open("w") as lock:
        try:
            # A look at the lock by another process takes a moment; a supervisor keeps it.
            for attempt in range(20):
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if attempt == 19:
                        raise
                    time.sleep(0.02)
        except BlockingIOError:
            log("another supervisor holds this home")
            return 3
        daemon = Daemon(home, spec)
        signal.signal(signal.SIGTERM, lambda *_: daemon.ending.set())
        signal.signal(signal.SIGINT, lambda *_: daemon.ending.set())
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            return daemon.run()
        except StackError as error:
            daemon.error = str(error)
            return daemon._end()


if __name__ == "__main__":
    sys.exit(main())
