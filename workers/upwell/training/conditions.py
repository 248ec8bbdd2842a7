"""Items' texts and pictures in; the vectors that pictures are generated from out, and their file.

A condition is any float32 [n, d], one row an item: the item's fused vector, where a file of them is given, else its text
embedding and its picture's embedding side by side, each of unit length.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

SIDE: Final = 224
"""Pixels that the image encoder looks at."""
_BATCH: Final = 32


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


def side_by_side(*parts: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors [n, d1], [n, d2], … each brought to unit length, in one row [n, d1 + d2 + …]."""
    return np.concatenate([unit(part) for part in parts], axis=1)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of unit length; a row of zeros stays."""
    found: NDArray[np.float32] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return found


def text_embeddings(models: Path, texts: Sequence[str]) -> NDArray[np.float32]:
    """float32 [n, d] of the set-up's text encoder, rows of unit length.

    Raises:
        ConditionsError: it has not been set up.
    """
    folder = models / "text_encoder"
    if not (folder / "config.json").is_file():
        raise ConditionsError(f"no text encoder is in {models}: `upwell setup` fetches and converts it")
    import torch
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(texts), _BATCH):
            given = tokenizer(list(texts[start : start + _BATCH]), return_tensors="pt", padding=True, truncation=True)
            hidden, mask = model(**given).last_hidden_state, given["attention_mask"].unsqueeze(-1)
            parts.append(((hidden * mask).sum(1) / mask.sum(1)).numpy())
    return unit(np.concatenate(parts))


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
