"""Where the local stack keeps things: a home (data, logs, state; one per stack) and a cache (downloads; shared)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from upwell import resources


def default_home() -> Path:
    """`$UPWELL_HOME`, else `~/.local/share/upwell` (XDG)."""
    if chosen := os.environ.get("UPWELL_HOME"):
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser().absolute() / "upwell"


def default_cache() -> Path:
    """`$UPWELL_CACHE`, else `~/.cache/upwell` (XDG)."""
    if chosen := os.environ.get("UPWELL_CACHE"):
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "upwell"


def models_dir(cache: Path) -> Path:
    """Converted models, as Triton reads them: `$UPWELL_MODEL_DIR`, else `models` in the cache."""
    if chosen := os.environ.get("UPWELL_MODEL_DIR"):
        return Path(chosen).expanduser().absolute()
    return cache / "models"


def triton_models() -> Path:
    """The packaged Triton model repository: inside an installed wheel, or of the checkout."""
    return resources.folder("triton_models")


def environment_bin() -> Path:
    """Folder of this environment's `python`."""
    return Path(sys.executable).parent
