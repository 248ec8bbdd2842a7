"""Media that were made for users, and those that came inside of item events, in; a URI under their own hash out.

The same bytes have the same URI, so writing twice changes nothing, and a reader sees a whole file or none. Any store of
fsspec: a local folder, S3, GCS. Thread-safe.
"""

from __future__ import annotations

import contextlib
import hashlib
import mimetypes
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import fsspec
from fsspec.implementations.local import LocalFileSystem

from upwell.media.errors import MediaRejected, MediaUnavailable
from upwell.settings import ConfigError, MediaSettings

EXTENSIONS: Final = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "audio/wav": ".wav",
    "audio/ogg": ".ogg",
    "video/mp4": ".mp4",
    "video/webm": ".webm",
}
"""What is made here; for others the system's table of types is asked."""
FRESH: Final = timedelta(hours=12)
"""For so long a file that is put again is left as it is; `upwell media prune` takes none that is younger than a day."""
_NAME = re.compile(r"[0-9a-f]{2}/([0-9a-f]{64})(\.[a-z0-9]{1,8})?(\.[0-9a-f]{16}\.part)?")
"""The last part is a file that a crash left half written."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What the topic carries of a piece of media."""

    uri: str
    sha256: str
    """Hexadecimal."""
    mime: str
    size: int
    """Bytes."""


def open_store(settings: MediaSettings) -> MediaStore | None:
    """The store that is set, else a folder in the home of the local stack that this process belongs to, if it does.

    Raises:
        ConfigError: fsspec does not know its kind.
    """
    home = os.environ.get("UPWELL_STACK")
    if not settings.store and home:
        settings = settings.model_copy(update={"store": f"file://{home}/media"})
    return MediaStore(settings) if settings.store else None


class MediaStore:
    """The folder or bucket of `media.store`.

    Raises:
        ConfigError: there is none, or fsspec does not know its kind.
    """

    def __init__(self, settings: MediaSettings) -> None:
        if not settings.store:
            raise ConfigError(
                "media.store is empty: give a folder such as file:///var/lib/upwell/media, or s3://bucket"
            )
        try:
            self._files, self._root = fsspec.core.url_to_fs(settings.store.rstrip("/"), **settings.store_options)
        except (ValueError, ImportError, TypeError) as error:
            raise ConfigError(f"media.store = {settings.store}: {error}") from None
        self._local = isinstance(self._files, LocalFileSystem)

    def put(self, data: bytes, mime: str) -> Stored:
        """Write a file, unless it is there.

        Raises:
            MediaUnavailable: the store does not take it now.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        extension = EXTENSIONS.get(mime) or mimetypes.guess_extension(mime) or ""
        path = f"{self._root}/{sha256[:2]}/{sha256}{extension}"
        try:
            if not self._fresh(path, len(data)):
                self._write(path, data)
        except Exception as error:  # each store has its own kinds
            raise _unavailable(error) from error
        return Stored(self._files.unstrip_protocol(path), sha256, mime, len(data))

    def get(self, uri: str) -> bytes:
        """The bytes of a file, which are those that were written.

        Raises:
            MediaRejected: not a URI of this store, nothing there, or not the bytes that its name says.
            MediaUnavailable: the store does not answer.
        """
        path, sha256 = self._path(uri)
        try:
            data: bytes = self._files.cat_file(path)
        except FileNotFoundError:
            raise MediaRejected(f"the store holds no {uri}") from None
        except Exception as error:  # each store has its own kinds
            raise _unavailable(error) from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise MediaRejected(f"{uri} was changed or cut: its bytes have another hash")
        return data

    def holds(self, uri: str) -> bool:
        """Whether a URI is one that this store gives; not whether anything lies there."""
        return self._named(uri) is not None

    def delete(self, uri: str) -> None:
        """Delete a file; one that is not there is deleted already.

        Raises:
            MediaRejected: not a URI of this store.
            MediaUnavailable: the store does not answer.
        """
        path, _ = self._path(uri)
        try:
            self._files.rm_file(path)
        except FileNotFoundError:
            return
        except Exception as error:  # each store has its own kinds
            raise _unavailable(error) from error

    def _path(self, uri: str) -> tuple[str, str]:
        """Path in the store, and the hash that stands in it."""
        name = self._named(uri)
        if name is None:
            raise MediaRejected(f"{uri[:200]!r} is no URI of this media store")
        return f"{self._root}/{name[0]}", name[1]

    def _named(self, uri: str) -> re.Match[str] | None:
        root = f"{self._files.unstrip_protocol(self._root)}/"
        name = _NAME.fullmatch(uri.removeprefix(root)) if uri.startswith(root) else None
        return name if name is not None and name[0][:2] == name[1][:2] else None

    def written_before(self, moment: datetime) -> Iterator[tuple[str, int]]:
        """URI and bytes of the files that were put for the last time before a moment, with a time zone.

        Raises:
            MediaUnavailable: the store does not answer.
        """
        for number in range(256):
            try:
                # A folder that was never written to is none, or an empty one, as the store has it.
                found = self._files.ls(f"{self._root}/{number:02x}", detail=True, refresh=True)
            except FileNotFoundError:
                continue
            except Exception as error:  # each store has its own kinds
                raise _unavailable(error) from error
            for info in found:
                uri = self._files.unstrip_protocol(info["name"])
                if self.holds(uri) and self.was_written_before(uri, moment):
                    yield uri, int(info["size"])

    def was_written_before(self, uri: str, moment: datetime) -> bool:
        """Whether a file is there, and was put for the last time before a moment. Raises: as `delete`."""
        path, _ = self._path(uri)
        try:
            return self._modified(path) < moment
        except FileNotFoundError:
            return False
        except Exception as error:  # each store has its own kinds
            raise _unavailable(error) from error

    def _fresh(self, path: str, size: int) -> bool:
        """Whether a file lies there whole, and so late that it counts as put now: what is put again is not old."""
        try:
            info: dict[str, Any] = self._files.info(path)
            return bool(info["size"] == size) and datetime.now(UTC) - self._modified(path) < FRESH
        except FileNotFoundError:
            return False

    def _modified(self, path: str) -> datetime:
        found: datetime = self._files.modified(path)
        return found if found.tzinfo else found.replace(tzinfo=UTC)

    def _write(self, path: str, data: bytes) -> None:
        if not self._local:
            self._files.pipe_file(path, data)  # object stores show an object when it is whole
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        beside = f"{path}.{secrets.token_hex(8)}.part"
        try:
            with open(beside, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(beside)
            raise


def _unavailable(error: Exception) -> MediaUnavailable:
    return MediaUnavailable(f"the media store does not answer: {type(error).__name__}: {error}")
