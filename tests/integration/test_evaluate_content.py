"""`upwell evaluate content` as the real command, on what a real content worker has published on real servers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut, chelsea

from deployment import Deployment, deployed
from upwell.bus import topics
from upwell.events.hashing import key64
from upwell.inference.encode import TextEncoder
from upwell.local.stack import Stack
from upwell.store.arrays import VectorArray
from upwell.store.history import EVENT

pytestmark = pytest.mark.integration

MODELS = (
    "text_encoder", "text_generator", "text_safety", "image_safety", "image_encoder", "style_transfer",
    "speech_synthesizer", "speech_recognizer",
)  # fmt: skip
TOPICS = (*topics.TRIGGERS.values(), "requests")
FILMS = {
    "alien": ("Alien (1979)", ["Horror", "Sci-Fi"], "Ridley Scott"),
    "babe": ("Babe (1995)", ["Comedy"], "Chris Noonan"),
    "casino": ("Casino (1995)", ["Crime"], "Martin Scorsese"),
    "heat": ("Heat (1995)", ["Thriller"], "Michael Mann"),
}
LIKED = ("heat", "casino", "babe", "alien")
USERS = 12


@pytest.fixture(scope="module")
def own(full_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Twelve users, each with a profile near one of four films, a text about it each, two posters and a spoken one."""
    folder = tmp_path_factory.mktemp("media")
    groups: dict[str, dict[str, Any]] = {
        "content": {"max_wait_s": 120, "max_tokens": 48},
        "media": {"roots": [str(folder)], "store": f"file://{folder}/made"},
        "triton": {"generate_timeout_s": 60, "make_timeout_s": 60},
    }
    with deployed(full_stack, f"t{os.getpid()}_evaluate_", **groups) as deployment:
        _store(deployment, folder)
        for n in range(USERS):
            film, liked = list(FILMS)[n % 4], LIKED[n % 4]
            deployment.produce("content-triggers.normal", f"u{n}", _trigger(f"u{n}", film, liked, n))
        deployment.produce("content-triggers.normal", "late", _trigger("late", "alien", "heat", 0) | {"created": 1})
        deployment.flush()
        with deployment.worker("content") as worker:
            deployment.drained("content", *TOPICS, timeout=240)
            assert not [line for line in worker.lines() if line["event"] == "media.unmade"]
        yield deployment


def _trigger(user: str, film: str, liked: str, number: int) -> dict[str, Any]:
    title = FILMS[liked][0]
    return {
        "trigger_id": f"{user}-{film}", "kind": "head_changed", "cause": "r", "user_id": user, "item_id": film,
        "created": int(time.time() * 1000), "because": [liked],
        "reasons": [{"kind": "similar", "share": 0.5, "text": f"because you liked {title}"}],
        "format": {0: "poster", 1: "poster", 2: "speech"}.get(number, "text"),
    }  # fmt: skip


def _store(deployment: Deployment, folder: Path) -> None:
    encoder = TextEncoder(deployment.settings.triton.url)
    vectors = encoder.encode([f"{title}. {' '.join(kinds)}." for title, kinds, _ in FILMS.values()])
    version = encoder.model_version
    encoder.close()
    for n, (item_id, (title, kinds, director)) in enumerate(FILMS.items()):
        file = folder / f"{item_id}.png"
        Image.fromarray((astronaut(), chelsea())[n % 2]).save(file)
        media = [{"kind": "image", "uri": file.as_uri()}]
        deployment.execute(
            "INSERT INTO items (item_id, topic_id, partition, log_offset, title, categories, attributes, media, vector,"
            " model_version) SELECT %s, 't', 0, %s, %s, %s, %s, %s, v, %s FROM unnest(%s::vector[]) AS v",
            item_id, n, title, kinds, json.dumps({"director": director}), json.dumps(media), version,
            VectorArray(vectors[n : n + 1]),
        )  # fmt: skip
    rng = np.random.default_rng(1)
    for n in range(USERS):
        events = np.zeros(5 + n, EVENT)
        events["item"], events["weight"] = key64(LIKED[n % 4]), 1.0
        vector = vectors[n % 4] * 3 + rng.normal(0, 0.02, vectors.shape[1]).astype(np.float32)
        deployment.execute(
            "INSERT INTO profiles (user_id, partition, state_version, model_version, generation, version, revision,"
            " event_time, base, half_life_ms, vector, events, slates, slate_items)"
            " SELECT %s, 0, 1, %s, 0, %s, 0, 1, 0, 1, v, %s, '', '{}' FROM unnest(%s::vector[]) AS v",
            f"u{n}", version, len(events), events.tobytes(), VectorArray(vector[None].astype(np.float32)),
        )  # fmt: skip


def evaluate(own: Deployment, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "upwell.cli.main", "evaluate", "content", *arguments],
        env=os.environ | own.environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done


class Page(HTMLParser):
    """What a page refers to, and whether its elements are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in {"meta", "img", "br", "link"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_everything_is_measured_and_shown(own: Deployment, tmp_path: Path) -> None:
    report = tmp_path / "deep" / "report.html"
    done = evaluate(own, "--json", "--report", str(report))
    found = json.loads(done.stdout.splitlines()[-1])
    contents, measures = found["contents"], found["measures"]
    assert contents["published"] == contents["looked_at"] == USERS
    assert contents["by_format"] == {"text": USERS - 3, "poster": 2, "speech": 1}
    assert found["outcomes"]["expired"] == 1
    by_model = contents["by_source"].get("model", 0)
    assert by_model >= 8
    assert measures["triggers_ended_by_model"]["n"] == USERS + 1
    assert measures["model_share"]["value"] == pytest.approx(by_model / USERS, abs=1e-3)
    for key in ("bleu", "rouge_l", "meteor", "distinct_2", "shapes", "passes_check", "faithful"):
        assert measures[key]["n"] == by_model, key
    assert measures["passes_check"]["value"] == 1
    assert measures["faithful"]["value"] > 0.8
    assert measures["reason_in_history"]["value"] == 1
    assert measures["closer_to_own"]["value"] > 0.5
    assert measures["closer_to_own_item"]["value"] > 0.6
    assert 0 < measures["profanity_mean"]["value"] < 0.5
    assert measures["texts_refused_again"]["value"] == 0
    assert measures["poster_ssim"]["n"] == 2
    assert 0 < measures["poster_ssim"]["value"] < 1
    assert measures["nsfw_largest"]["value"] < 0.4
    assert measures["speech_wer"]["n"] == 1
    assert measures["speech_wer"]["value"] < 0.5
    assert "2 posters" in measures["poster_frechet"]["not_measured"]
    text = report.read_text("utf-8")
    page = Page(text)
    assert not page.open
    sources = [value for _, attributes in page.found for name in ("src", "href") if (value := attributes.get(name))]
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert not re.search(r"""url\((?!#)|@import|<script""", text)
    assert all(attributes.get("alt") for tag, attributes in page.found if tag == "img")
    assert sum(tag == "audio" for tag, _ in page.found) == 1
    assert sum(tag == "img" and "poster" in (a.get("class") or "") for tag, a in page.found) == 2
    assert all(attributes.get("scope") for tag, attributes in page.found if tag == "th")
    ids = [attributes["id"] for _, attributes in page.found if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_same_again_gives_the_same(own: Deployment) -> None:
    one, other = (json.loads(evaluate(own, "--json", "--media", "1").stdout.splitlines()[-1]) for _ in range(2))
    assert one == other


def test_the_latest_ones_and_own_references(own: Deployment, tmp_path: Path) -> None:
    texts = own.read_json("contents")
    lines = [{"item_id": content["item_ids"][0], "text": content["text"]} for content in texts]
    file = tmp_path / "references.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in lines), "utf-8")
    done = evaluate(own, "--limit", "5", "--json", "--references", str(file))
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["contents"]["looked_at"] == 5
    assert found["contents"]["published"] == USERS
    assert "given in a file" in found["references"]
    if found["contents"]["by_source"].get("model"):
        assert found["measures"]["rouge_l"]["value"] == pytest.approx(1)
    assert "5" in found["measures"]["right_user_of_ten"]["not_measured"]


def test_what_is_not_there_is_not_measured(own: Deployment) -> None:
    lacking = ["triton.text_encoder=nobody", "triton.text_safety=nobody", "triton.image_safety=nobody"]
    flags = [part for setting in lacking for part in ("--set", setting)]
    # Another group has no outcomes, and another store is none of this deployment's media.
    flags += ["--set", "kafka.group_prefix=nobody", "--set", "media.store=memory://nothing"]
    done = evaluate(own, "--json", *flags)
    found = json.loads(done.stdout.splitlines()[-1])
    measures = found["measures"]
    for key, why in (
        ("closer_to_own", "nobody is not loaded"), ("profanity_mean", "nobody is not loaded"),
        ("triggers_ended_by_model", "no outcomes"), ("poster_ssim", "cannot be read"), ("speech_wer", "cannot be read"),
    ):  # fmt: skip
        assert why in measures[key]["not_measured"], key
    assert found["contents"]["media_unread"] == 3
    assert measures["faithful"]["n"] > 0


def test_as_a_table(own: Deployment) -> None:
    done = evaluate(own)
    assert "No unsupported fact" in done.stdout
    assert "not measured" in done.stdout


@pytest.mark.parametrize(
    ("line", "said"),
    [("nonsense", "line 1"), ('{"item_id": "alien"}', "line 1"), ('{"text": "x"}', "line 1"), ("[1]", "line 1")],
)
def test_bad_references_are_named_before_anything_is_read(
    own: Deployment, tmp_path: Path, line: str, said: str
) -> None:
    file = tmp_path / "references.jsonl"
    file.write_text(line, "utf-8")
    done = evaluate(own, "--references", str(file), code=2)
    assert said in done.stderr
    assert "reading" not in done.stderr


def test_a_topic_that_is_not_there(own: Deployment) -> None:
    done = evaluate(own, "--set", "kafka.topic_prefix=nowhere.", code=3)
    assert "nowhere.contents" in done.stderr
