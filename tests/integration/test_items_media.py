"""Items with pictures, sounds, speech and films through the real worker: features of all of it, hostile media to the dead
letters, hosts that never answer, a worker that is killed meanwhile."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile
from confluent_kafka import Message

from deployment import Deployment, deployed, header
from media_files import film_file, image_file, picture, png_of, sound_file, tone, wav_of
from support import eventually
from upwell.content.pictures import Pictures
from upwell.inference.features import FusionEncoder, ItemInput
from upwell.inference.speak import Speaker
from upwell.local.stack import Stack
from upwell.store import database
from upwell.store.contents import ContentStore

pytestmark = pytest.mark.integration

MODELS = ("text_encoder", "image_encoder", "audio_encoder", "speech_recognizer", "item_features", "speech_synthesizer")

NOW = time.time_ns() // 1_000_000
ALL = {"modalities": ["text", "image", "audio", "speech"]}
WAIT_S = 300
"""The encoders share two cores with whatever else is going on."""


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """A folder that item writers may name files of."""
    folder = tmp_path / "media"
    folder.mkdir()
    return folder


@pytest.fixture
def own(full_stack: Stack, prefix: str, media: Path, tmp_path: Path) -> Iterator[Deployment]:
    options = {"roots": [str(media)], "store": f"file://{tmp_path}/store", "decode_timeout_s": 60}
    with deployed(full_stack, prefix, items=ALL, media=options) as deployment:
        yield deployment


def send(own: Deployment, item_id: str, media: list[dict[str, Any]], title: str = "", partition: int = -1) -> None:
    own.produce("items", item_id, {"item_id": item_id, "title": title, "media": media, "ts": NOW}, partition)


def file(folder: Path, name: str, data: bytes) -> str:
    (folder / name).write_bytes(data)
    return (folder / name).as_uri()


def piece(kind: str, uri: str = "", data: bytes | None = None) -> dict[str, Any]:
    return {"kind": kind, "uri": uri} if data is None else {"kind": kind, "data": base64.b64encode(data).decode()}


def spoken(stack: Stack, text: str) -> bytes:
    speaker = Speaker(stack.endpoints().triton, timeout_s=60)
    try:
        speech = speaker.speak(text)
    finally:
        speaker.client.close()
    into = io.BytesIO()
    soundfile.write(into, speech.audio, speech.rate, format="WAV")
    return into.getvalue()


def features(own: Deployment) -> dict[str, dict[str, Any]]:
    return {found["item_id"]: found for found in own.read_json("item-features")}


def letters(own: Deployment) -> dict[str, Message]:
    return {letter.key().decode(): letter for letter in own.read("items.dlq")}


def assert_models_answer(stack: Stack) -> None:
    encoder = FusionEncoder(stack.endpoints().triton)
    try:
        (found,) = encoder.encode(
            [ItemInput("an apple", np.zeros((1, 224, 224, 3), np.uint8), tone(1), tone(1, rate=16_000))]
        )
        assert {"text", "image", "audio"} <= found.weights.keys()
    finally:
        encoder.close()


def test_items_of_every_modality_become_features(own: Deployment, full_stack: Stack, media: Path) -> None:
    photo = image_file("JPEG", picture(320, 240))
    send(own, "all", [piece("image", file(media, "a.jpg", photo)), piece("speech", file(media, "a.wav", spoken(
        full_stack, "This is a big red apple on the table.")))], "An apple")  # fmt: skip
    send(own, "sound", [piece("audio", file(media, "s.ogg", sound_file("OGG", tone(2))))], "A hum")
    send(own, "film", [piece("video", file(media, "f.webm", film_file("webm", 2)))], "A film")
    send(own, "inline", [piece("image", data=image_file("PNG"))], "A square")
    send(own, "picture", [piece("image", f"data:image/png;base64,{base64.b64encode(image_file('PNG')).decode()}")])
    send(own, "words", [], "Nothing but words")
    own.flush()
    with own.worker("items"):
        own.drained("items", "items", timeout=WAIT_S)
    assert own.read("items.dlq") == []
    made = features(own)
    present = {item_id: set(found["modalities"]) for item_id, found in made.items()}
    assert present == {
        "all": {"text", "image", "audio", "speech"}, "sound": {"text", "audio"}, "film": {"text", "image", "audio"},
        "inline": {"text", "image"}, "picture": {"image"}, "words": {"text"},
    }  # fmt: skip
    for found in made.values():
        assert abs(sum(found["modalities"].values()) - 1) < 1e-3
        vector = np.frombuffer(base64.b64decode(found["vector"]), "<f4")
        assert abs(float(np.linalg.norm(vector)) - 1) < 1e-3
    parts: dict[str, set[str]] = {}
    for item_id, modality, dimension in own.rows(
        "SELECT item_id, modality, vector_dims(vector) FROM item_modalities WHERE model_version = %s",
        made["all"]["model_version"],
    ):
        parts.setdefault(item_id, set()).add(modality)
        assert dimension >= 384
    assert parts == present
    perceived = dict(own.rows("SELECT item_id, perceived FROM items"))
    assert "apple" in perceived["all"]["transcript"].lower()
    assert len(perceived["picture"]["labels"]) == 5
    assert perceived["words"] == {}
    assert_bytes_lie_in_the_store(own)


def assert_bytes_lie_in_the_store(own: Deployment) -> None:
    """The database holds no bytes of media, and what makes posters finds the pictures all the same."""
    kept = dict(own.rows("SELECT item_id, media FROM items WHERE item_id IN ('inline', 'picture')"))
    for media in kept.values():
        assert [set(found) for found in media] == [{"kind", "uri"}]
        assert media[0]["uri"].startswith(own.settings.media.store)
    with database.pool(own.settings.postgres) as connections:
        pictures = Pictures(ContentStore(connections), own.settings.media)
        try:
            for item_id in kept:
                found, _ = pictures.of("nobody", item_id)
                assert found is not None
                assert found.shape == (64, 96, 3)
        finally:
            pictures.close()


def test_hostile_media_go_to_the_dead_letters_and_nothing_else_does(
    own: Deployment, full_stack: Stack, media: Path, tmp_path: Path
) -> None:
    outside = file(tmp_path, "outside.png", image_file("PNG"))
    (media / "link.png").symlink_to(tmp_path / "outside.png")
    hostile = {
        "broken": (piece("image", file(media, "broken.png", image_file("PNG")[:200])), "truncated"),
        "bomb": (piece("image", file(media, "bomb.png", png_of(50_000, 50_000, b""))), "pixels"),
        "lying": (piece("image", file(media, "lying.png", sound_file("WAV"))), "media[0] (image)"),
        "film_in_name": (piece("video", file(media, "lying.mp4", image_file("PNG")[:300])), "media[0] (video)"),
        "endless": (piece("audio", file(media, "endless.wav", wav_of(2**32 - 37, b""))), "media[0] (audio)"),
        "empty": (piece("image", data=b""), "media[0] (image)"),
        "loopback": (piece("image", "https://127.0.0.1:1/a.png"), "loopback"),
        "metadata": (piece("image", "https://169.254.169.254/latest/meta-data"), "link-local"),
        "odd_address": (piece("image", "https://2130706433/a.png"), "loopback"),
        "scheme": (piece("image", "http://example.org/a.png"), "media.schemes"),
        "chained": (piece("image", "simplecache::file:///etc/passwd"), "media.schemes"),
        "outside": (piece("image", outside), "media.roots"),
        "link": (piece("image", (media / "link.png").as_uri()), "media.roots"),
        "climbing": (piece("image", f"{media.as_uri()}/../outside.png"), "media.roots"),
        "missing": (piece("image", (media / "none.png").as_uri()), "media.roots"),
        "unencoded": (piece("image", "data:image/png;base64,%%%"), "base64"),
    }
    for number, (item_id, (bad, _)) in enumerate(hostile.items()):
        send(own, item_id, [bad], item_id, partition=0)
        if number % 5 == 0:
            send(own, f"good{number}", [piece("image", data=image_file("PNG"))], "A square", partition=0)
    # An item whose newest record is bad keeps the one before it.
    send(own, "changed", [piece("image", data=image_file("PNG"))], "As it was", partition=0)
    send(own, "changed", [piece("image", data=b"\x89PNG nonsense")], "As it is", partition=0)
    own.flush()
    with own.worker("items") as worker:
        own.drained("items", "items", timeout=WAIT_S)
        assert worker.process.poll() is None
    found = letters(own)
    assert found.keys() == {*hostile, "changed"}
    for item_id, (_, words) in hostile.items():
        reason = header(found[item_id], "upwell-reason")
        assert header(found[item_id], "upwell-step") == "media", (item_id, reason)
        assert words in reason, (item_id, reason)
        assert str(tmp_path) not in reason
    assert json.loads(found["changed"].value())["title"] == "As it is"
    assert features(own).keys() == {"changed", *(f"good{number}" for number in range(0, len(hostile), 5))}
    assert own.rows("SELECT title FROM items WHERE item_id = 'changed'") == [("As it was",)]
    assert_models_answer(full_stack)


@contextmanager
def silent_host() -> Iterator[str]:
    """Accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_host_that_never_answers_holds_up_its_items_alone(full_stack: Stack, prefix: str) -> None:
    patience = {**ALL, "media_patience_s": 4}
    options = {
        "schemes": ["http"], "allow_private_hosts": ["127.0.0.1"], "fetch_timeout_s": 1, "decode_timeout_s": 60
    }  # fmt: skip
    with deployed(full_stack, prefix, items=patience, media=options) as own, silent_host() as host:
        for number in range(24):
            send(own, f"never{number}", [piece("image", f"{host}/{number}.png")], "Never", partition=0)
            send(own, f"good{number}", [piece("image", data=image_file("PNG"))], "A square", partition=0)
        own.flush()
        with own.worker("items") as worker:
            own.drained("items", "items", timeout=WAIT_S)
            said = [line for line in worker.lines() if line["event"] == "waiting"]
        assert said, "it was asked again before it was given up"
        found = letters(own)
        assert found.keys() == {f"never{number}" for number in range(24)}
        for letter in found.values():
            assert header(letter, "upwell-step") == "media"
            assert "not to be had within 4 s" in header(letter, "upwell-reason")
        assert features(own).keys() == {f"good{number}" for number in range(24)}


def test_asked_to_stop_while_media_do_not_come_it_leaves_the_batch_to_the_next(full_stack: Stack, prefix: str) -> None:
    options = {"schemes": ["http"], "allow_private_hosts": ["127.0.0.1"], "fetch_timeout_s": 1}
    with deployed(full_stack, prefix, items={**ALL, "media_patience_s": 600}, media=options) as own:
        with silent_host() as host:
            send(own, "a", [piece("image", f"{host}/a.png")], "Never", partition=0)
            send(own, "b", [], "Only words", partition=0)
            own.flush()
            with own.worker("items") as worker:
                eventually(lambda: any(line["event"] == "waiting" for line in worker.lines()), WAIT_S)
                assert worker.stop(WAIT_S) == 0
                assert any(line["event"] == "left_batch" for line in worker.lines())
        assert own.committed("items", "items") == {}
        assert own.read("item-features") == own.read("items.dlq") == []


class Site(ThreadingHTTPServer):
    """Pictures; says when some have been asked for."""

    def __init__(self) -> None:
        self.asked = 0
        self.begun = threading.Event()
        super().__init__(("127.0.0.1", 0), Answer)
        self.daemon_threads = True


class Answer(BaseHTTPRequestHandler):
    server: Site
    photo = image_file("PNG", picture(400, 300))

    def do_GET(self) -> None:
        self.server.asked += 1
        if self.server.asked >= 20:
            self.server.begun.set()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.photo)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_killed_while_media_are_prepared_nothing_is_lost_or_published_twice(
    full_stack: Stack, prefix: str, site: Site
) -> None:
    options = {"schemes": ["http"], "allow_private_hosts": ["127.0.0.1"], "decode_timeout_s": 60}
    ids = {f"i{number}" for number in range(60)}
    with deployed(full_stack, prefix, items=ALL, media=options) as own:
        for item_id in sorted(ids):
            uri = f"http://127.0.0.1:{site.server_address[1]}/{item_id}.png"
            send(own, item_id, [piece("image", uri)], f"Number {item_id}")
        own.flush()
        with own.worker("items") as worker:
            assert site.begun.wait(WAIT_S)
            decoders = psutil.Process(worker.process.pid).children()
            worker.kill()
            assert decoders
            eventually(lambda: not any(alive(decoder) for decoder in decoders), message="the decoder ends with it")
        with own.worker("items"):
            own.drained("items", "items", timeout=WAIT_S)
        published = [message.key().decode() for message in own.read("item-features")]
        assert sorted(published) == sorted(ids)
        assert {item_id for (item_id,) in own.rows("SELECT item_id FROM items WHERE vector IS NOT NULL")} == ids
        assert own.read("items.dlq") == []


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_where_only_texts_are_encoded_media_are_not_even_looked_at(full_stack: Stack, prefix: str) -> None:
    with deployed(full_stack, prefix, media={"schemes": ["http"], "allow_private_hosts": ["127.0.0.1"]}) as own:
        with silent_host() as host:
            send(own, "a", [piece("image", f"{host}/a.png"), piece("audio", data=b"no sound")], "Alien")
            send(own, "b", [piece("image", f"{host}/a.png")])
            own.flush()
            with own.worker("items"):
                own.drained("items", "items")
        assert {item_id: found["modalities"] for item_id, found in features(own).items()} == {"a": {"text": 1.0}}
        (refused,) = letters(own).values()
        assert header(refused, "upwell-step") == "media"
        assert "items.modalities says text alone" in header(refused, "upwell-reason")
        ((kept,),) = own.rows("SELECT media FROM items")
        assert kept == [{"kind": "image", "uri": f"{host}/a.png"}, {"kind": "audio"}]


def test_languages_are_told_and_near_duplicates_marked(full_stack: Stack, prefix: str) -> None:
    story = "A story of seven people who meet in a small house at the end of the road and tell each other of the sea."
    german = "Das Haus am Ende der Straße, in dem sich sieben Menschen treffen und einander vom Meer erzählen."
    with deployed(full_stack, prefix) as own:
        for item_id, title, language in (
            ("first", story, ""), ("second", story.upper(), "en-GB"), ("third", german, ""), ("fourth", "Alien", ""),
        ):  # fmt: skip
            item = {"item_id": item_id, "title": title, "language": language, "ts": NOW}
            own.produce("items", item_id, item, partition=0)
        own.flush()
        with own.worker("items"):
            own.drained("items", "items")
        found = own.rows("SELECT item_id, language, perceived FROM items ORDER BY log_offset")
        assert found == [
            ("first", "en", {}), ("second", "en-GB", {"duplicate_of": "first"}), ("third", "de", {}), ("fourth", "", {}),
        ]  # fmt: skip
        assert len(features(own)) == 4
