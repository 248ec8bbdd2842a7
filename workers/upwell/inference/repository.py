"""A packaged model loaded under another name with other parameters: own weights, another precision, side by side.

What is loaded so lives as long as the server, or until it is unloaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

from upwell import resources
from upwell.inference.errors import InferenceUnavailable

LOAD_TIMEOUT_S: Final = 300.0
READY_TIMEOUT_S: Final = 10.0


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
        with triton.InferenceServerClient(url) as server:
            server.unload_model(name, client_timeout=LOAD_TIMEOUT_S)
