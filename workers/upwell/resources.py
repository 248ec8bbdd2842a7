"""The folders that ship beside the code, `schemas` and `triton_models`: in a checkout as they lie in its root, in an
installed wheel as package data. Whichever this code runs from is the one that is found."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """The folder called `name` (`schemas` or `triton_models`), absolute.

    Raises:
        FileNotFoundError: the installation is incomplete.
    """
    installed = _PACKAGE / "_data" / name
    checkout = _PACKAGE.parent.parent / name
    # A checkout has no `_data`: hatch writes it into the wheel only.
    for candidate in (installed, checkout):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(
        f"the folder {name} is neither in {installed.parent} (an installed wheel) nor in {checkout.parent} (a checkout): "
        "the installation is incomplete, install upwell again"
    )
