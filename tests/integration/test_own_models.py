"""Models of one's own by settings alone, as a user brings them along: `upwell up` serves them, and follows a change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tiny_models import clip, language_model, sentence_encoder, vision_encoder
from upwell.inference.encode import TextEncoder
from upwell.inference.features import FusionEncoder, ItemInput
from upwell.inference.generate import TextGenerator
from upwell.inference.image import ImageEncoder
from upwell.inference.repository import served
from upwell.local.stack import Stack

pytestmark = pytest.mark.integration

Up = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"
    Stack(tmp_path / "home").wipe()


@pytest.fixture
def up(home: Path, tmp_path: Path) -> Up:
    """`upwell up` of Triton alone, with these settings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("UPWELL_MODELS__")}
    environment |= {"UPWELL_HOME": str(home)}

    def run(settings: str, *models: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "own.toml").write_text(settings)
        command = [sys.executable, "-m", "upwell.cli.main", "up", "--services", "triton", "--json"]
        command += ["--config", str(tmp_path / "own.toml"), *(f"--model={name}" for name in models)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=280)

    return run


def encoder_version(url: str, model: str) -> str:
    client = TextEncoder(url, model=model)
    version = client.model_version
    client.close()
    return version


def test_settings_serve_models_of_every_kind_and_follow_a_change(up: Up, tmp_path: Path) -> None:
    sentence_encoder(tmp_path / "reader", "roberta")
    clip(tmp_path / "both")
    vision_encoder(tmp_path / "seer")
    language_model(tmp_path / "writer", "gpt_neox")
    first = f"""
        [models.text_encoder]
        source = "{tmp_path}/both"
        dtype = "fp32"
        [models.image_encoder]
        source = "{tmp_path}/both"
        [models.reader]
        like = "text_encoder"
        source = "{tmp_path}/reader"
        pooling = "first"
        [models.text_generator]
        source = "{tmp_path}/writer"
        dtype = "fp16"
    """
    done = up(first, "text_encoder", "image_encoder", "item_features", "reader", "text_generator")
    assert done.returncode == 0, done.stderr
    url = json.loads(done.stdout)["endpoints"]["triton"]
    assert encoder_version(url, "text_encoder").startswith("both-fp32@")
    assert encoder_version(url, "reader").startswith("reader-first@")
    images, writer = ImageEncoder(url), TextGenerator(url)
    assert images.model_version.startswith("both@")
    assert writer.model_version.startswith("writer-fp16@")
    assert writer.generate(["horror"], max_tokens=4)[0].tokens <= 4
    fused = FusionEncoder(url, modalities=("text", "image"))
    picture = np.random.default_rng(1).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    read, seen = fused.encode([ItemInput("horror film"), ItemInput("", picture)])
    assert read.vector.shape == seen.vector.shape == (16,), "the space of the CLIP-like model"
    assert np.allclose(read.parts["text"], read.vector, atol=1e-5)
    for client in (images, writer, fused):
        client.close()

    second = f"""
        [models.text_encoder]
        source = "{tmp_path}/reader"
        [models.image_encoder]
        source = "{tmp_path}/seer"
        dtype = "bf16"
    """
    done = up(second, "text_encoder", "image_encoder")
    assert done.returncode == 0, done.stderr
    assert encoder_version(url, "text_encoder").startswith("reader@")
    images = ImageEncoder(url)
    assert images.model_version.startswith("seer-bf16@")
    images.close()
    assert not served(url, "reader"), "it has no table any more"

    done = up("", "text_encoder")
    assert done.returncode == 0, done.stderr
    assert encoder_version(url, "text_encoder").startswith("all-MiniLM-L6-v2@"), "as packaged"


def test_a_source_that_cannot_be_served_is_said(up: Up, tmp_path: Path) -> None:
    import torch

    torch.save(sentence_encoder(tmp_path / "pickled").state_dict(), tmp_path / "pickled" / "pytorch_model.bin")
    (tmp_path / "pickled" / "model.safetensors").unlink()
    done = up(f'[models.text_encoder]\nsource = "{tmp_path}/pickled"', "text_encoder")
    assert done.returncode == 3
    assert "pytorch_model.bin: pickles run code when they are loaded" in done.stderr
    done = up('[models.text_encoder]\nsource = "./nowhere"', "text_encoder")
    assert (done.returncode, "models.text_encoder.source = ./nowhere: No model in" in done.stderr) == (2, True)
