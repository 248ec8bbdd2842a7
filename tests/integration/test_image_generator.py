"""The served picture generators: not loaded unasked, a clear word where there are none, and the pictures of training."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from google.protobuf import json_format, text_format
from tritonclient import grpc as triton
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import InferenceServerException

from upwell.inference.errors import InferenceRejected
from upwell.inference.generate_image import ImageGenerator
from upwell.local.paths import triton_models
from upwell.local.stack import Stack
from upwell.local.triton import Triton
from upwell.training import painter
from upwell.training.painter import Painter, Shape

pytestmark = pytest.mark.integration

WIDTH = 24


@pytest.fixture(scope="module")
def url():
    """A Triton with no model loaded."""
    home = Path(tempfile.gettempdir()) / f"upwell-test-{os.getpid()}-{secrets.token_hex(4)}"
    stack = Stack(home, ephemeral=True)
    try:
        stack.start(("triton",), models=[])
        yield stack.endpoints().triton
    finally:
        stack.stop()
        stack.wipe()


def load(url: str, folder: Path) -> None:
    """Load the model with the generators of a folder."""
    text = (triton_models() / "image_generator" / "config.pbtxt").read_text()
    config = json_format.MessageToDict(
        text_format.Parse(text, model_config_pb2.ModelConfig()), preserving_proto_field_name=True
    )
    config["parameters"]["model_dir"] = {"string_value": str(folder)}
    with triton.InferenceServerClient(url) as server:
        server.load_model("image_generator", config=json.dumps(config), client_timeout=120)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Painter:
    """A VAE's painter, as `upwell train vae` would write it, but small and untrained; and no GAN."""
    folder = tmp_path_factory.mktemp("generators")
    folder.parent.chmod(0o755)
    folder.chmod(0o755)
    torch.manual_seed(3)
    model = Painter(Shape(WIDTH, axes=8, latent=4, widths=(16, 8, 8, 8)))
    model.look_at(conditions(40))
    model.version = painter.save(model, folder / "vae.safetensors", "stamps-vae", "vae")
    model.folder = folder
    return model.eval()


@pytest.fixture
def client(url, trained):
    load(url, trained.folder)
    made = ImageGenerator(url)
    yield made
    made.close()


def conditions(n: int) -> np.ndarray:
    return np.random.default_rng(n).standard_normal((n, WIDTH)).astype(np.float32)


def test_it_is_loaded_by_name_only(tmp_path):
    server = Triton(tmp_path, tmp_path, {}, wanted=None, shared_memory_prefix="")
    for name in ("image_generator", "text_encoder"):
        (server.repository / name).mkdir(parents=True)
        (server.repository / name / "config.pbtxt").touch()
    assert server.wanted() == ["text_encoder"]
    server = Triton(tmp_path, tmp_path, {}, wanted=["image_generator"], shared_memory_prefix="")
    assert server.wanted() == ["image_generator"]


def test_without_generators_it_says_how_to_make_one(url, tmp_path):
    with pytest.raises(InferenceServerException, match=r"No picture generator is in .*`upwell train vae` or"):
        load(url, tmp_path)


def test_what_is_served_is_what_was_trained(client, trained):
    told = conditions(20)
    found = client.paint(told, range(20), "vae")
    assert found.version == trained.version
    assert found.images.dtype == np.uint8
    assert found.images.shape == (20, 64, 64, 3)
    expected = painter.sample(trained, told, range(20))
    assert np.abs(found.images.astype(int) - expected.astype(int)).max() <= 1


def test_a_picture_is_its_condition_and_seed_alone(client):
    told = conditions(5)
    together = client.paint(told, range(5), "vae").images
    alone = np.concatenate([client.paint(told[i : i + 1], [i], "vae").images for i in range(5)])
    assert np.array_equal(together, alone)
    other = client.paint(told, [7] * 5, "vae").images
    assert not np.array_equal(together[0], other[0])


def test_large_ones_are_the_same_enlarged(client):
    told = conditions(2)
    small, large = client.paint(told, [1, 2], "vae").images, client.paint(told, [1, 2], "vae", large=True).images
    assert large.shape == (2, 256, 256, 3)
    shrunk = large.reshape(2, 64, 4, 64, 4, 3).mean((2, 4))
    assert np.abs(shrunk - small).mean() < 6


@pytest.mark.parametrize(
    ("told", "seed", "kind", "message"),
    [
        (np.zeros((1, 3), np.float32), 1, "vae", "CONDITION has 3 numbers: the vae takes 24"),
        (np.full((1, WIDTH), np.inf, np.float32), 1, "vae", "not finite"),
        (np.zeros((1, WIDTH), np.float32), -1, "vae", "SEED is -1: 0 or more"),
        (np.zeros((1, WIDTH), np.float32), 1, "diffusion", "KIND is 'diffusion': vae or gan"),
        (np.zeros((1, WIDTH), np.float32), 1, "gan", "no gan has been trained: `upwell train gan` makes it"),
    ],
)
def test_what_it_refuses(client, told, seed, kind, message):
    with pytest.raises(InferenceRejected, match=message):
        client.paint(told, [seed], kind)
    assert client.paint(conditions(1), [1], "vae").images.any(), "and goes on"


def test_a_call_without_conditions_or_seeds_is_a_mistake(client):
    with pytest.raises(ValueError, match="2 conditions and 1 seeds"):
        client.paint(conditions(2), [1], "vae")
    with pytest.raises(ValueError, match="at least one"):
        client.paint(np.empty((0, WIDTH), np.float32), [], "vae")
