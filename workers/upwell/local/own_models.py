"""Settings `[models]` in; for each, the packaged model that it is like and the parameters of its config.pbtxt out.

What is named on Hugging Face's hub is fetched here: the model server itself asks nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from upwell.inference.repository import configured
from upwell.settings import ConfigError, Models, OwnModel

PARAMETERS: Final = {
    "device": "device",
    "dtype": "variant",
    "pooling": "pooling",
    "max_tokens": "max_tokens",
    "adapter": "adapter_dir",
}
"""Of config.pbtxt, by setting."""


@dataclass(frozen=True)
class Served:
    """How a model is served."""

    like: str
    """The packaged model whose code it is."""
    parameters: dict[str, str]
    """Of config.pbtxt, where they are not as packaged."""


def resolve(models: Models, say: Callable[[str], None] = lambda _: None) -> dict[str, Served]:
    """How each model of the settings is served, by its name on Triton.

    Raises:
        ConfigError: no packaged model is like it, it has no such parameter, or its source cannot be found; says which.
    """
    return {name: _resolved(name, own, say) for name, own in models.by_name.items()}


def _resolved(name: str, own: OwnModel, say: Callable[[str], None]) -> Served:
    like = own.like or name
    parameters = {
        parameter: str(value) for setting, parameter in PARAMETERS.items() if (value := getattr(own, setting))
    }
    if own.source:
        parameters["model_dir"] = str(_folder(name, own.source, say))
        if like.startswith("text_generator"):
            # What was trained on the packaged weights fits no others.
            parameters = {"adapter_dir": "none", "prefix_dir": "none"} | parameters
    served = Served(like, parameters | own.options)
    try:
        configured(name, served.like, served.parameters)
    except ValueError as error:
        hint = "" if own.like else f"; models.{name}.like says which one it is like"
        raise ConfigError(f"models.{name}: {error}{hint}") from error
    return served


def _folder(name: str, source: str, say: Callable[[str], None]) -> Path:
    from upwell.training.served import module

    weights = module("text_encoder", "weights")
    folder = Path(source).expanduser().absolute()
    if folder.is_dir():
        source = str(folder)
    else:
        say(f"Looking for {source}, fetching it where it is missing")
    try:
        found: Path = weights.folder_of(source, name)
    except FileNotFoundError as error:
        raise ConfigError(f"models.{name}.source = {source}: {error}") from error
    return found
