"""A piece of media as it stands in an item in; its bytes, at most `media.max_bytes`, out.

Item writers are strangers: only listed schemes, hosts and folders are read, no address inside the own network, no
redirect to one, and nobody may answer endlessly or without end. What Upwell has put into its own media store is read
from there whatever the lists say: nobody can name such a file without knowing its hash. Thread-safe.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import concurrent.futures
import os
import socket
import stat
import threading
import urllib.parse
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import aiohttp
import fsspec
from yarl import URL

from upwell.events.contracts import Media
from upwell.media.addresses import Guard, stands_in
from upwell.media.errors import MediaError, MediaRejected, MediaUnavailable
from upwell.media.silence import Silence
from upwell.media.store import MediaStore, open_store
from upwell.settings import MediaSettings

MAX_REDIRECTS: Final = 3
CHUNK: Final = 65_536
LATER: Final = frozenset((408, 425, 429))
"""Answers of the 400s that say: not now."""
AGENT: Final = "upwell"

Result = TypeVar("Result")


class Fetcher:
    """Fetches for any number of threads."""

    def __init__(self, settings: MediaSettings) -> None:
        self.settings = settings
        self._store = open_store(settings)
        self._roots = [Path(root).resolve() for root in settings.roots]
        self._guard = Guard(settings.allow_private_hosts)
        self._silence = Silence()
        self._lock = threading.Lock()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: aiohttp.ClientSession | None = None
        self._thread: threading.Thread | None = None
        self._pool = ThreadPoolExecutor(settings.in_flight, thread_name_prefix="media-store")

    def fetch(self, media: Media, timeout_s: float | None = None) -> bytes:
        """The bytes of one piece.

        Args:
            timeout_s: deadline; by default, and at most, media.fetch_timeout_s.

        Raises:
            MediaRejected: it may not be fetched, is not there, or is larger than media.max_bytes.
            MediaUnavailable: the host, the store or the folder does not answer.
        """
        limit_s = min(timeout_s or self.settings.fetch_timeout_s, self.settings.fetch_timeout_s)
        if (data := inline(media)) is not None:
            return self._sized(data)
        uri = media.uri or ""
        if self._store is not None and self._store.holds(uri):
            return self._own(self._store, uri, limit_s)
        scheme = uri.partition(":")[0].lower()
        if scheme == "file":
            return self._file(uri)
        if scheme not in self.settings.schemes:
            raise MediaRejected(f"nothing is fetched by the scheme {scheme[:32]!r}; media.schemes lists what is")
        if scheme in {"http", "https"}:
            return self._web(uri, limit_s)
        return self._stored(uri, limit_s)

    def close(self) -> None:
        """Ends what is still being fetched."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._closed = True
            loop, thread, self._loop = self._loop, self._thread, None
        if loop and thread:
            asyncio.run_coroutine_threadsafe(self._end(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def _sized(self, data: bytes) -> bytes:
        if len(data) > self.settings.max_bytes:
            raise MediaRejected(self._too_large())
        return data

    def _too_large(self) -> str:
        return f"more than media.max_bytes = {self.settings.max_bytes} bytes"

    def _own(self, store: MediaStore, uri: str, limit_s: float) -> bytes:
        try:
            return self._sized(self._pool.submit(store.get, uri).result(limit_s))
        except concurrent.futures.TimeoutError:
            raise MediaUnavailable(f"the media store gives no file within {limit_s:g} s") from None

    def _file(self, uri: str) -> bytes:
        parts = urllib.parse.urlsplit(uri)
        path = urllib.parse.unquote(parts.path)
        if parts.netloc not in {"", "localhost"} or not path.startswith("/") or "\0" in path:
            raise MediaRejected("a file: URI is file:///, then an absolute path")
        try:
            # What is checked is what was opened: a link swapped meanwhile changes nothing. A pipe does not block.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            # Whether a file lies outside the folders is nobody's business.
            if self._inside(Path(path).resolve()) and not isinstance(error, FileNotFoundError | NotADirectoryError):
                raise MediaUnavailable(f"a file of media.roots cannot be read: {error.strerror}") from None
            raise MediaRejected("no such file in the folders of media.roots") from None
        try:
            opened = Path(f"/proc/self/fd/{descriptor}").resolve()
            if not self._inside(opened) or not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise MediaRejected("no such file in the folders of media.roots")
            with open(descriptor, "rb", closefd=False) as file:
                return self._sized(file.read(self.settings.max_bytes + 1))
        except OSError as error:
            raise MediaUnavailable(f"a file of media.roots cannot be read: {error.strerror}") from None
        finally:
            os.close(descriptor)

    def _inside(self, path: Path) -> bool:
        return any(path.is_relative_to(root) for root in self._roots)

    def _stored(self, uri: str, limit_s: float) -> bytes:
        """Object stores, with fsspec: they are asked with our own rights, so only listed buckets."""
        parts = urllib.parse.urlsplit(uri)
        if "::" in uri or not parts.netloc or parts.username or not stands_in(parts.netloc, self.settings.hosts):
            raise MediaRejected(f"bucket {parts.netloc[:200]!r} is none of media.hosts")

        def read() -> bytes:
            with fsspec.open(uri, "rb", **self.settings.options) as file:
                data: bytes = file.read(self.settings.max_bytes + 1)
                return data

        try:
            return self._sized(self._pool.submit(read).result(limit_s))
        except MediaError:
            raise
        except (FileNotFoundError, IsADirectoryError):
            raise MediaRejected(f"there is nothing at {uri[:200]}") from None
        except concurrent.futures.TimeoutError:
            raise MediaUnavailable(f"bucket {parts.netloc[:200]} gives no file within {limit_s:g} s") from None
        except Exception as error:  # each store has its own kinds
            raise MediaUnavailable(f"bucket {parts.netloc[:200]}: {type(error).__name__}: {error}") from error

    def _web(self, uri: str, limit_s: float) -> bytes:
        url = _parsed(uri)
        host = f"{url.host}:{url.port}"
        self._silence.ask(host)
        try:
            data = self._run(self._download(uri, limit_s))
        except MediaError:
            self._silence.answered(host)
            raise
        except TimeoutError:
            self._silence.silent(host)
            raise MediaUnavailable(f"host {url.host} gives no file within {limit_s:g} s") from None
        except (ValueError, aiohttp.ClientConnectorCertificateError) as error:  # names that cannot be names
            raise MediaRejected(f"{type(error).__name__}: {error}"[:300]) from None
        except aiohttp.ClientConnectorDNSError as error:
            unknown = isinstance(error.os_error, socket.gaierror) and error.os_error.errno == socket.EAI_NONAME
            kind = MediaRejected if unknown else MediaUnavailable
            raise kind(f"host {error.host[:200]} cannot be resolved: {error.os_error}") from None
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, PermissionError):  # the guard's
                raise MediaRejected(f"host {error.host[:200]}: {error.os_error}") from None
            self._silence.silent(host)
            raise MediaUnavailable(f"host {error.host[:200]} does not answer: {error.os_error}") from None
        except (aiohttp.ClientError, OSError) as error:
            raise MediaUnavailable(f"{type(error).__name__}: {error}"[:300]) from error
        self._silence.answered(host)
        return data

    async def _download(self, uri: str, limit_s: float) -> bytes:
        async with asyncio.timeout(limit_s):
            address = uri
            for _ in range(MAX_REDIRECTS + 1):
                url = self._allowed(address)
                async with self._client().get(url, allow_redirects=False) as response:
                    if response.status in {301, 302, 303, 307, 308}:
                        location = response.headers.get("Location", "")
                        address = str(url.join(_parsed(location)))
                        continue
                    return await self._body(url, response)
        raise MediaRejected(f"more than {MAX_REDIRECTS} redirects")

    async def _body(self, url: URL, response: aiohttp.ClientResponse) -> bytes:
        if response.status != 200:
            later = response.status >= 500 or response.status in LATER
            kind = MediaUnavailable if later else MediaRejected
            raise kind(f"host {url.host} answers {response.status}")
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise MediaRejected("the answer is compressed, which was not asked for")
        if (response.content_length or 0) > self.settings.max_bytes:
            raise MediaRejected(self._too_large())
        held = bytearray()
        async for chunk in response.content.iter_chunked(CHUNK):
            held += chunk
            if len(held) > self.settings.max_bytes:
                raise MediaRejected(self._too_large())
        return bytes(held)

    def _allowed(self, address: str) -> URL:
        """The address, parsed by what will use it, so that the check and the use agree on which host it names."""
        url = _parsed(address)
        if url.scheme not in {"http", "https"} or url.scheme not in self.settings.schemes:
            raise MediaRejected(f"nothing is fetched by the scheme {url.scheme[:32]!r}; media.schemes lists what is")
        host = url.host
        if not host or url.user is not None or url.password is not None:
            raise MediaRejected("an address needs a host, and no user or password")
        private = stands_in(host, self.settings.allow_private_hosts)
        if self.settings.hosts and not private and not stands_in(host, self.settings.hosts):
            raise MediaRejected(f"host {host[:200]} is none of media.hosts")
        if ":" in host or host.replace(".", "").isdigit():
            # Hosts that are an address are not resolved by the client, so nobody else looks at them.
            self._guard.admit(host, _as_resolved(host))
        return url

    def _client(self) -> aiohttp.ClientSession:
        """Made in the loop that uses it."""
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=self.settings.in_flight * 2,
                resolver=self._guard,
                socket_factory=self._guard.socket,
                use_dns_cache=False,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers={"User-Agent": AGENT, "Accept-Encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=self.settings.fetch_timeout_s),
            )
        return self._session

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        with self._lock:
            if self._closed:
                work.close()
                raise MediaUnavailable("the fetcher is closed")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="media-fetch", daemon=True)
                self._thread.start()
            loop = self._loop
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    async def _end(self) -> None:
        current = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not current]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if self._session:
            await self._session.close()
            self._session = None


def inline(media: Media) -> bytes | None:
    """The bytes of a piece that travels in its event, as `data` or as a `data:` URI (RFC 2397); None: it lies elsewhere.

    Raises:
        MediaRejected: a data: URI that cannot be read.
    """
    if media.data is not None:
        return media.data
    head, comma, body = (media.uri or "").partition(",")
    if head[:5].lower() != "data:":
        return None
    if not comma:
        raise MediaRejected("a data: URI without a comma")
    raw = urllib.parse.unquote_to_bytes(body)
    if not head.lower().endswith(";base64"):
        return raw
    try:
        return base64.b64decode(raw, validate=True)
    except binascii.Error as error:
        raise MediaRejected(f"a data: URI whose base64 cannot be read: {error}") from None


def _parsed(address: str) -> URL:
    try:
        return URL(address)
    except (ValueError, TypeError) as error:
        raise MediaRejected(f"not an address: {error}"[:300]) from None


def _as_resolved(host: str) -> list[str]:
    """What the system makes of a host that is an address, however it is written: 2130706433 is 127.0.0.1."""
    try:
        return [str(info[4][0]) for info in socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)]
    except OSError:
        raise MediaRejected(f"host {host[:200]} is not an address") from None
