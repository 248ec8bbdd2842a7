"""A served model's own code, imported without Triton: what is measured and what is served are the same."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

from upwell import resources


def module(model: str, name: str) -> ModuleType:
    """The file `name` of a model's folder in the model repository.

    Raises:
        FileNotFoundError: it is not there.
    """
    folder = resources.folder("triton_models") / model / "1"
    spec = importlib.util.spec_from_file_location(f"upwell_{model}_{name}", folder / f"{name}.py")
    if spec is None or spec.loader is None or not (folder / f"{name}.py").is_file():
        raise FileNotFoundError(f"{folder / name}.py is missing: the installation is incomplete")
    loaded = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(folder))  # for the files beside it
    # A file more in the folder, and Triton would load the model anew at the next occasion.
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(loaded)
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = writes
    return loaded
