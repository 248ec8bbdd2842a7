"""Debian's package: the pinned bytes or none, complete or absent, nothing outside its folder, whatever it claims."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from upwell.local import debian
from upwell.local.debian import Package, fetch_package, package_dir, unpack
from upwell.local.errors import StackError

KEEP = re.compile(r".*\.(txt|png)")


def data_tar(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return out.getvalue()


def ar(members: dict[str, bytes]) -> bytes:
    found = b"!<arch>\n"
    for name, content in members.items():
        found += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode() + content
        found += b"\n" * (len(content) % 2)
    return found


def deb(folder: Path, data: bytes) -> tuple[Path, Package]:
    path = folder / "sample_1.0_all.deb"
    path.write_bytes(ar({"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": data}))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return path, Package("sample", "1.0", digest, "usr/share/sample", KEEP)


FILES = {
    "./usr/share/sample/a/pig.txt": b"A pig.",
    "./usr/share/sample/a/pig.png": b"PNG",
    "./usr/share/sample/a/pig.svg": b"left out",
    "./usr/share/doc/sample/other.txt": b"elsewhere",
}


def test_a_named_file_is_unpacked_once(tmp_path, monkeypatch):
    path, package = deb(tmp_path, data_tar(FILES, {"./usr/share/sample/link.txt": "/etc/passwd"}))
    monkeypatch.setenv(debian.VARIABLE, str(path))
    folder = fetch_package(tmp_path / "cache", package=package)
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.*")) == ["a/pig.png", "a/pig.txt"]
    assert (folder / "a" / "pig.txt").read_bytes() == b"A pig."
    path.unlink()
    assert fetch_package(tmp_path / "cache", package=package) == folder


def test_other_bytes_are_refused(tmp_path, monkeypatch):
    path, package = deb(tmp_path, data_tar(FILES))
    path.write_bytes(path.read_bytes() + b"more")
    monkeypatch.setenv(debian.VARIABLE, str(path))
    with pytest.raises(StackError, match=r"sample_1.0_all.deb is not sample 1.0: SHA-256 .* Nothing was installed"):
        fetch_package(tmp_path / "cache", package=package)
    assert not package_dir(tmp_path / "cache", package).exists()


def test_a_missing_file_and_a_missing_apt_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv(debian.VARIABLE, str(tmp_path / "none.deb"))
    with pytest.raises(StackError, match=r"UPWELL_STAMPS_DEB names .*none.deb, and no file is there"):
        fetch_package(tmp_path)
    monkeypatch.delenv(debian.VARIABLE)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StackError, match=r"apt-get is not on this machine.*UPWELL_STAMPS_DEB=/path/to/tuxpaint-stamps"):
        fetch_package(tmp_path)
    assert not package_dir(tmp_path).exists()


@pytest.fixture
def apt(tmp_path, monkeypatch):
    """The real apt, knowing nothing but a repository in a folder of the test's own; returns that folder."""
    if shutil.which("apt-get") is None:
        pytest.skip("this machine has no apt")
    folder = tmp_path / "repository"
    folder.mkdir()
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] file:{folder} ./\n")
    settings = tmp_path / "apt.conf"
    settings.write_text(f'Dir::Etc::sourcelist "{tmp_path}/sources.list";\nDir::Etc::sourceparts "/dev/null";\n')
    monkeypatch.setenv("APT_CONFIG", str(settings))
    monkeypatch.delenv(debian.VARIABLE, raising=False)
    (folder / "Packages").write_text("")
    return folder


def test_apt_fetches_with_lists_of_its_own(apt, tmp_path):
    path, package = deb(apt, data_tar(FILES))
    (apt / "Packages").write_text(
        f"Package: sample\nVersion: 1.0\nArchitecture: all\nMaintainer: x\nDescription: x\n"
        f"Filename: ./{path.name}\nSize: {path.stat().st_size}\nSHA256: {package.sha256}\n"
    )
    said = []
    folder = fetch_package(tmp_path / "cache", said.append, package)
    assert (folder / "a" / "pig.png").read_bytes() == b"PNG"
    assert said == ["Fetching sample 1.0 through apt", "Unpacking sample"]
    assert [p.name for p in (tmp_path / "cache").iterdir() if not p.name.startswith(".")] == [folder.name]


def test_what_apt_says_is_repeated(apt, tmp_path):
    package = Package("sample", "1.0", "0" * 64, "usr/share/sample", KEEP)
    with pytest.raises(StackError, match=r"(?s)sample=1.0 could not be fetched through apt.*Unable to locate package"):
        fetch_package(tmp_path / "cache", package=package)


@pytest.mark.parametrize("name", ["../evil.txt", "/etc/evil.txt", "./usr/share/sample/../../evil.txt"])
def test_names_that_climb_out_are_refused(tmp_path, name):
    path, package = deb(tmp_path, data_tar({name: b"evil"}))
    with pytest.raises(StackError, match="points outside of it"):
        unpack(path, tmp_path / "out" / "in", package)
    assert not list(tmp_path.rglob("evil.txt"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no archive", "no ar archive"),
        (ar({"debian-binary": b"2.0\n"}), "has no data.tar.xz"),
        (ar({"data.tar.xz": b"no xz"}), "is damaged"),
        (ar({"data.tar.xz": data_tar(FILES)[:-40]})[:-30], "is damaged"),
        (ar({"data.tar.xz": data_tar(FILES)})[:40], "an ar header is broken"),
        (ar({"data.tar.xz": data_tar({"./usr/other.txt": b""})}), "holds nothing below"),
    ],
)
def test_damaged_packages_are_named(tmp_path, content, message):
    path = tmp_path / "bad.deb"
    path.write_bytes(content)
    with pytest.raises(StackError, match=message):
        unpack(path, tmp_path / "out", Package("sample", "1.0", "", "usr/share/sample", KEEP))


def test_what_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(debian, "MOST_UNPACKED_BYTES", 1_000)
    path, package = deb(tmp_path, data_tar({"./usr/share/sample/big.txt": bytes(2_000)}))
    with pytest.raises(StackError, match="unpacks to more than"):
        unpack(path, tmp_path / "out", package)


SQUARE = b"<svg xmlns='http://www.w3.org/2000/svg' width='2cm' height='1cm'><rect width='99%' height='99%' fill='red'/></svg>"


def test_drawings_are_rendered_where_there_is_no_picture(tmp_path, monkeypatch):
    files = FILES | {"./usr/share/sample/a/cow.svg": SQUARE}
    path, package = deb(tmp_path, data_tar(files))
    package = replace(package, keep=re.compile(r".*\.(txt|png|svg)"))
    monkeypatch.setenv(debian.VARIABLE, str(path))
    folder = fetch_package(tmp_path / "cache", package=package)
    assert (folder / "a" / "pig.png").read_bytes() == b"PNG"
    with Image.open(folder / "a" / "cow.png") as picture:
        assert picture.size == (76, 38)
        assert picture.convert("RGB").getpixel((30, 20)) == (255, 0, 0)
    assert not list(folder.rglob("*.svg"))


def test_a_broken_drawing_is_named(tmp_path, monkeypatch):
    path, package = deb(tmp_path, data_tar({"./usr/share/sample/a/cow.svg": b"<svg"}))
    monkeypatch.setenv(debian.VARIABLE, str(path))
    with pytest.raises(StackError, match=r"cow\.svg"):
        fetch_package(tmp_path / "cache", package=replace(package, keep=re.compile(r".*\.svg")))
    assert not package_dir(tmp_path / "cache", package).exists()
