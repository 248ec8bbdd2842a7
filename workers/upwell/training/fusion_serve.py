"""A trained fusion in; a model of its own in a Triton repository out, beside the one that is served.

The copy is whole or not there: its code is the packaged model's, its weights and their place are in the folder itself.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from upwell.inference import repository as repository_of_models

MODEL: Final = "item_features"
WEIGHTS: Final = "fusion"
"""Folder of the weights, beside the configuration."""


def install(folder: Path, repository: Path) -> str:
    """Put a fusion that `fusion_runs.keep` wrote into a repository; returns the name that it is served under.

    One that is there already is left alone.

    Raises:
        FileNotFoundError: the repository is no folder, or `folder` holds no fusion.
    """
    if not repository.is_dir():
        raise FileNotFoundError(f"{repository} is no folder: which model repository does Triton read?")
    if not (folder / "upwell.json").is_file():
        raise FileNotFoundError(f"{folder} holds no fusion: `upwell train fusion` writes one")
    name = f"{MODEL}_{re.sub(r'[^A-Za-z0-9]+', '_', folder.name.removeprefix('fusion-'))}"
    if not (repository / name).exists():
        # Where Triton may see the repository under another path than this process, the place is told by the model's own.
        repository_of_models.install(repository, name, MODEL, {"model_dir": WEIGHTS}, {WEIGHTS: folder})
    return name
