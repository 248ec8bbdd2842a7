"""Facts about processes and ports on this machine: who is this pid really, does it still run, which port is free."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Identity:
    """A process for good: pids are used again, a pid with its start time is not."""

    pid: int
    started: int
    """Clock ticks after boot, from /proc/PID/stat."""
    boot: str

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """Identity of a running process; None where there is none, or only its unreaped remains."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return None
        fields = stat.rpartition(")")[2].split()
        if fields[0] in "ZX":
            return None
        return cls(pid, int(fields[19]), boot_id())

    @classmethod
    def own(cls) -> Identity:
        found = cls.of(os.getpid())
        assert found is not None
        return found

    def alive(self) -> bool:
        return Identity.of(self.pid) == self

    def as_dict(self) -> dict[str, int | str]:
        return {"pid": self.pid, "started": self.started, "boot": self.boot}

    @classmethod
    def from_dict(cls, found: dict[str, int | str]) -> Identity:
        return cls(int(found["pid"]), int(found["started"]), str(found["boot"]))


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def signal_group(pid: int, number: int) -> None:
    """Signal a process group; nothing happens where it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def group_alive(pgid: int) -> bool:
    """Whether any process but unreaped remains is in the group."""
    for process in psutil.process_iter(["pid", "status"]):
        with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
            if process.info["status"] != psutil.STATUS_ZOMBIE and os.getpgid(process.info["pid"]) == pgid:
                return True
    return False


def mentioning(folder: Path) -> list[Identity]:
    """Processes with this folder in their command line or environment's UPWELL_STACK: parts of the stack that lives there."""
    found = []
    marker = f"UPWELL_STACK={folder}\0".encode()
    for process in psutil.process_iter(["pid"]):
        pid = process.info["pid"]
        if pid == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if marker in Path(f"/proc/{pid}/environ").read_bytes() + b"\0" and (identity := Identity.of(pid)):
                found.append(identity)
    return found


def end(identities: list[Identity], grace_s: float = 5.0) -> list[Identity]:
    """SIGTERM, then SIGKILL after `grace_s`; returns those that were still running at the call."""
    running = [identity for identity in identities if identity.alive()]
    for identity in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(identity.pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while any(identity.alive() for identity in running) and time.monotonic() < deadline:
        time.sleep(0.05)
    for identity in running:
        if identity.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(identity.pid, signal.SIGKILL)
    return running


def port_free(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def port_holder(port: int) -> str:
    """Who listens on a port, in words; what may be known depends on rights."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
                if connection.pid is None:
                    break
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
    return "another process"


def choose_port(start: int, taken: set[int]) -> int:
    """The first free loopback port from `start` on, below the range that the kernel gives to outgoing connections."""
    low, high = 20_000, 32_000
    for step in range(high - low):
        port = low + (start - low + step) % (high - low)
        if port not in taken and port_free(port):
            return port
    raise OSError(f"no free port between {low} and {high}")


def unprivileged_user() -> tuple[int, int] | None:
    """Uid and gid of a user who owns nothing; None where there is none."""
    for name in ("nobody", "daemon"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    return None


def reachable_by_others(path: Path) -> bool:
    """Whether everybody may walk to this path (execute permission for others on every folder above and itself)."""
    resolved = path.resolve()
    return all(folder.stat().st_mode & 0o001 for folder in (resolved, *resolved.parents) if folder.exists())
