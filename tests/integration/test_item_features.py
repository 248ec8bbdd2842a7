"""Fused features on a real Triton: every subset of the modalities, and what the fusion makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from media_files import image_file, sound_file
from media_files import picture as drawing
from media_files import tone as made_tone
from upwell.events.contracts import Item, Media
from upwell.inference.encode import TextEncoder
from upwell.inference.errors import InferenceRejected, InferenceUnavailable
from upwell.inference.features import Features, FusionEncoder, ItemInput
from upwell.inference.repository import loaded_as
from upwell.inference.speak import Speaker
from upwell.items.cleaning import clean_item
from upwell.items.reading import Reading
from upwell.local.paths import default_cache, models_dir
from upwell.local.stack import Stack
from upwell.media.prepare import Preparer
from upwell.settings import MediaSettings
from upwell.training import fusion, fusion_features, fusion_fit, fusion_runs, fusion_serve

pytestmark = pytest.mark.integration

MODELS = ("text_encoder", "image_encoder", "audio_encoder", "speech_recognizer", "item_features", "speech_synthesizer")


@pytest.fixture(scope="module")
def encoder(full_stack: Stack) -> Iterator[FusionEncoder]:
    client = FusionEncoder(full_stack.endpoints().triton)
    yield client
    client.close()


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)


def tone(hertz: float, rate: int, seconds: float = 1.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


ITEMS = [
    ItemInput("A red apple"),
    ItemInput("", images=picture(1)),
    ItemInput("", sound=tone(440, 44_100)),
    ItemInput("A pear", images=np.concatenate([picture(2), picture(3)]), sound=tone(220, 44_100, 2.5)),
    ItemInput("A fig", speech=np.zeros(16_000, np.float32)),
]
PRESENT = [{"text"}, {"image"}, {"audio"}, {"text", "image", "audio"}, {"text"}]


def test_items_with_any_of_the_modalities_share_a_call(encoder: FusionEncoder) -> None:
    found = encoder.encode(ITEMS)
    assert [set(features.weights) for features in found] == PRESENT
    for features in found:
        assert abs(float(np.linalg.norm(features.vector)) - 1) < 1e-5
        assert abs(sum(features.weights.values()) - 1) < 1e-5
        assert features.parts.keys() == features.weights.keys()
    assert len(found[1].perceived["labels"]) == 5
    assert "transcript" not in found[4].perceived


def test_an_item_of_words_alone_has_the_text_encoders_vector(encoder: FusionEncoder, full_stack: Stack) -> None:
    texts = TextEncoder(full_stack.endpoints().triton)
    try:
        (alone,) = encoder.encode([ItemInput("A red apple")])
        np.testing.assert_allclose(alone.vector, texts.encode(["A red apple"])[0], atol=1e-6)
    finally:
        texts.close()


def test_an_items_bits_do_not_depend_on_its_company(encoder: FusionEncoder) -> None:
    def bits(features: Features) -> list[bytes]:
        return [features.vector.tobytes(), *(features.parts[name].tobytes() for name in sorted(features.parts))]

    together = encoder.encode(ITEMS)
    for item, features in zip(ITEMS, together, strict=True):
        (alone,) = encoder.encode([item])
        assert bits(alone) == bits(features)


def test_a_call_of_many_items_is_cut(encoder: FusionEncoder) -> None:
    many = [ItemInput(f"Apple number {number}") for number in range(70)]
    vectors = np.stack([features.vector for features in encoder.encode(many)])
    assert vectors.shape == (70, 384)
    assert len(np.unique(vectors, axis=0)) == 70


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (ItemInput(""), "nothing of text, image, audio, speech is there"),
        (ItemInput("x", sound=np.full(44_100, np.nan, np.float32)), "not finite"),
        (ItemInput("x", sound=np.zeros(200 * 44_100, np.float32)), "at most 120 s"),
    ],
)
def test_what_cannot_be_encoded_is_refused_with_its_reason(encoder: FusionEncoder, item: ItemInput, words: str) -> None:
    with pytest.raises(InferenceRejected, match=words):
        encoder.encode([item])
    assert encoder.encode([ITEMS[0]])


def test_what_is_fused_follows_from_what_is_asked_for_and_other_encoders_need_not_be_there(
    encoder: FusionEncoder, full_stack: Stack
) -> None:
    triton = full_stack.endpoints().triton
    with loaded_as(triton, "item_features", "item_features_deaf", {"audio_encoder": "nobody"}) as name:
        seeing = FusionEncoder(triton, model=name, modalities=["image", "text"])
        hearing = FusionEncoder(triton, model=name)
        try:
            (found,) = seeing.encode([ITEMS[3]])
            assert set(found.weights) == {"text", "image"}
            assert seeing.model_version != encoder.model_version, "vectors of other modalities cannot be compared"
            assert seeing.encoders().versions.keys() == {"text", "image"}
            with pytest.raises(
                InferenceUnavailable, match=r"nobody does not answer; .* fuse without audio \(items.modalities\)"
            ):
                hearing.encode([ITEMS[0]])
            with pytest.raises(InferenceRejected, match="nothing of text, image is there"):
                seeing.encode([ITEMS[2]])
        finally:
            seeing.close()
            hearing.close()


def test_the_encoders_tell_what_the_vectors_are_made_of(encoder: FusionEncoder) -> None:
    encoders = encoder.encoders()
    (found,) = encoder.encode([ITEMS[3]])
    assert encoders.versions.keys() == set(fusion.MODALITIES)
    for name, vector in found.parts.items():
        assert sum(part["size"] for part in encoders.layout[name]) == len(vector)
    assert [part["scaled"] for part in encoders.layout["audio"]] == [False, True]


def test_a_fusion_of_fewer_modalities_says_which(full_stack: Stack, tmp_path: Path) -> None:
    text = (fusion.Part(384, shared=True),)
    layout = {"text": text, "speech": text, "image": (text[0], fusion.Part(1280)), "audio": (fusion.Part(1),)}
    trained = fusion.create("centred", layout, 384)
    folder = fusion_runs.keep(trained, tmp_path, {"encoders": {"text": None, "image": None}})
    name = fusion_serve.install(folder, full_stack.home / "triton" / "models")
    full_stack.start(models=[name])
    client, asks_more = (
        FusionEncoder(full_stack.endpoints().triton, model=name, modalities=asked)
        for asked in (["text", "image"], fusion.MODALITIES)
    )
    try:
        (found,) = client.encode([ITEMS[3]])
        assert set(found.weights) == {"text", "image"}
        with pytest.raises(
            InferenceRejected, match="audio, speech cannot be fused by this model: it was trained on text"
        ):
            asks_more.encode([ITEMS[3]])
    finally:
        client.close()
        asks_more.close()


def test_a_trained_fusion_is_served_beside_the_mean_and_weighs_as_it_learned(
    encoder: FusionEncoder, full_stack: Stack, tmp_path: Path
) -> None:
    import torch

    (mean,) = encoder.encode([ITEMS[3]])
    widths = {name: len(part) for name, part in mean.parts.items()}
    text = (fusion.Part(widths["text"], shared=True),)
    layout = {
        "text": text, "speech": text, "image": (fusion.Part(widths["text"], shared=True), fusion.Part(1280)),
        "audio": (fusion.Part(512), fusion.Part(60, scaled=True)),
    }  # fmt: skip
    trained = fusion.create("weighted", layout, widths["text"])
    with torch.no_grad():
        trained.logits.copy_(torch.tensor([0.0, 3.0, 0.0, 0.0]))
    folder = fusion_runs.keep(trained, tmp_path, {"encoders": {}})
    name = fusion_serve.install(folder, full_stack.home / "triton" / "models")
    assert fusion_serve.install(folder, full_stack.home / "triton" / "models") == name
    full_stack.start(models=[name])
    client = FusionEncoder(full_stack.endpoints().triton, model=name)
    try:
        (found,) = client.encode([ITEMS[3]])
        assert client.model_version == folder.name != encoder.model_version
        assert found.weights["image"] > 0.85
        assert {name: part.tobytes() for name, part in found.parts.items()} == {
            name: part.tobytes() for name, part in mean.parts.items()
        }
    finally:
        client.close()


def test_offline_and_served_vectors_of_a_trained_fusion_agree_in_every_modality(
    full_stack: Stack, tmp_path: Path
) -> None:
    import torch

    triton = full_stack.endpoints().triton
    speaker = Speaker(triton, timeout_s=60)
    speech = speaker.speak("This is a big red apple on the table.")
    speaker.close()
    pieces = {
        "picture": [("image", image_file("JPEG", drawing(320, 240)))],
        "sound": [("audio", sound_file("OGG", made_tone(2.0)))],
        "spoken": [("speech", sound_file("WAV", speech.audio / np.float32(32_768), speech.rate))],
        "words": [],
    }
    pieces["all"] = [piece for found in pieces.values() for piece in found]
    items = [
        Item(
            name, title="" if name == "picture" else f"A {name}", media=[Media(kind, data=data) for kind, data in found]
        )
        for name, found in pieces.items()
    ]
    settings = MediaSettings(decode_timeout_s=60)
    features = fusion_features.encode(items, models_dir(default_cache()), settings)
    assert features.counts() == {"text": 4, "image": 2, "audio": 3, "speech": 2}  # what is spoken is a sound, too

    trained = fusion.create("gated", features.layout, 384)
    with torch.no_grad():
        chance = torch.Generator().manual_seed(5)
        for weights in trained.parameters():
            weights.add_(0.05 * torch.randn(weights.shape, generator=chance))
    folder = fusion_runs.keep(trained, tmp_path, {"encoders": features.versions})
    name = fusion_serve.install(folder, full_stack.home / "triton" / "models")
    full_stack.start(models=[name])
    client = FusionEncoder(triton, model=name)
    reading = Reading(Preparer(settings), fusion.MODALITIES, 60)
    try:
        reading.begin()
        inputs = [found for found in reading([clean_item(item) for item in items]) if isinstance(found, ItemInput)]
        served = client.encode(inputs)
    finally:
        reading.close()
        client.close()
    offline = fusion_fit.vectors(fusion.load(folder), features)
    agreed = set()
    for row, (item_id, found) in enumerate(zip(features.items, served, strict=True)):
        there = {m for m, have in zip(fusion.MODALITIES, features.present[row], strict=True) if have}
        for modality in there & found.parts.keys():
            assert cosine(found.parts[modality], features.inputs[modality][row]) > 0.9999, (item_id, modality)
        if there == found.parts.keys():
            assert cosine(found.vector, offline[row]) > 0.9999, item_id
            agreed.add(item_id)
    # What a recogniser hears in a mere tone, if anything, depends on its number of threads.
    assert agreed >= pieces.keys() - {"sound"}


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
