"""Items whose media lie on a real web server, some of them good, some hostile: every one is answered, in its place."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from media_files import film_file, image_file, png_of, sound_file
from upwell.events.contracts import Media
from upwell.media.errors import MediaRejected, MediaUnavailable
from upwell.media.prepare import Prepared, Preparer
from upwell.settings import MediaSettings


class Site(BaseHTTPRequestHandler):
    """A shop's pictures, sounds and films; and one file that never comes."""

    release = threading.Event()
    files = {
        "/a.png": image_file("PNG"),
        "/a.ogg": sound_file("OGG"),
        "/a.webm": film_file("webm", 2),
        "/bomb.png": png_of(50_000, 50_000, b""),
        "/cut.webm": film_file("webm", 2)[:500],
    }

    def do_GET(self) -> None:
        if self.path == "/never":
            self.release.wait()
        elif self.path in self.files:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.files[self.path])
        else:
            self.send_error(503 if self.path == "/busy" else 404)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    Site.release.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_batch_of_items(site: str) -> None:
    def item(**media: str) -> list[Media]:
        return [Media(kind, uri=uri if ":" in uri else site + uri) for kind, uri in media.items()]

    pattern = [
        (item(image="/a.png", audio="/a.ogg"), Prepared),
        (item(image="/bomb.png"), MediaRejected),
        (item(video="/a.webm"), Prepared),
        (item(image="/none.png"), MediaRejected),
        (item(image="http://169.254.169.254/latest/meta-data"), MediaRejected),
        (item(image="/busy"), MediaUnavailable),
        (item(video="/cut.webm", image="/a.png"), MediaRejected),
        (item(image="/never"), MediaUnavailable),
        (item(speech="/a.ogg"), Prepared),
        (item(), Prepared),
    ]
    batch = pattern * 6
    settings = MediaSettings(
        schemes=["http", "https"], allow_private_hosts=["127.0.0.1"], fetch_timeout_s=2, decoders=2, in_flight=8
    )
    preparer = Preparer(settings)
    try:
        outcomes = list(preparer.prepare_many(media for media, _ in batch))
    finally:
        preparer.close()
    assert [type(outcome) for outcome in outcomes] == [kind for _, kind in batch], outcomes
    with pytest.raises(MediaUnavailable, match="closed"):
        preparer.prepare(item(image="/a.png"))
