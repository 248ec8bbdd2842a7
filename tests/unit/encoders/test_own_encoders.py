"""Encoders of the user's own, as folders and by name on the hub: what transformers makes of them, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from tiny_models import clip, sentence_encoder, vision_encoder
from upwell.training.served import module

TEXTS = ["horror film", "a comedy about love", "the war in space , directed by a comedy"]


@pytest.fixture(scope="module")
def text():
    return module("text_encoder", "encoder")


@pytest.fixture(scope="module")
def image():
    return module("image_encoder", "encoder")


def states(model, folder: Path, texts: list[str]) -> list[torch.Tensor]:
    """The last layer's of each text alone: [tokens, d]."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        return [model(input_ids=torch.tensor([tokenizer(text)["input_ids"]])).last_hidden_state[0] for text in texts]


def unit(rows) -> np.ndarray:
    return torch.nn.functional.normalize(torch.stack(list(rows)), dim=1).numpy()


@pytest.mark.parametrize("kind", ["bert", "roberta", "mistral"])
@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
def test_a_text_is_pooled_as_asked(kind, pooling, text, tmp_path):
    found = states(sentence_encoder(tmp_path, kind), tmp_path, TEXTS)
    expected = unit({"mean": s.mean(0), "first": s[0], "last": s[-1]}[pooling] for s in found)
    encoder = text.Encoder(str(tmp_path), "fp32", pooling=pooling)
    assert np.allclose(encoder.embed(TEXTS), expected, atol=1e-5)
    assert encoder.version.startswith(f"{tmp_path.name}-fp32" + ("@" if pooling == "mean" else f"-{pooling}@"))
    assert np.isfinite(encoder.embed(["", "film " * 500])).all()


def test_the_folder_says_how_it_is_pooled(text, tmp_path):
    found = states(sentence_encoder(tmp_path), tmp_path, TEXTS)
    (tmp_path / "1_Pooling").mkdir()
    about = tmp_path / "1_Pooling" / "config.json"
    about.write_text(json.dumps({"pooling_mode_cls_token": False, "pooling_mode_lasttoken": True}))
    encoder = text.Encoder(str(tmp_path), "fp32")
    assert np.allclose(encoder.embed(TEXTS), unit(s[-1] for s in found), atol=1e-5)
    about.write_text(json.dumps({"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}))
    with pytest.raises(ValueError, match="pools by cls_token, max_tokens"):
        text.Encoder(str(tmp_path))
    about.unlink()
    (tmp_path / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Dense"}]))
    with pytest.raises(ValueError, match=r"not known here: Dense in modules\.json"):
        text.Encoder(str(tmp_path))


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_the_towers_of_a_clip_share_a_space(kind, text, image, tmp_path):
    model = clip(tmp_path, kind)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    padding = {"padding": "max_length", "max_length": 64} if kind == "siglip" else {}
    pictures = np.random.default_rng(1).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    read, seen = text.Encoder(str(tmp_path), "fp32"), image.Encoder(str(tmp_path))
    with torch.inference_mode():
        ids = [torch.tensor([tokenizer(one, **padding)["input_ids"]]) for one in TEXTS]
        texts = unit(model.get_text_features(input_ids=one).pooler_output[0] for one in ids)
        pixels = seen._model._processor(images=list(pictures), return_tensors="pt")["pixel_values"]
        joint = unit(model.get_image_features(pixel_values=pixels).pooler_output)
    assert np.allclose(read.embed(TEXTS), texts, atol=1e-5)
    assert np.allclose(seen.embed(pictures)["JOINT"], joint, atol=1e-5)
    assert read.version.partition("@")[2] == seen.version.partition("@")[2], "one model in two places"
    with pytest.raises(ValueError, match="leave pooling empty"):
        text.Encoder(str(tmp_path), pooling="mean")


def test_a_picture_without_a_pooler_is_its_first_token(image, tmp_path):
    model = vision_encoder(tmp_path, pooler=False)
    picture = np.random.default_rng(2).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    encoder = image.Encoder(str(tmp_path))
    pixels = encoder._model._processor(images=picture, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        expected = unit(model(pixel_values=pixels).last_hidden_state[:, 0])
    assert np.allclose(encoder.embed([picture])["EMBEDDING"], expected, atol=1e-5)


def test_a_picture_in_another_precision_is_another_version(image, tmp_path):
    vision_encoder(tmp_path)
    picture = np.random.default_rng(3).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    full, half = image.Encoder(str(tmp_path)), image.Encoder(str(tmp_path), variant="bf16")
    cosine = (full.embed([picture])["EMBEDDING"] * half.embed([picture])["EMBEDDING"]).sum()
    assert 0.99 < cosine < 1
    assert half.version == full.version.replace("@", "-bf16@")


def test_pickles_are_refused(text, image, tmp_path):
    torch.save(sentence_encoder(tmp_path).state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"pytorch_model\.bin: pickles run code .* Only safetensors are read"):
        text.Encoder(str(tmp_path))
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(ValueError, match="holds no weights"):
        text.Encoder(str(tmp_path))


def test_what_is_no_model_is_said(text, tmp_path):
    with pytest.raises(FileNotFoundError, match="No model in"):
        text.Encoder(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "perceptron9"}))
    with pytest.raises(ValueError, match="perceptron9"):
        text.Encoder(str(tmp_path))


def test_code_of_a_folder_is_not_run(text, tmp_path):
    sentence_encoder(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    mark = tmp_path / "was-run"
    (tmp_path / "own.py").write_text(f"open({str(mark)!r}, 'w')\n")
    config |= {"model_type": "own9", "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="trust_remote_code"):
        text.Encoder(str(tmp_path))
    assert not mark.exists()


def test_a_name_on_the_hub_is_found_in_its_cache(text, tmp_path, monkeypatch):
    """As the hub's own library lays it out; a machine without a network asks nobody."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    repository, commit = tmp_path / "models--someone--tiny-bert", "0123456789abcdef0123456789abcdef01234567"
    sentence_encoder(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    for reference in ("main", "v2"):
        (repository / "refs" / reference).write_text(commit)
    found = text.Encoder("someone/tiny-bert")
    assert found.version.startswith("tiny-bert@")
    assert found.version == text.Encoder("someone/tiny-bert@v2").version
    shutil.rmtree(repository)
    with pytest.raises(FileNotFoundError, match="someone/tiny-bert is not on this machine, and the hub"):
        text.Encoder("someone/tiny-bert")
