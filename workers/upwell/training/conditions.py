"""Items' features in; the vectors that pictures are generated from out, and their file.

A condition is any float32 [n, d], one row an item: the item's fused vector, of whatever it has, or a row of a file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from upwell.training.fusion_features import Features

SIDE: Final = 224
"""Pixels that the image encoder looks at."""


class ConditionsError(Exception):
    """The conditions cannot be had; the message says why and what to do."""


def read(file: Path, ids: Sequence[str]) -> NDArray[np.float32]:
    """Conditions out of a file that `write` wrote, float32 [n, d] in the order of `ids`.

    Raises:
        ConditionsError: the file is another one, or lacks an item.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "numpy") as found:
            rows: NDArray[np.float32] = found.get_tensor("conditions")
            known = json.loads((found.metadata() or {})["ids"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ConditionsError(
            f"{file.name} holds no conditions: safetensors with an array `conditions`, float32 [n, d], and metadata `ids`,"
            f" a JSON list of n item ids, is needed ({error})"
        ) from None
    if rows.dtype != np.float32 or rows.ndim != 2 or len(rows) != len(known) or not np.isfinite(rows).all():
        raise ConditionsError(
            f"{file.name}: conditions are {rows.dtype} {list(rows.shape)} for {len(known)} ids; finite float32 [n, d] is needed"
        )
    place = {item: row for row, item in enumerate(known)}
    if lacking := [item for item in ids if item not in place]:
        raise ConditionsError(f"{file.name} has no condition for {len(lacking)} of {len(ids)} items, as {lacking[0]}")
    return rows[[place[item] for item in ids]]


def write(file: Path, ids: Sequence[str], conditions: NDArray[np.float32], made_by: str = "") -> None:
    """Write conditions float32 [n, d] of n items; `made_by`: the version of the model whose vectors they are."""
    from safetensors.numpy import save_file

    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {"conditions": np.ascontiguousarray(conditions)},
        file,
        metadata={"ids": json.dumps(list(ids)), "made_by": made_by},
    )


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of unit length; a row of zeros stays."""
    found: NDArray[np.float32] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return found


def fused(items: Features, ids: Sequence[str], withheld: str = "") -> NDArray[np.float32]:
    """The items' vectors as they are served unless a fusion is trained, the mean: float32 [n, d] in the order of `ids`.

    Args:
        withheld: a modality that is left out, as if no item had it.

    Raises:
        ConditionsError: an item has no features.
    """
    from upwell.training import fusion as fusions
    from upwell.training import fusion_features

    strategy = fusions.create("mean", items.layout, items.layout["text"][0].size)
    vectors = fusion_features.fused(strategy, items, [name for name in fusions.MODALITIES if name != withheld])
    by_item = {items.items[row]: vector for row, vector in vectors.items()}
    if lacking := [item for item in ids if item not in by_item]:
        raise ConditionsError(f"{len(lacking)} of {len(ids)} items have no features, {lacking[0]} for one")
    return np.stack([by_item[item] for item in ids])


class ImageFeatures:
    """The set-up's image encoder (EfficientNet-Lite0), run here.

    Raises:
        ConditionsError: it has not been set up.
    """

    def __init__(self, models: Path, threads: int = 1) -> None:
        file = models / "image_encoder" / "model.onnx"
        if not file.is_file():
            raise ConditionsError(f"no image encoder is in {models}: `upwell setup` fetches and converts it")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
        self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def of(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [n, h, w, 3], RGB, squares of any size, to unit length float32 [n, 1280]."""
        from PIL import Image

        rows = []
        for picture in pixels:
            image = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            rows.append(self._session.run(["features"], {"pixels": np.asarray(image)[None]})[0][0])
        return unit(np.stack(rows).astype(np.float32))
