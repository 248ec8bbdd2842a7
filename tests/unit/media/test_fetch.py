"""Bytes come only from where they may come from, and never more than allowed, however they are asked for."""

from __future__ import annotations

import base64
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest

from upwell.events.contracts import Media
from upwell.media import addresses
from upwell.media.errors import MediaError, MediaRejected, MediaUnavailable
from upwell.media.fetch import Fetcher
from upwell.media.silence import FAILURES, REST_S, Silence
from upwell.settings import MediaSettings


class Site(BaseHTTPRequestHandler):
    """A host that behaves well or badly, by path."""

    release = threading.Event()
    asked: list[str] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        name, _, rest = self.path[1:].partition("/")
        if name == "redirect":
            self.send_response(302)
            self.send_header("Location", rest)
            self.end_headers()
        elif name == "status":
            self.send_error(int(rest))
        elif name == "endless":
            self.send_response(200)
            self.end_headers()
            try:
                while not self.release.is_set():
                    self.wfile.write(bytes(65_536))
            except OSError:
                pass
        elif name == "silent":
            self.send_response(200)
            self.end_headers()
            self.release.wait()
        else:
            body = b"x" * int(rest or 1)
            self.send_response(200)
            if name == "lying":
                self.send_header("Content-Length", "4294967296")
            if name == "short":
                self.send_header("Content-Length", str(len(body) + 100))
            if name == "packed":
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    Site.release.clear()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    Site.release.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def make() -> Iterator[Any]:
    made: list[Fetcher] = []

    def fetcher(**settings: Any) -> Fetcher:
        made.append(Fetcher(MediaSettings(**settings)))
        return made[-1]

    yield fetcher
    for one in made:
        one.close()


def image(uri: str) -> Media:
    return Media("image", uri=uri)


LOCAL: dict[str, Any] = {"schemes": ["http", "https"], "allow_private_hosts": ["127.0.0.1"], "max_bytes": 100_000}

INSIDE = [
    "http://127.0.0.1/",
    "http://127.0.0.1:5432/",
    "http://10.1.2.3/",
    "http://172.16.0.1/",
    "http://192.168.1.1/",
    "http://100.64.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://0.0.0.0/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://[::1]/",
    "http://[::]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:10.0.0.1]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[fe80::1]/",
    "http://[fc00::1]/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.1/",
    "http://017700000001/",
    "http://0177.0.0.1/",
    "http://127.1/",
    "http://0/",
    "http://①②⑦.⓪.⓪.①/",
    "http://localhost/",
    "http://LOCALHOST:9/",
]


@pytest.mark.parametrize("uri", INSIDE)
def test_no_address_of_the_own_network(uri: str, make: Any) -> None:
    with pytest.raises(MediaRejected, match="address"):
        make(schemes=["http", "https"]).fetch(image(uri))
    with pytest.raises(MediaRejected, match="address"):
        make().fetch(image(uri.replace("http:", "https:")))


@pytest.mark.parametrize("uri", INSIDE)
def test_no_redirect_to_one(uri: str, site: str, make: Any) -> None:
    uri = uri.replace("127.0.0.1", "127.0.0.2")  # the site's own address is allowed here
    with pytest.raises(MediaRejected, match=r"address|cannot be resolved"):  # of circled digits the site makes %e2...
        make(**LOCAL).fetch(image(f"{site}/redirect/{uri}"))


def test_the_last_look_is_at_the_socket(site: str, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # A name that resolved to something public when it was checked, and to this machine when it is connected to.
    monkeypatch.setattr(addresses.Guard, "admit", lambda *_: None)
    with pytest.raises(MediaRejected, match=r"127\.0\.0\.1 is a loopback address"):
        make(schemes=["http"]).fetch(image(f"{site}/ok/5".replace("127.0.0.1", "localhost")))


def test_a_name_is_resolved_once(site: str, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    resolve = socket.getaddrinfo

    def counted(*args: Any, **kwargs: Any) -> Any:
        asked.append(args[0])
        return resolve(*args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", counted)
    allowed = LOCAL | {"allow_private_hosts": ["localhost"]}
    assert make(**allowed).fetch(image(f"{site}/ok/5".replace("127.0.0.1", "localhost"))) == b"xxxxx"
    assert asked == ["localhost"]


@pytest.mark.parametrize(
    "uri",
    [
        "ftp://example.org/a",
        "gopher://example.org",
        "s3://bucket/key",
        "memory://a",
        "simplecache::http://127.0.0.1/",
        "//127.0.0.1/a",
        "",
        "x",
        "http://example.org/",
        "https:///a",
        "https://user:password@example.org/",
        "https://a..b/",
        "https://" + "a" * 300 + ".org/",
        "https://[::1/",
        "https://exa mple.org:99999/",
        "data:no comma",
        "data:;base64,***",
        "file://host/etc/passwd",
    ],
)
def test_what_is_no_allowed_address_is_rejected(uri: str, make: Any) -> None:
    with pytest.raises(MediaRejected):
        make().fetch(image(uri))


def test_what_does_not_exist_is_rejected(make: Any) -> None:
    with pytest.raises(MediaError, match="resolved"):
        make().fetch(image("https://nowhere.invalid/a.png"))


def test_listed_hosts_only(site: str, make: Any) -> None:
    with pytest.raises(MediaRejected, match=r"none of media\.hosts"):
        make(hosts=["*.example.org"]).fetch(image("https://example.com/"))
    assert addresses.stands_in("A.example.org.", ["*.example.org"])
    assert not addresses.stands_in("badexample.org", ["*.example.org"])
    assert make(**LOCAL, hosts=["example.org"]).fetch(image(f"{site}/ok/3")) == b"xxx"


def test_inline(make: Any) -> None:
    fetcher = make(max_bytes=10)
    assert fetcher.fetch(Media("image", data=b"abc")) == b"abc"
    assert fetcher.fetch(image("data:image/png;base64," + base64.b64encode(b"abc").decode())) == b"abc"
    assert fetcher.fetch(image("data:,a%20b")) == b"a b"
    for large in (Media("image", data=bytes(11)), image("data:," + "a" * 11)):
        with pytest.raises(MediaRejected, match=r"more than media\.max_bytes = 10 bytes"):
            fetcher.fetch(large)


def test_web(site: str, make: Any) -> None:
    fetcher = make(**LOCAL)
    assert len(fetcher.fetch(image(f"{site}/ok/100000"))) == 100_000
    assert fetcher.fetch(image(f"{site}/redirect/{site}/ok/4")) == b"xxxx"
    assert fetcher.fetch(image(f"{site}/redirect//ok/2")) == b"xx"


@pytest.mark.parametrize("path", ["ok/100001", "lying/3", "endless"])
def test_nobody_sends_more_than_allowed(path: str, site: str, make: Any) -> None:
    with pytest.raises(MediaRejected, match=r"media\.max_bytes"):
        make(**LOCAL).fetch(image(f"{site}/{path}"))


@pytest.mark.parametrize(
    ("path", "error", "reason"),
    [
        ("status/404", MediaRejected, "answers 404"),
        ("status/403", MediaRejected, "answers 403"),
        ("status/503", MediaUnavailable, "answers 503"),
        ("status/429", MediaUnavailable, "answers 429"),
        ("packed/5", MediaRejected, "compressed"),
        ("short/5", MediaUnavailable, "ClientPayloadError"),
        ("redirect/redirect/redirect/redirect/redirect/ok/1", MediaRejected, "redirects"),
        ("redirect/file:///etc/passwd", MediaRejected, "scheme 'file'"),
        ("redirect/data:,abc", MediaRejected, "scheme 'data'"),
    ],
)
def test_answers(path: str, error: type[MediaError], reason: str, site: str, make: Any) -> None:
    if "redirect/redirect" in path:
        path = f"redirect/{site}/" * 4 + "ok/1"
    with pytest.raises(error, match=reason):
        make(**LOCAL).fetch(image(f"{site}/{path}"))


def test_nobody_may_be_silent_for_ever(site: str, make: Any) -> None:
    with pytest.raises(MediaUnavailable, match=r"within 0\.3 s"):
        make(**LOCAL, fetch_timeout_s=0.3).fetch(image(f"{site}/silent"))
    with pytest.raises(MediaUnavailable, match=r"within 0\.2 s"):
        make(**LOCAL).fetch(image(f"{site}/silent"), 0.2)


def test_a_closed_port_is_infrastructure(make: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        with pytest.raises(MediaUnavailable, match="does not answer"):
            make(**LOCAL).fetch(image(f"http://127.0.0.1:{taken.getsockname()[1]}/"))


def test_a_host_that_is_away_costs_its_items_no_timeout_each() -> None:
    now = [0.0]
    silence = Silence(lambda: now[0])
    for _ in range(FAILURES):
        silence.ask("away:80")
        silence.silent("away:80")
    with pytest.raises(MediaUnavailable, match="has not answered 3 times in a row"):
        silence.ask("away:80")
    silence.ask("other:80")
    now[0] += REST_S
    silence.ask("away:80")
    silence.silent("away:80")
    with pytest.raises(MediaUnavailable, match="4 times"):
        silence.ask("away:80")
    silence.answered("away:80")
    silence.ask("away:80")


def test_a_silent_host_is_left_alone_for_a_while(make: Any) -> None:
    fetcher = make(**LOCAL, fetch_timeout_s=0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        uri = f"http://127.0.0.1:{listener.getsockname()[1]}/a.png"
        for _ in range(FAILURES):
            with pytest.raises(MediaUnavailable, match=r"within 0\.3 s"):
                fetcher.fetch(image(uri))
        with pytest.raises(MediaUnavailable, match="it is asked again soon"):
            fetcher.fetch(image(uri))


def test_folders(tmp_path: Path, make: Any) -> None:
    inside, outside = tmp_path / "in side", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (inside / "a.png").write_bytes(b"abc")
    (outside / "secret").write_bytes(b"secret")
    (inside / "link").symlink_to(outside / "secret")
    (inside / "good").symlink_to(inside / "a.png")
    os.mkfifo(inside / "pipe")
    fetcher = make(roots=[str(inside)])
    assert fetcher.fetch(image((inside / "a.png").as_uri())) == b"abc"
    assert fetcher.fetch(image((inside / "good").as_uri())) == b"abc"
    for path in (
        (outside / "secret").as_uri(),
        (inside / "link").as_uri(),
        f"{inside.as_uri()}/../outside/secret",
        f"{inside.as_uri()}/%2e%2e/outside/secret",
        (inside / "pipe").as_uri(),
        inside.as_uri(),
        (inside / "none").as_uri(),
        "file:///dev/zero",
        "file:///proc/self/environ",
        f"{inside.as_uri()}/a.png%00",
    ):
        with pytest.raises(MediaRejected):
            fetcher.fetch(image(path))
    with pytest.raises(MediaRejected, match=r"media\.roots"):
        make().fetch(image((inside / "a.png").as_uri()))
    with pytest.raises(MediaRejected, match=r"media\.max_bytes"):
        make(roots=[str(inside)], max_bytes=2).fetch(image((inside / "a.png").as_uri()))


def test_buckets_are_listed(make: Any) -> None:
    files = fsspec.filesystem("memory")
    files.pipe_file("/bucket/key", b"abc")
    fetcher = make(schemes=["memory"], hosts=["bucket"])
    assert fetcher.fetch(image("memory://bucket/key")) == b"abc"
    for uri in ("memory://other/key", "memory:///bucket/key", "memory://bucket/key::file:///etc/passwd"):
        with pytest.raises(MediaRejected, match=r"none of media\.hosts"):
            fetcher.fetch(image(uri))
    with pytest.raises(MediaRejected, match="nothing at"):
        fetcher.fetch(image("memory://bucket/none"))
    files.rm("/bucket", recursive=True)
