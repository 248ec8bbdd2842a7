"""Triton Inference Server from a wheel, with its Python backend, on the packaged models; loopback only.

Out come models that answer: what was asked for is loaded again after a crash of the server or of a model's own process.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import sys
import sysconfig
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from upwell.inference.repository import install
from upwell.local.errors import PrerequisiteError, StackError
from upwell.local.own_models import Served
from upwell.local.paths import environment_bin, triton_models

LOAD_TIMEOUT_S = 300
NICE = 10
"""Once its models are loaded: events are ranked first, texts are written with what is left of the machine."""
BY_NAME_ONLY = frozenset({"image_generator"})
"""Not among "all models": they have no weights before a command of the user's has trained them."""
ABOUT = "served.json"
"""In the folder of a model that is not as it is packaged: how it is served."""
MISSED_LOOKS = 3
"""So many looks without a model's process in a row: it has died (one may fall between two versions of it)."""


class Triton:
    """The model server as a service of the stack."""

    name = "triton"
    port_names = ("triton", "triton_http", "triton_metrics")

    def __init__(
        self,
        home: Path,
        models: Path,
        ports: Mapping[str, int],
        *,
        wanted: Sequence[str] | None,
        shared_memory_prefix: str,
        served: Mapping[str, Served] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        """`models`: folder of weights. `wanted`: names in the repository, None for all. `options`: command line flags.

        `served`: models that are not as they are packaged; None: as the repository has them from before.
        """
        self.folder, self.models, self.ports = home / "triton", models, ports
        self.prefix, self.options = shared_memory_prefix, dict(options or {})
        self.log = home / "logs" / "triton.log"
        self._wanted = None if wanted is None else list(wanted)
        self._served = None if served is None else dict(served)
        self._lock = threading.Lock()
        self._processes: dict[str, int] = {}
        self._missed: dict[str, int] = {}
        self._changed: set[str] = set()
        """Loaded as they were, and not yet as they are wanted."""
        self._ready_pid = 0
        self._seen_pid = 0

    @property
    def endpoints(self) -> dict[str, str]:
        return {name: f"127.0.0.1:{self.ports[name]}" for name in self.port_names}

    @property
    def repository(self) -> Path:
        return self.folder / "models"

    @property
    def loaded(self) -> list[str]:
        """Models that were ready when last looked at, and are as they are wanted."""
        with self._lock:
            return sorted(set(self._processes) - self._changed)

    def want(self, models: Sequence[str] | None, served: Mapping[str, Served] | None = None) -> None:
        """Load these as well; None: all that are in the repository, but for those of `BY_NAME_ONLY`.

        `served`: as at the beginning; what is served otherwise from now on is loaded again.
        """
        with self._lock:
            if served is not None and self.repository.is_dir():
                self._serve(served)
            if models is None:
                self._wanted = None
            elif self._wanted is not None:
                self._wanted = [*dict.fromkeys([*self._wanted, *models])]

    def wanted(self) -> list[str]:
        with self._lock:
            if self._wanted is not None:
                return list(self._wanted)
        if not self.repository.is_dir():
            return []  # asked before `prepare`
        found = {model.name for model in self.repository.iterdir() if (model / "config.pbtxt").is_file()}
        return sorted(found - BY_NAME_ONLY)

    def prepare(self) -> None:
        """Put the backend's files together, and the repository out of links to the packaged models.

        Raises:
            PrerequisiteError: the wheel lacks this Python's part, or Python has no shared library.
            StackError: a wanted model is not in the repository.

        """
        server = _server_folder()
        libpython_folder()
        backend = self.folder / "backends" / "python"
        backend.mkdir(parents=True, exist_ok=True)
        for found in [*(server / "backends" / "python").iterdir(), stub()]:
            _link(backend / found.name, found)
        self.repository.mkdir(exist_ok=True)
        packaged = _packaged()
        for old in self.repository.iterdir():
            if old.is_symlink() and old.name not in packaged:
                old.unlink()
        before = self._own()
        for name in set(packaged) - set(before):
            _link(self.repository / name, packaged[name])
        with self._lock:
            # All of them anew: their code may be that of an older release.
            for name, one in before.items() if self._served is None else ():
                self._install(name, one)
            self._serve(before if self._served is None else self._served)
            self._changed.clear()
        if lacking := set(self.wanted()) - {model.name for model in self.repository.iterdir()}:
            raise StackError(
                f"Triton's repository has no model {', '.join(sorted(lacking))}: it has {', '.join(packaged) or 'none'}"
            )

    def process(self) -> dict[str, Any]:
        server = _server_folder()
        flags = {
            "model-repository": str(self.repository),
            "model-control-mode": "explicit",
            "backend-directory": str(self.folder / "backends"),
            "cache-directory": str(server / "caches"),
            "cache-config": "local,size=33554432",
            "disable-auto-complete-config": "true",
            "allow-gpu-metrics": "false",
            "pinned-memory-pool-byte-size": "0",
            "http-address": "127.0.0.1",
            "grpc-address": "127.0.0.1",
            "metrics-address": "127.0.0.1",
            "http-port": str(self.ports["triton_http"]),
            "grpc-port": str(self.ports["triton"]),
            "metrics-port": str(self.ports["triton_metrics"]),
            "http-thread-count": "2",
            "exit-timeout-secs": "2",
            **self.options,
        }
        argv = [str(server / "bin" / "tritonserver"), f"--backend-config=python,shm-region-prefix-name={self.prefix}"]
        for flag, value in flags.items():
            # A switch takes no value.
            argv.append(f"--{flag}" if flag == "disable-auto-complete-config" else f"--{flag}={value}")
        return {
            "argv": argv, "env": self._env(), "log_path": self.log, "cwd": self.folder,
            # Only on SIGTERM does it end its models' processes, too.
            "stop_signal": signal.SIGTERM, "death_signal": signal.SIGTERM, "stop_timeout_s": 6.0,
        }  # fmt: skip

    def ready(self, pid: int) -> bool:
        """Whether the server answers and all wanted models are loaded; loads those that are not.

        Raises:
            StackError: a model cannot be loaded; with Triton's words.

        """
        if pid != self._seen_pid:
            self._processes, self._seen_pid = {}, pid
        # Not whether it is ready: it says no while somebody loads a further model.
        if not self._answers("v2/health/live"):
            return False
        self._drop_changed()
        wanted = self.wanted()
        processes = self._model_processes(pid)
        due = [name for name in wanted if not self._healthy(name, processes.get(name, 0))]
        if due:
            with ThreadPoolExecutor(len(due)) as pool:
                list(pool.map(self._load, due))
            processes = self._model_processes(pid)
            self._processes |= {name: processes.get(name, 0) for name in due}
            self._missed = {}
        if not all(name in self._processes for name in wanted):
            return False
        if pid != self._ready_pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.setpriority(os.PRIO_PGRP, pid, NICE)
            self._ready_pid = pid
        return True

    def after_exit(self) -> None:
        """Forget what was loaded, and free the shared memory that a killed server leaves."""
        self._processes = {}
        clean_shared_memory(self.prefix)

    def _own(self) -> dict[str, Served]:
        """What the repository has that is not as it is packaged."""
        found = {}
        for about in self.repository.glob(f"*/{ABOUT}"):
            told = json.loads(about.read_text())
            found[about.parent.name] = Served(told["like"], told["parameters"])
        return found

    def _serve(self, served: Mapping[str, Served]) -> None:
        """Bring the repository to it; the lock is held."""
        before, packaged = self._own(), _packaged()
        for name in set(before) - set(served):
            shutil.rmtree(self.repository / name)
            if name in packaged:
                _link(self.repository / name, packaged[name])
        for name, one in served.items():
            if before.get(name) != one:
                self._install(name, one)
        self._changed |= {name for name in {*before, *served} if before.get(name) != served.get(name)}

    def _install(self, name: str, one: Served) -> None:
        folder = install(self.repository, name, one.like, one.parameters)
        (folder / ABOUT).write_text(json.dumps(asdict(one)))

    def _drop_changed(self) -> None:
        """Take models that changed off the server, which sees no change where a file is older than before."""
        with self._lock:
            changed, self._changed = self._changed, set()
            gone = {name for name in changed if not (self.repository / name).exists()}
            if self._wanted is not None:
                self._wanted = [name for name in self._wanted if name not in gone]
            loaded = [name for name in changed if self._processes.pop(name, None) is not None]
        for name in loaded:
            self._post(f"v2/repository/models/{name}/unload")

    def _healthy(self, name: str, processes: int) -> bool:
        """A loaded model whose process died still calls itself ready, so its processes are counted."""
        if name not in self._processes:
            return False
        self._missed[name] = self._missed.get(name, 0) + 1 if processes < self._processes[name] else 0
        if self._missed[name] < MISSED_LOOKS:
            return True
        self._post(f"v2/repository/models/{name}/unload")
        del self._processes[name]
        return False

    def _load(self, name: str) -> None:
        self._post(f"v2/repository/models/{name}/load")

    def _post(self, path: str) -> None:
        request = urllib.request.Request(f"http://{self.endpoints['triton_http']}/{path}", data=b"{}", method="POST")
        try:
            with urllib.request.urlopen(request, timeout=LOAD_TIMEOUT_S):  # noqa: S310 (our own address)
                return
        except urllib.error.HTTPError as error:
            words = error.read().decode(errors="replace")
            with contextlib.suppress(ValueError, KeyError):
                words = json.loads(words)["error"]
            raise StackError(f"Triton refused {path}: {words}. More is in {self.log}") from None
        except OSError as error:
            raise StackError(f"Triton ended during {path}: {error}. More is in {self.log}") from None

    def _answers(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.endpoints['triton_http']}/{path}", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _model_processes(self, pid: int) -> dict[str, int]:
        """Model name to number of its processes."""
        counted: dict[str, int] = {}
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(pid).children():
                with contextlib.suppress(psutil.Error):
                    if child.status() == psutil.STATUS_ZOMBIE:
                        continue
                    for word in child.cmdline():
                        if word.endswith(".py") and word.startswith(str(self.repository)):
                            name = Path(word).relative_to(self.repository).parts[0]
                            counted[name] = counted.get(name, 0) + 1
        return counted

    def _env(self) -> dict[str, str]:
        env = dict(os.environ)
        threads = str(max(1, (os.cpu_count() or 2) // 2))
        return env | {
            # The models' Python is found through the path, their packages through that Python's environment.
            "PATH": f"{environment_bin()}:{env.get('PATH', '')}",
            "LD_LIBRARY_PATH": ":".join(filter(None, [str(libpython_folder()), env.get("LD_LIBRARY_PATH")])),
            "UPWELL_MODEL_DIR": str(self.models),
            "OMP_NUM_THREADS": env.get("OMP_NUM_THREADS", threads),
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
        }


def _packaged() -> dict[str, Path]:
    return {model.name: model for model in triton_models().iterdir() if (model / "config.pbtxt").is_file()}


def clean_shared_memory(prefix: str) -> None:
    """Remove the regions of Triton's models whose names start so."""
    if prefix:
        for region in Path("/dev/shm").glob(f"{prefix}*"):  # noqa: S108
            region.unlink(missing_ok=True)


def _server_folder() -> Path:
    # Found without importing it: the package imports much.
    spec = importlib.util.find_spec("pytriton")
    if spec is None or spec.origin is None:
        raise PrerequisiteError("the package nvidia-pytriton is missing: install `upwell[local]`, or run `make setup`")
    return Path(spec.origin).parent / "tritonserver"


def stub() -> Path:
    """The program that runs a model in this version of Python.

    Raises:
        PrerequisiteError: Triton's wheel has none for it.

    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = _server_folder() / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not found.exists():
        raise PrerequisiteError(f"Triton's wheel has no Python backend for Python {version}: use Python 3.11")
    return found


def libpython_folder() -> Path:
    """Folder of this Python's shared library, which Triton's Python backend loads.

    Raises:
        PrerequisiteError: Python was built without one.

    """
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    libdir = sysconfig.get_config_var("LIBDIR") or "/usr/lib"
    for folder in (
        Path(sys.base_prefix) / "lib",
        Path(libdir),
        Path(libdir) / multiarch,
        Path("/usr/lib") / multiarch,
        Path("/usr/lib64"),
    ):
        if (folder / name).exists():
            return folder
    raise PrerequisiteError(
        f"this Python has no shared library {name}, which Triton's Python backend needs. On Debian or Ubuntu install the package "
        f"libpython{sys.version_info.major}.{sys.version_info.minor}; else use a Python built with --enable-shared, as uv's and conda's are"
    )


def _link(link: Path, target: Path) -> None:
    """Make or correct a symbolic link, at once."""
    if link.is_symlink() and link.readlink() == target:
        return
    draft = link.with_name(f".{link.name}.{os.getpid()}")
    draft.symlink_to(target)
    draft.replace(link)
