"""Fetches Debian's stamps catalogue (pictures, sounds, names in many languages) through apt, as it is configured here.

Pinned by version and SHA-256, unpacked without dpkg and without root, drawings rendered; out comes a folder in the cache,
complete or absent.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final, cast

from upwell.local import assets
from upwell.local.assets import Progress
from upwell.local.drawings import render
from upwell.local.errors import StackError

VARIABLE: Final = "UPWELL_STAMPS_DEB"
"""Names a file that was fetched by other means."""
NEED_BYTES: Final = 500 * 2**20
MOST_UNPACKED_BYTES: Final = 2**30
"""A package that claims to hold more is refused: the pinned one holds a fifth of it."""
_AR_MAGIC: Final = b"!<arch>\n"
_AR_HEADER: Final = 60
_WORDS: Final = 8
"""Last lines of apt that an error repeats."""


@dataclass(frozen=True)
class Package:
    """A Debian package: what is asked of apt, what the file's bytes must be, and what of it is kept."""

    name: str
    version: str
    sha256: str
    folder: str
    """Only what lies below it is unpacked, and under its name from there on."""
    keep: re.Pattern[str]
    """Matches the paths below `folder` that are kept."""


STAMPS: Final = Package(
    "tuxpaint-stamps-default",
    "2022.06.04-1",
    "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
    "usr/share/tuxpaint/stamps",
    # Most of the package are spoken names in nine languages other than English: 130 MB that nothing here listens to.
    re.compile(r".*\.(txt|dat|png|svg)|(?!.*_desc_).*\.(ogg|wav)"),
)


def package_dir(cache: Path, package: Package = STAMPS) -> Path:
    """Where the package lies once it is fetched: named by what it is, so that a new pin never meets an old folder."""
    digest = hashlib.sha256(repr(package).encode()).hexdigest()[:8]
    return cache / f"{package.name}-{package.version}-{digest}"


def fetch_package(cache: Path, progress: Progress | None = None, package: Package = STAMPS) -> Path:
    """Fetch a Debian package's files where they are missing; returns the folder that holds them.

    `$UPWELL_STAMPS_DEB`, a path to the .deb, is taken instead of apt.

    Raises:
        StackError: no apt, no network, another version, too little disk, or a file that is not the pinned one.

    """
    folder = package_dir(cache, package)
    if folder.is_dir():
        return folder
    say = progress or (lambda _: None)
    cache.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(cache).free) < NEED_BYTES:
        raise StackError(
            f"too little disk: {package.name} needs {NEED_BYTES >> 20} MB, {free >> 20} MB are free at {cache}. "
            "Make room, or choose another folder with UPWELL_CACHE."
        )
    with assets._alone(cache, package.name), assets._scratch(cache) as scratch:
        if folder.is_dir():  # another process was faster
            return folder
        given = os.environ.get(VARIABLE)
        if given:
            deb = Path(given).expanduser()
            if not deb.is_file():
                raise StackError(f"{VARIABLE} names {given}, and no file is there")
        else:
            say(f"Fetching {package.name} {package.version} through apt")
            deb = _download(package, scratch)
        _check(deb, package)
        say(f"Unpacking {package.name}")
        unpack(deb, scratch / "unpacked", package)
        render(scratch / "unpacked", say)
        (scratch / "unpacked").rename(folder)
    return folder


def _download(package: Package, scratch: Path) -> Path:
    """`apt-get download`, which needs no root; with lists of our own where the system has none or old ones."""
    apt = shutil.which("apt-get")
    if apt is None:
        raise StackError(
            f"apt-get is not on this machine, and {package.name} is a Debian package. Fetch version {package.version} "
            f"by hand (packages.debian.org or snapshot.debian.org, architecture all) and name the file: "
            f"{VARIABLE}=/path/to/{package.name}_{package.version}_all.deb"
        )
    target = scratch / "deb"
    target.mkdir()
    wanted = f"{package.name}={package.version}"
    said = _apt([apt, "download", wanted], target)
    if said is not None:
        lists = scratch / "apt"
        for part in ("state/lists/partial", "cache/archives/partial"):
            (lists / part).mkdir(parents=True)
        own = ["-o", f"Dir::State={lists / 'state'}", "-o", f"Dir::Cache={lists / 'cache'}"]
        # The installed packages are none of our business, but apt wants to read which there are.
        own += ["-o", "Dir::State::status=/dev/null"]
        said = _apt([apt, *own, "update"], target) or _apt([apt, *own, "download", wanted], target)
    found = sorted(target.glob("*.deb"))
    if said is not None or not found:
        raise StackError(
            f"{wanted} could not be fetched through apt. Where this system's sources have another version, fetch this "
            f"one from snapshot.debian.org and name the file with {VARIABLE}. apt said:\n{said or 'nothing'}"
        )
    return found[0]


def _apt(command: list[str], folder: Path) -> str | None:
    """None where it worked, else the last of what apt said."""
    # apt drops root for a user of its own, which cannot write into our folder, and complains.
    options = ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []
    env = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        [command[0], "-q", *options, *command[1:]],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode == 0:
        return None
    return "\n".join((done.stdout + done.stderr).strip().splitlines()[-_WORDS:])


def _check(deb: Path, package: Package) -> None:
    with deb.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != package.sha256:
        raise StackError(
            f"{deb.name} is not {package.name} {package.version}: SHA-256 {digest}, expected {package.sha256}. "
            "Nothing was installed."
        )


def unpack(deb: Path, target: Path, package: Package = STAMPS) -> int:
    """Unpack what is kept of a .deb (ar archive with a data.tar.xz inside, deb(5)) into `target`; returns the files.

    Only plain files below the package's folder are written, whatever else the archive claims to hold.

    Raises:
        StackError: not a .deb, damaged, or with members that point outside.

    """
    written, size = 0, 0
    try:
        with _data(deb) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                below = _below(member.name, package.folder)
                if below is None or not member.isfile() or not package.keep.fullmatch(below):
                    continue
                size += member.size
                if size > MOST_UNPACKED_BYTES:
                    raise StackError(f"{deb.name} unpacks to more than {MOST_UNPACKED_BYTES >> 20} MB: refused")
                source = archive.extractfile(member)
                if source is None:
                    continue
                path = target / below
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as out:
                    shutil.copyfileobj(source, out)
                path.chmod(0o644)
                written += 1
    except (tarfile.TarError, lzma.LZMAError, EOFError, ValueError) as error:
        raise StackError(f"{deb.name} is damaged: {error}. Nothing was installed.") from error
    if not written:
        raise StackError(f"{deb.name} holds nothing below {package.folder}: not the package {package.name}?")
    return written


def _below(name: str, folder: str) -> str | None:
    """The path below `folder`, or None where it isn't there.

    Raises:
        StackError: the name climbs out of the archive.

    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise StackError(f"the package holds {name!r}, which points outside of it: refused")
    return str(path.relative_to(folder)) if path.is_relative_to(folder) and path != PurePosixPath(folder) else None


@contextmanager
def _data(deb: Path) -> Iterator[IO[bytes]]:
    """The uncompressed data.tar of a .deb as a stream."""
    with deb.open("rb") as file:
        if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
            raise StackError(f"{deb.name} is not a Debian package: no ar archive")
        while header := file.read(_AR_HEADER):
            if len(header) < _AR_HEADER or header[58:] != b"`\n":
                raise StackError(f"{deb.name} is damaged: an ar header is broken")
            name, size = header[:16].decode("latin-1").strip().rstrip("/"), int(header[48:58])
            if name == "data.tar.xz":
                part = cast("IO[bytes]", _Part(file.read, size))
                with lzma.open(part) as stream:
                    yield cast("IO[bytes]", stream)
                return
            file.seek(size + size % 2, os.SEEK_CUR)
    raise StackError(f"{deb.name} is not a Debian package that we can read: it has no data.tar.xz")


class _Part:
    """The next `size` bytes of a file, as a file."""

    def __init__(self, read: Callable[[int], bytes], size: int) -> None:
        self._read, self._left = read, size

    def read(self, wanted: int = -1) -> bytes:
        if wanted < 0 or wanted > self._left:
            wanted = self._left
        found = self._read(wanted)
        self._left -= len(found)
        return found
