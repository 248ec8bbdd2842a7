"""What is stored has the hash of its bytes as its name, and comes back as it was."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
import pytest

from upwell.media.errors import MediaRejected, MediaUnavailable
from upwell.media.store import MediaStore
from upwell.settings import ConfigError, MediaSettings


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MediaStore]:
    made = MediaStore(
        MediaSettings(store=(tmp_path / "media").as_uri() if request.param == "file" else "memory://bucket/media/")
    )
    yield made
    if request.param == "memory":
        fsspec.filesystem("memory").store.clear()


def test_round_trip(store: MediaStore) -> None:
    stored = store.put(b"abc", "image/png")
    assert stored.sha256 == hashlib.sha256(b"abc").hexdigest()
    assert (stored.size, stored.mime) == (3, "image/png")
    assert stored.uri.endswith(f"/{stored.sha256[:2]}/{stored.sha256}.png")
    assert stored.uri.startswith(("file:///", "memory://"))
    assert store.get(stored.uri) == b"abc"
    assert store.put(b"abc", "image/png") == stored
    store.delete(stored.uri)
    store.delete(stored.uri)
    with pytest.raises(MediaRejected, match="holds no"):
        store.get(stored.uri)


def test_unknown_types_have_no_extension(store: MediaStore) -> None:
    stored = store.put(b"", "x/y")
    assert stored.uri.endswith(stored.sha256)
    assert store.get(stored.uri) == b""


@pytest.mark.parametrize("name", ["../secret", "ab/../../x", "ab", "", "cd/" + "ab" * 32, "ab/" + "ab" * 32 + "/x"])
def test_only_its_own_uris(store: MediaStore, name: str) -> None:
    root = store.put(b"abc", "image/png").uri.rsplit("/", 2)[0]
    for uri in (f"{root}/{name}", f"file:///etc/{name}", name):
        with pytest.raises(MediaRejected, match="no URI of this media store"):
            store.get(uri)
        with pytest.raises(MediaRejected, match="no URI of this media store"):
            store.delete(uri)


def test_a_cut_file_is_noticed_and_written_again(tmp_path: Path) -> None:
    store = MediaStore(MediaSettings(store=tmp_path.as_uri()))
    stored = store.put(b"abcdef", "audio/wav")
    Path(stored.uri.removeprefix("file://")).write_bytes(b"abc")
    with pytest.raises(MediaRejected, match="another hash"):
        store.get(stored.uri)
    store.put(b"abcdef", "audio/wav")
    assert store.get(stored.uri) == b"abcdef"


def test_many_writers_leave_one_file_and_no_parts(tmp_path: Path) -> None:
    store = MediaStore(MediaSettings(store=tmp_path.as_uri()))
    data = bytes(100_000)
    threads = [threading.Thread(target=store.put, args=(data, "video/mp4")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert file.read_bytes() == data


def test_a_store_that_cannot_be_written_is_infrastructure(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = MediaStore(MediaSettings(store=(tmp_path / "file").as_uri()))
    with pytest.raises(MediaUnavailable, match="does not answer"):
        store.put(b"abc", "image/png")


@pytest.mark.parametrize("url", ["", "nosuch://bucket"])
def test_a_setting_that_is_no_store(url: str) -> None:
    with pytest.raises(ConfigError, match=r"media\.store"):
        MediaStore(MediaSettings(store=url))


def test_old_files_are_told_and_what_is_put_again_is_not_old(tmp_path: Path) -> None:
    store = MediaStore(MediaSettings(store=tmp_path.as_uri()))
    old, again, young = (store.put(data, "image/png") for data in (b"old", b"again", b"young"))
    (tmp_path / "notes.txt").write_text("not the store's own")
    for stored in (old, again):
        os.utime(stored.uri.removeprefix("file://"), (0, 0))
    moment = datetime.now(UTC) - timedelta(days=2)
    assert dict(store.written_before(moment)) == {old.uri: 3, again.uri: 5}
    assert store.put(b"again", "image/png") == again
    assert dict(store.written_before(moment)) == {old.uri: 3}
    assert not store.was_written_before(young.uri, moment)
    store.delete(old.uri)
    assert not store.was_written_before(old.uri, moment)


def test_every_kind_of_store_tells_when_it_was_written_to(store: MediaStore) -> None:
    stored = store.put(b"abc", "image/png")
    now = datetime.now(UTC)
    assert dict(store.written_before(now - timedelta(days=1))) == {}
    assert dict(store.written_before(now + timedelta(days=1))) == {stored.uri: 3}


def test_what_a_crash_left_half_written_is_found_with_the_rest(tmp_path: Path) -> None:
    store = MediaStore(MediaSettings(store=tmp_path.as_uri()))
    whole = store.put(b"one", "image/png")
    half = Path(f"{whole.uri.removeprefix('file://')}.{'0' * 16}.part")
    half.write_bytes(b"o")
    found = dict(store.written_before(datetime.now(UTC) + timedelta(days=1)))
    assert found == {whole.uri: 3, half.as_uri(): 1}
    store.delete(half.as_uri())
    assert not half.exists()
