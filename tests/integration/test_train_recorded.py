"""Training on what a running deployment has recorded, and the switch to what came out of it, on the real stack."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from stream import START_MS, Stream, assert_numbering, rankings, total
from support import eventually
from upwell.bus.topics import Topic
from upwell.evaluation.made_items import made_items
from upwell.evaluation.recorded import Stretch, recorded
from upwell.events.contracts import Interaction, Item
from upwell.items.worker import connect
from upwell.local.paths import default_cache, models_dir
from upwell.local.stack import Stack
from upwell.training import conditions, fusion, fusion_features, fusion_fit
from upwell.training.fusion_recorded import stored_features

pytestmark = pytest.mark.integration

MODELS = ("text_encoder", "image_encoder", "item_features")
SEEN = ["text", "image"]
USERS, GROUPS = 30, 4
WAIT_S = 240


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    folder.mkdir()
    return folder


@pytest.fixture
def stream(full_stack: Stack, prefix: str, media: Path, tmp_path: Path) -> Iterator[Stream]:
    made = Stream(
        full_stack, prefix, items={"modalities": SEEN}, profiles={"flush_ms": 100},
        media={"roots": [str(media)], "store": f"file://{tmp_path}/store", "decode_timeout_s": 60},
    )  # fmt: skip
    try:
        yield made
    finally:
        made.close()


def upwell(stream: Stream, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("UPWELL_") or k == "UPWELL_CACHE"}
    command = [sys.executable, "-m", "upwell.cli.main", *arguments]
    return subprocess.run(
        command, env=environment | stream.environment, capture_output=True, text=True, timeout=300, check=False
    )


def some_events(stream: Stream, ids: list[str], count: int, start: int = 0) -> None:
    """Users who click on items of one group, most of the time."""
    rng = np.random.default_rng(start)
    for number in range(start, start + count):
        user = int(rng.integers(USERS))
        row = int(rng.integers(len(ids) // GROUPS)) * GROUPS + user % GROUPS
        stream.event(number, f"u{user}", ids[row if rng.random() < 0.8 else int(rng.integers(len(ids)))])
    stream.flush()


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_recorded_interactions_are_valid_and_counted_once(stream: Stream) -> None:
    for number in range(20):
        stream.event(number, f"u{number % 3}", f"i{number % 5}")
    stream.event(3, "u0", "i3")  # again
    stream.event(3, "u7", "i3")  # another user's event of the same id
    stream.send(Topic.INTERACTIONS, "u1", b"not an event")
    stream.send(Topic.INTERACTIONS, "u1", Interaction("e99", "u1", "no such type", START_MS, "i1"))
    stream.send(Topic.INTERACTIONS, "u1", Interaction("e100", "u1", "rank_request", START_MS))
    stream.flush()
    found = recorded(stream.settings)
    assert (len(found.events), found.read, found.refused, found.repeats) == (21, 25, 2, 1)
    assert {(event.user_id, event.event_id) for event in found.events} == {
        *((f"u{number % 3}", f"e{number}") for number in range(20)), ("u7", "e3"),
    }  # fmt: skip

    logged = sorted(message.timestamp()[1] for message in stream.read(Topic.INTERACTIONS))
    cut = logged[-1] + 1
    assert recorded(stream.settings, Stretch(since_ms=cut)).events == []
    assert len(recorded(stream.settings, Stretch(until_ms=cut)).events) == 21
    eventually(lambda: _later(stream, cut))
    for number in range(200, 210):
        stream.event(number, "u1", "i1")
    stream.flush()
    later = {f"e{number}" for number in range(200, 210)}
    assert {event.event_id for event in recorded(stream.settings, Stretch(since_ms=cut)).events} >= later
    assert {event.event_id for event in recorded(stream.settings, Stretch(last=4)).events} < later
    assert not later & {event.event_id for event in recorded(stream.settings, Stretch(until_ms=cut)).events}


def _later(stream: Stream, than_ms: int) -> bool:
    """Whether the broker's clock is beyond a time: it takes an event to see."""
    stream.event(199, "u1", "i1")
    stream.flush()
    return max(message.timestamp()[1] for message in stream.read(Topic.INTERACTIONS)) >= than_ms


def test_what_cannot_be_trained_on_is_said(stream: Stream) -> None:
    train = ("train", "fusion", "--dataset", "recorded", "--strategy", "centred")
    none = upwell(stream, *train)
    assert (none.returncode, "there are no items yet" in none.stderr) == (2, True), none.stderr
    for number in range(3):
        stream.send(Topic.ITEMS, f"i{number}", Item(f"i{number}", title=f"Thing {number}", ts=1))
    stream.flush()
    with stream.worker("items"):
        stream.drained("items", Topic.ITEMS, timeout=WAIT_S)
    words = upwell(stream, *train)
    assert (words.returncode, "have nothing but text stored" in words.stderr) == (2, True), words.stderr
    alone = upwell(stream, *train, "--set", 'items.modalities=["text"]')
    assert (alone.returncode, "there is nothing to fuse" in alone.stderr) == (2, True), alone.stderr
    away = upwell(stream, *train, "--set", "triton.item_features=nobody")
    assert away.returncode == 3, away.stderr
    wrong = upwell(stream, "train", "fusion", "--last", "5")
    assert (wrong.returncode, "--dataset recorded" in wrong.stderr) == (2, True), wrong.stderr
    when = upwell(stream, *train, "--from", "yesterday")
    assert (when.returncode, "ISO 8601" in when.stderr) == (2, True), when.stderr


def test_from_recorded_events_to_rankings_by_the_trained_fusion(
    stream: Stream, full_stack: Stack, media: Path, tmp_path: Path
) -> None:
    made = list(made_items(40, media, seed=3))
    twin = Item("twin", title=made[0].title, description=made[0].description, categories=made[0].categories)
    ids = [item.item_id for item in made]
    for item in [*made, twin]:
        item.ts = 1
        stream.send(Topic.ITEMS, item.item_id, item)
    stream.flush()
    with stream.worker("items"), stream.worker("interactions"), stream.reading(Topic.RANKINGS) as log:
        stream.drained("items", Topic.ITEMS, timeout=WAIT_S)
        few = upwell(stream, "train", "fusion", "--dataset", "recorded")
        assert (few.returncode, "too few to learn from" in few.stderr) == (2, True), few.stderr
        some_events(stream, ids, 900)
        log.until(lambda found: total(found) == 900)
        before = stored_features(stream.settings)
        assert before.counts() == {"text": 41, "image": 40, "audio": 0, "speech": 0}

        trained = upwell(
            stream, "train", "fusion", "--dataset", "recorded", "--strategy", "concat,gated", "--epochs", "2",
            "--out", str(tmp_path / "models"), "--repository", str(full_stack.home / "triton" / "models"), "--json",
        )  # fmt: skip
        assert trained.returncode == 0, trained.stderr
        report = json.loads(trained.stdout.strip().splitlines()[-1])
        assert report["strategies"].keys() == {"mean", "centred", "concat", "gated"}
        assert report["encoders"] == before.versions
        version = report["version"]
        (served_as,) = re.findall(r" as (item_features_\w+): load it", trained.stderr)
        full_stack.start(models=[served_as])

        mark = dict(stream.rows("SELECT item_id, perceived->>'duplicate_of' FROM items"))
        assert mark["twin"] == ids[0]
        prepared = upwell(stream, "models", "prepare", served_as)
        assert prepared.returncode == 0, prepared.stderr
        some_events(stream, ids, 60, 900)
        switched = upwell(stream, "models", "switch", version, "--wait", str(WAIT_S))
        assert switched.returncode == 0, switched.stderr
        some_events(stream, ids, 60, 960)
        eventually(lambda: stream.rows("SELECT DISTINCT model_version FROM profiles") == [(version,)], WAIT_S)
        for user in range(USERS):
            stream.event(2000 + user, f"u{user}", ids[user])
        stream.flush()
        records = log.until(lambda found: total(found) == 1020 + USERS)

    by_user = rankings(records)
    assert_numbering(by_user)
    assert {published[-1].model_version for published in by_user.values()} == {version}
    assert len({ranking.model_version for published in by_user.values() for ranking in published}) == 2
    assert dict(stream.rows("SELECT item_id, perceived->>'duplicate_of' FROM items")) == mark
    assert stream.rows("SELECT DISTINCT model_version FROM item_modalities") == [(version,)]
    after = stored_features(stream.settings)
    for name in fusion.MODALITIES:
        np.testing.assert_array_equal(after.inputs[name], before.inputs[name])

    # What is published is what the model gives that was trained, and what the encoders give outside of Triton.
    model = fusion.load(tmp_path / "models" / version)
    latest = {found["item_id"]: found for found in stream.read_json(Topic.ITEM_FEATURES)}
    vectors = np.stack([np.frombuffer(base64.b64decode(latest[item]["vector"]), "<f4") for item in after.items])
    assert {found["model_version"] for found in latest.values()} == {version}
    assert cosines(vectors, fusion_fit.vectors(model, after)).min() > 0.99999
    settings = stream.settings.media
    offline = fusion_features.encode([*made[:6], twin], models_dir(default_cache()), settings)
    with torch.inference_mode():
        again = fusion_fit.vectors(model, _of(offline, after))
    rows = [after.items.index(item) for item in offline.items]
    assert cosines(again, vectors[rows]).min() > 0.9999

    client = connect(stream.settings, served_as)
    assert client.model_version == version
    client.close()
    written = upwell(stream, "models", "vectors", str(tmp_path / "fused.safetensors"))
    assert written.returncode == 0, written.stderr
    told = conditions.read(tmp_path / "fused.safetensors", after.items)
    np.testing.assert_array_equal(told, vectors)


def _of(offline: fusion_features.Features, served: fusion_features.Features) -> fusion_features.Features:
    """The same features in the layout that two encoders have, where four made them."""
    inputs = {
        name: offline.inputs[name]
        if name in SEEN
        else np.zeros((len(offline.items), served.inputs[name].shape[1]), "f4")
        for name in fusion.MODALITIES
    }
    present = offline.present & np.array([name in SEEN for name in fusion.MODALITIES])
    return fusion_features.Features(offline.items, inputs, present, served.layout, served.versions)
