"""A trained fusion in; a model of its own in a Triton repository out, beside the one that is served.

The copy is whole or not there: its code is the packaged model's, its weights and their place are in the folder itself.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Final

from upwell import resources

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
    target = repository / name
    if target.exists():
        return name
    with tempfile.TemporaryDirectory(dir=repository, prefix=".draft-") as scratch:
        draft = Path(scratch) / name
        # Links are followed: what the models share becomes the copy's own.
        shutil.copytree(resources.folder("triton_models") / MODEL, draft, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(folder, draft / WEIGHTS)
        config = draft / "config.pbtxt"
        text = config.read_text()
        text = text.replace(f'name: "{MODEL}"', f'name: "{name}"', 1)
        # Where Triton may see the repository under another path than this process, the place is told by the model's own.
        text = text.replace(
            'key: "model_dir", value: { string_value: "" }',
            f'key: "model_dir", value: {{ string_value: "{WEIGHTS}" }}',
            1,
        )
        config.write_text(text)
        for file in draft.rglob("*"):
            file.chmod(0o755 if file.is_dir() else 0o644)
        draft.chmod(0o755)
        draft.rename(target)
    return name
