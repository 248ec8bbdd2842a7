"""A packaged model served under another name with other parameters: own weights, another precision, side by side.

`install` puts it into a model repository, where it stays. What `load_as` loads lives as long as the server, or until it is
unloaded.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from google.protobuf import text_format
from tritonclient import grpc as triton
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import InferenceServerException

from upwell import resources
from upwell.inference.errors import InferenceUnavailable

LOAD_TIMEOUT_S: Final = 300.0
READY_TIMEOUT_S: Final = 10.0


def configured(name: str, model: str, parameters: Mapping[str, str]) -> str:
    """The config.pbtxt of the packaged `model` under another name, with these parameters.

    Raises:
        ValueError: no packaged model is called so, or its configuration has no such parameter; says which there are.
    """
    packaged = resources.folder("triton_models")
    if not (packaged / model / "config.pbtxt").is_file():
        there = sorted(found.parent.name for found in packaged.glob("*/config.pbtxt"))
        raise ValueError(f"no packaged model is called {model}: there are {', '.join(there)}")
    config = text_format.Parse((packaged / model / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    if unknown := sorted(set(parameters) - set(config.parameters)):
        there = sorted(config.parameters)
        raise ValueError(f"{model} has no parameter {', '.join(unknown)}: there are {', '.join(there) or 'none'}")
    config.name = name
    for key, value in parameters.items():
        config.parameters[key].string_value = value
    return str(text_format.MessageToString(config))


def install(
    repository: Path,
    name: str,
    model: str,
    parameters: Mapping[str, str],
    folders: Mapping[str, Path] | None = None,
) -> Path:
    """Put a copy of the packaged `model` into a model repository as `name`, in place of what is there; returns its folder.

    The copy is whole or not there, and needs nothing of the package.

    Args:
        parameters: of config.pbtxt, by name; those not given stay as they are.
        folders: copied to lie beside the configuration, by their names there.

    Raises:
        ValueError: as `configured`.
    """
    config = configured(name, model, parameters)
    packaged = resources.folder("triton_models") / model
    target = repository / name
    with tempfile.TemporaryDirectory(dir=repository, prefix=".draft-") as scratch:
        draft = Path(scratch) / name
        # Links are followed: what the models share becomes the copy's own.
        shutil.copytree(packaged, draft, ignore=shutil.ignore_patterns("__pycache__"))
        for beside, folder in (folders or {}).items():
            shutil.copytree(folder, draft / beside)
        (draft / "config.pbtxt").write_text(config)
        for file in draft.rglob("*"):
            file.chmod(0o755 if file.is_dir() else 0o644)
        draft.chmod(0o755)
        if target.is_symlink():
            target.unlink()
        elif target.exists():
            target.rename(Path(scratch) / "old")
        draft.rename(target)
    return target


def load_as(url: str, model: str, name: str, parameters: Mapping[str, str]) -> None:
    """Load the code and the configuration of `model`, which the server must have loaded, as `name`.

    Args:
        url: Triton's gRPC address, host:port.
        parameters: of config.pbtxt, by name; those not given stay as they are.

    Raises:
        InferenceUnavailable: the server does not answer, or the model cannot be loaded; with Triton's words.
    """
    code = {
        f"file:1/{file.name}": file.read_bytes()
        for file in (resources.folder("triton_models") / model / "1").iterdir()
        if file.is_file()
    }
    try:
        with triton.InferenceServerClient(url) as server:
            config = server.get_model_config(model, as_json=True, client_timeout=LOAD_TIMEOUT_S)["config"]
            config["name"] = name
            config["parameters"] |= {key: {"string_value": value} for key, value in parameters.items()}
            server.load_model(name, config=json.dumps(config), files=code, client_timeout=LOAD_TIMEOUT_S)
    except InferenceServerException as error:
        raise InferenceUnavailable(f"model {model} cannot be loaded as {name}: {error.message()}") from error


def unload(url: str, name: str) -> None:
    """Take a model off the server."""
    with triton.InferenceServerClient(url) as server:
        server.unload_model(name, client_timeout=LOAD_TIMEOUT_S)


def served(url: str, model: str) -> bool:
    """Whether the server has the model loaded.

    Raises:
        InferenceUnavailable: the server does not answer.
    """
    try:
        with triton.InferenceServerClient(url) as server:
            return bool(server.is_model_ready(model, client_timeout=READY_TIMEOUT_S))
    except InferenceServerException as error:
        raise InferenceUnavailable(f"the model server does not answer: {error.message()}") from error


@contextmanager
def loaded_as(url: str, model: str, name: str, parameters: Mapping[str, str]) -> Iterator[str]:
    """The same for the length of a block; gives the name."""
    load_as(url, model, name, parameters)
    try:
        yield name
    finally:
        unload(url, name)
