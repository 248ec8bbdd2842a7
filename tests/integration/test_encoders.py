"""The encoders of pictures, sounds and speech, and the text encoder's variants: what they answer, and what they refuse."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

from tiny_models import clip, vision_encoder
from upwell.inference.encode import TextEncoder
from upwell.inference.errors import InferenceRejected, InferenceUnavailable, ModelChanged
from upwell.inference.image import ImageEncoder
from upwell.inference.repository import load_as, loaded_as, unload
from upwell.inference.sound import AudioEncoder, SpeechRecognizer
from upwell.inference.speak import Speaker

pytestmark = pytest.mark.integration

MODELS = (
    "text_encoder",
    "text_encoder_int8",
    "image_encoder",
    "audio_encoder",
    "speech_recognizer",
    "speech_synthesizer",
)

SAID = "The quick brown fox jumps over the lazy dog."


@pytest.fixture(scope="module")
def url(full_stack):
    return full_stack.endpoints().triton


@pytest.fixture
def image(url):
    client = ImageEncoder(url)
    yield client
    client.close()


@pytest.fixture
def audio(url):
    client = AudioEncoder(url)
    yield client
    client.close()


@pytest.fixture
def speech(url):
    client = SpeechRecognizer(url)
    yield client
    client.close()


def picture(name: str) -> np.ndarray:
    """One of scikit-image's pictures, its middle as uint8 [224, 224, 3]."""
    from PIL import Image, ImageOps
    from skimage import data

    return np.asarray(ImageOps.fit(Image.fromarray(getattr(data, name)()).convert("RGB"), (224, 224)))


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 224, 224, 3), dtype=np.uint8)


def tone(hertz: float, seconds: float) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(int(44_100 * seconds)) / 44_100).astype(np.float32)


@pytest.fixture(scope="module")
def spoken(url) -> np.ndarray:
    """`SAID` by the speech synthesizer: float32 [samples] at 16 kHz."""
    import soxr

    speaker = Speaker(url)
    said = speaker.speak(SAID)
    speaker.close()
    return soxr.resample(said.audio.astype(np.float32) / 32_768, said.rate, 16_000).astype(np.float32)


def test_a_picture_gets_its_name(image):
    seen = image.encode(np.stack([picture("coffee"), picture("cat")]))
    assert seen.labels[0][0] == "espresso"
    assert {"Egyptian Mau", "tabby cat"} & set(seen.labels[1][:3])
    assert seen.probabilities.shape == (2, 5)
    assert (np.diff(seen.probabilities, axis=1) <= 0).all()
    assert seen.embedding.shape == (2, 1280)
    assert seen.embedding.dtype == np.float32
    for vectors in (seen.embedding, seen.joint):
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert image.model_version.startswith("efficientnet-lite0@")


def test_pictures_and_texts_share_a_space(image, url):
    texts = TextEncoder(url)
    meanings = texts.encode(["a cup of strong coffee", "a cat with stripes", "a space rocket"])
    texts.close()
    joint = image.encode(np.stack([picture("coffee"), picture("cat"), picture("rocket")])).joint
    assert (joint @ meanings.T).argmax(axis=1).tolist() == [0, 1, 2]


def test_a_pictures_numbers_do_not_depend_on_its_batch(image):
    pictures = noise(21)
    together, backwards = image.encode(pictures), image.encode(pictures[::-1])
    alone = [image.encode(one[None]) for one in pictures[:5]]
    for name in ("embedding", "joint", "probabilities"):
        values = getattr(together, name)
        assert np.array_equal(values, getattr(backwards, name)[::-1])
        assert np.array_equal(values[:5], np.concatenate([getattr(one, name) for one in alone]))
    assert together.labels == backwards.labels[::-1]


@pytest.mark.parametrize(
    "wrong", [np.zeros((1, 100, 100, 3), np.uint8), np.zeros((0, 224, 224, 3), np.uint8), np.zeros((1, 224, 224, 3))]
)
def test_what_is_no_picture_is_refused(image, wrong):
    with pytest.raises(InferenceRejected, match=r"takes uint8 \[n, 224, 224, 3\]"):
        image.encode(wrong)


def test_triton_itself_refuses_another_shape(url):
    with triton.InferenceServerClient(url) as server:
        given = triton.InferInput("IMAGE", [1, 100, 100, 3], "UINT8")
        given.set_data_from_numpy(np.zeros((1, 100, 100, 3), np.uint8))
        with pytest.raises(InferenceServerException, match="unexpected shape"):
            server.infer("image_encoder", [given])


def test_sounds_are_told_apart(audio):
    rain = np.random.default_rng(1).normal(0, 0.1, 44_100 * 3).astype(np.float32)
    low, higher, hiss = audio.encode([tone(220, 3), tone(233, 4), rain])
    assert low.embedding.shape == (512,)
    assert low.mfcc.shape == (60,)
    assert np.isclose(np.linalg.norm(low.embedding), 1, atol=1e-5)
    assert low.embedding @ higher.embedding > low.embedding @ hiss.embedding + 0.1
    assert audio.model_version.startswith("aisfx@")
    assert audio.encode([]) == []


def test_a_sounds_numbers_do_not_depend_on_its_batch(audio):
    sounds = [tone(100 + 50 * i, 0.02 + 0.7 * i) for i in range(12)]
    together = audio.encode(sounds)
    alone = [audio.encode([sound])[0] for sound in sounds]
    for one, other in zip(together, alone, strict=True):
        assert np.array_equal(one.embedding, other.embedding)
        assert np.array_equal(one.mfcc, other.mfcc)


def test_silence_is_a_sound(audio):
    (heard,) = audio.encode([np.zeros(44_100, np.float32)])
    assert np.isfinite(heard.embedding).all()
    assert np.isfinite(heard.mfcc).all()


@pytest.mark.parametrize(
    ("sound", "why"),
    [
        (np.zeros(100, np.float32), "AUDIO has 100 samples: at least 441"),
        (np.zeros(44_100 * 121, np.float32), "AUDIO is 121.0 s long at 44100 Hz: at most 120 s"),
        (np.full(44_100, np.nan, np.float32), "not finite"),
        (np.zeros((2, 44_100), np.float32), r"float32 \[samples\], mono"),
    ],
)
def test_what_is_no_sound_is_refused(audio, sound, why):
    with pytest.raises(InferenceRejected, match=why):
        audio.encode([sound])


def test_a_sentence_is_recognised(speech, spoken):
    (found,) = speech.recognize([spoken])
    words = "".join(letter for letter in found.text.lower() if letter.isalpha() or letter == " ").split()
    assert len(set(words) & set(SAID.lower().rstrip(".").split())) >= 7, found
    assert found.language == "en"
    assert found.no_speech < 0.5
    assert speech.recognize([spoken])[0] == found
    assert speech.model_version.startswith("whisper-tiny.en@")


def test_recordings_of_any_length_are_recognised_together(speech, spoken):
    silence = np.zeros(16_000, np.float32)
    hiss = np.random.default_rng(2).normal(0, 0.05, 40_000).astype(np.float32)
    found = speech.recognize([spoken, silence, spoken[: len(spoken) // 2], hiss])
    assert "fox" in found[0].text
    assert (found[1].text, found[1].no_speech) == ("", 1.0)
    assert 0 < len(found[2].text) < len(found[0].text)
    assert found[3].text == ""
    assert speech.recognize([]) == []


@pytest.mark.parametrize(
    ("recording", "why"),
    [
        (np.zeros(99, np.float32), r"at least 1600 \(0.1 s at 16000 Hz\)"),
        (np.zeros(16_000 * 31, np.float32), "at most 30 s"),
        (np.full(16_000, np.inf, np.float32), "not finite"),
    ],
)
def test_what_is_no_recording_is_refused(speech, recording, why):
    with pytest.raises(InferenceRejected, match=why):
        speech.recognize([recording])


def test_a_refused_row_costs_its_neighbours_nothing(speech, audio, spoken):
    """Sent together and batched by Triton: only the bad one fails."""
    errors: list[str] = []

    def one(recording):
        try:
            return speech.recognize([recording])[0].text
        except InferenceRejected as error:
            errors.append(str(error))
            return None

    found = speech.client.map(one, [spoken, np.full(16_000, np.nan, np.float32), spoken])
    assert found[0] == found[2] != ""
    assert found[1] is None
    assert len(errors) == 1


TEXTS = [
    f"{kind} number {i}: " + "a story about a family and a war " * (i % 5)
    for i in range(20)
    for kind in ("Film", "Book")
]


def test_8_bits_mean_the_same(url):
    full, small = TextEncoder(url), TextEncoder(url, model="text_encoder_int8")
    cosines = (full.encode(TEXTS) * small.encode(TEXTS)).sum(axis=1)
    assert cosines.mean() >= 0.985
    assert small.model_version.startswith("all-MiniLM-L6-v2-int8@")
    assert small.model_version != full.model_version
    together, backwards = small.encode(TEXTS), small.encode(TEXTS[::-1])[::-1]
    assert np.array_equal(together, backwards)
    assert np.array_equal(together[:3], np.concatenate([small.encode([text]) for text in TEXTS[:3]]))
    assert np.isfinite(small.encode(["", "\x00\ud800", "long " * 50_000, "漢字 🙂"])).all()
    full.close()
    small.close()


def test_full_precision_is_a_parameter(url, prefix):
    half = TextEncoder(url)
    with loaded_as(url, "text_encoder", f"{prefix}fp32", {"variant": "fp32"}) as name:
        full = TextEncoder(url, model=name)
        assert (half.encode(TEXTS) * full.encode(TEXTS)).sum(axis=1).min() >= 0.999
        assert full.model_version == half.model_version.replace("@", "-fp32@")
        full.close()
    half.close()


def test_an_unknown_variant_is_named(url, prefix):
    with pytest.raises(InferenceUnavailable, match="variant is 'int3': bf16, fp16, fp32, int8 are possible"):
        load_as(url, "text_encoder", f"{prefix}bad", {"variant": "int3"})


def test_any_hugging_face_vision_encoder_can_be_served(url, prefix, tmp_path):
    name, versions, clients = f"{prefix}vit", [], []
    for seed in (1, 2):
        folder = tmp_path / f"tiny-vit-{seed}"
        vision_encoder(folder, seed)
        tmp_path.chmod(0o755)
        load_as(url, "image_encoder", name, {"model_dir": str(folder)})
        clients.append(ImageEncoder(url, model=name))
        seen = clients[-1].encode(noise(3))
        assert seen.embedding.shape == (3, 32)
        assert np.allclose(np.linalg.norm(seen.embedding, axis=1), 1, atol=1e-5)
        assert seen.joint.shape == (3, 0)
        assert seen.labels == [[], [], []]
        versions.append(clients[-1].model_version)
    with pytest.raises(ModelChanged, match="tiny-vit-2"):
        clients[0].encode(noise(1))
    for client in clients:
        client.close()
    unload(url, name)
    assert versions[0].startswith("tiny-vit-1@")
    assert versions[0] != versions[1]


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_any_clip_can_be_served(kind, url, prefix, tmp_path):
    """Its towers in two models: a picture and a text are compared as in the model itself."""
    import torch
    from transformers import AutoTokenizer
    from transformers.models.auto.image_processing_auto import AutoImageProcessor

    model, pictures = clip(tmp_path, kind), noise(2)
    processor = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    padding = {"padding": "max_length", "max_length": 64} if kind == "siglip" else {}
    ids = AutoTokenizer.from_pretrained(tmp_path)(["horror film"], return_tensors="pt", **padding)["input_ids"]
    with torch.inference_mode():
        pixels = processor(images=list(pictures), return_tensors="pt")["pixel_values"]
        found = model(input_ids=ids, pixel_values=pixels)
    own = {"model_dir": str(tmp_path), "variant": "fp32"}
    with (
        loaded_as(url, "image_encoder", f"{prefix}{kind}_image", own) as sees,
        loaded_as(url, "text_encoder", f"{prefix}{kind}_text", own) as reads,
    ):
        images, texts = ImageEncoder(url, model=sees), TextEncoder(url, model=reads)
        seen, read = images.encode(pictures), texts.encode(["horror film"])
        images.close()
        texts.close()
    assert seen.embedding.shape == (2, 32)
    assert seen.labels == [[], []]
    assert np.allclose(seen.joint @ read.T, (found.image_embeds @ found.text_embeds.T).numpy(), atol=1e-4)


def test_any_image_classifier_can_be_served(url, prefix, tmp_path):
    names = [f"kind {i}" for i in range(7)]
    vision_encoder(tmp_path, 6, names=names)
    with loaded_as(url, "image_encoder", f"{prefix}classifier", {"model_dir": str(tmp_path)}) as name:
        client = ImageEncoder(url, model=name)
        seen = client.encode(noise(2))
        client.close()
    assert seen.embedding.shape == (2, 32)
    assert [len(row) for row in seen.labels] == [5, 5]
    assert set(seen.labels[0]) <= set(names)


def test_a_missing_folder_is_named(url, prefix):
    with pytest.raises(InferenceUnavailable, match=r"No model in nowhere"):
        load_as(url, "image_encoder", f"{prefix}nowhere", {"model_dir": "./nowhere"})


def test_the_bench_compares_triton_with_the_model_itself(url):
    command = "bench encoders --only image_encoder --rounds 1 --seconds 0.1 --json --url".split()
    done = subprocess.run(
        [sys.executable, "-m", "upwell.cli.main", *command, url], capture_output=True, text=True, check=False
    )
    assert done.returncode in {0, 1}, done.stderr  # 1: slower than it should be, which no test may say
    report = json.loads(done.stdout)
    (row,) = report["encoders"]
    assert (row["name"], row["variant"]) == ("image_encoder", "fp32")
    assert row["direct_per_s"] > 0
    assert row["ratio"] == pytest.approx(row["triton_per_s"] / row["direct_per_s"], rel=0.01)
    assert row["cosine"] == pytest.approx(1, abs=1e-5)
    assert {"cpu", "cores", "int8", "bf16", "load"} <= set(report["machine"])
    assert set(report["targets"]) == {"image_encoder fp32: ratio >= 0.9"}
