"""Settings of models of one's own: what becomes of them in a model repository, and what is refused before anything starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from tiny_models import language_model
from upwell.local.errors import StackError
from upwell.local.own_models import Served, resolve
from upwell.local.paths import triton_models
from upwell.local.triton import Triton
from upwell.settings import ConfigError, Settings


def resolved(tmp_path: Path, text: str) -> dict[str, Served]:
    file = tmp_path / "own.toml"
    file.write_text(text)
    return resolve(Settings.load(file).models)


def parameters(model: Path) -> dict[str, str]:
    config = text_format.Parse((model / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    assert config.name == model.name
    return {key: value.string_value for key, value in config.parameters.items()}


def test_a_table_becomes_parameters(tmp_path):
    language_model(tmp_path / "writer")
    served = resolved(
        tmp_path,
        f"""
        [models.text_encoder]
        device = "cuda:1"
        dtype = "fp16"
        pooling = "last"
        max_tokens = 128
        [models.writer]
        like = "text_generator"
        source = "{tmp_path / "writer"}"
        [models.writer.options]
        top_k = 5
        """,
    )
    assert served == {
        "text_encoder": Served(
            "text_encoder", {"device": "cuda:1", "variant": "fp16", "pooling": "last", "max_tokens": "128"}
        ),
        "writer": Served(
            "text_generator",
            {"model_dir": str(tmp_path / "writer"), "adapter_dir": "none", "prefix_dir": "none", "top_k": "5"},
        ),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[models.text_encoder]\nsorce = 'x'",
            r"models\.text_encoder\.sorce; did you mean models\.text_encoder\.source",
        ),
        ("[models.text_encoder]\ndtype = 'int3'", r"models\.text_encoder\.dtype"),
        ("[models.mine]\ndevice = 'cuda'", r"no packaged model is called mine.*models\.mine\.like says"),
        ("[models.mine]\nlike = 'encoder'", r"no packaged model is called encoder: there are audio_encoder"),
        ("[models.image_encoder]\npooling = 'last'", r"image_encoder has no parameter pooling: there are device"),
        ("[models.text_encoder.options]\ntop_k = 5", "text_encoder has no parameter top_k"),
        ("[models.text_encoder]\nsource = './nowhere'", r"models\.text_encoder\.source = \./nowhere: No model in"),
        ("[models.'a/b']\nlike = 'text_encoder'", "letters, digits and underscores"),
    ],
)
def test_what_cannot_be_is_said_before_anything_starts(text, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        resolved(tmp_path, text)


def test_flags_and_variables_name_models_too(tmp_path, monkeypatch):
    monkeypatch.setenv("UPWELL_MODELS__TEXT_ENCODER__DTYPE", "fp32")
    monkeypatch.setenv("UPWELL_MODELS__TEXT_ENCODER__DEVICE", "cuda")
    flags = {"models.text_encoder.device": "cpu", "models.text_encoder.options.threads": "2"}
    served = resolve(Settings.load(flags=flags).models)
    assert served["text_encoder"].parameters == {"variant": "fp32", "device": "cpu", "threads": "2"}


@pytest.fixture
def repository(tmp_path):
    """Brings a server's repository to what is served, as a start of the server does."""

    def brought(served: dict[str, Served] | None) -> Path:
        server = Triton(tmp_path, tmp_path, {}, wanted=[], shared_memory_prefix="", served=served)
        server.folder.mkdir(exist_ok=True)
        server.prepare()
        return server.repository

    return brought


def test_a_repository_follows_the_settings(repository):
    folder = repository({"text_encoder": Served("text_encoder", {"device": "cuda"})})
    assert parameters(folder / "text_encoder") == parameters(triton_models() / "text_encoder") | {"device": "cuda"}
    assert (folder / "text_encoder" / "1" / "weights.py").is_file()
    assert (folder / "image_encoder").is_symlink()
    assert repository(None) == folder
    assert parameters(folder / "text_encoder")["device"] == "cuda", "as it was"
    repository({"beside": Served("text_encoder", {"variant": "fp32"})})
    assert (folder / "text_encoder").is_symlink(), "as packaged again"
    assert parameters(folder / "beside")["variant"] == "fp32"
    repository({})
    assert not (folder / "beside").exists()


def test_a_wanted_model_may_be_ones_own(tmp_path):
    own = {"beside": Served("text_encoder", {})}
    (tmp_path / "triton").mkdir()
    Triton(tmp_path, tmp_path, {}, wanted=["beside"], shared_memory_prefix="", served=own).prepare()
    with pytest.raises(StackError, match="has no model beside"):
        Triton(tmp_path, tmp_path, {}, wanted=["beside"], shared_memory_prefix="", served={}).prepare()


def test_a_repository_is_written_for_another_server(tmp_path):
    command = [sys.executable, "-m", "upwell.cli.main", "models", "export", str(tmp_path / "to")]
    env = os.environ | {"UPWELL_CONFIG": ""}
    done = subprocess.run(
        [*command, "--set", "models.text_generator.device=cuda"], capture_output=True, text=True, check=True, env=env
    )
    assert "text_generator of your own" in done.stdout
    names = {found.parent.name for found in triton_models().glob("*/config.pbtxt")}
    assert {found.parent.name for found in (tmp_path / "to").glob("*/config.pbtxt")} == names
    assert not any(path.is_symlink() for path in (tmp_path / "to").rglob("*"))
    assert parameters(tmp_path / "to" / "text_generator")["device"] == "cuda"
    again = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert (again.returncode, "is not empty" in again.stderr) == (2, True)
