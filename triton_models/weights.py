"""A model's folder found and named, and its ONNX graph opened. The folders of models with weights link to this file.

What is served reads it, and what measures the same model without Triton.
"""

import hashlib
import json
import os
from pathlib import Path


def folder_of(given, name, signs=("config.json", "upwell.json")):
    """The model's folder: `given` (a folder, or `owner/name` of Hugging Face's hub), else $UPWELL_MODEL_DIR/name.

    `signs`: patterns of files, one of which such a folder holds. Raises FileNotFoundError where there is none.
    """
    folder = Path(given or Path(os.environ.get("UPWELL_MODEL_DIR", "")) / name).expanduser()
    if given and not folder.is_dir() and given.count("/") == 1 and not given.startswith((".", "~", "/")):
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(given))
    if not any(file.is_file() for sign in signs for file in folder.glob(sign)):
        raise FileNotFoundError(
            f"No model in {folder}: set UPWELL_MODEL_DIR, or model_dir in config.pbtxt; `make setup` converts the demo's."
        )
    return folder


def read_json(file):
    return json.loads(file.read_text()) if file.is_file() else {}


def version_of(folder, variant=""):
    """`name@first 12 digits of the SHA-256 over the weights`: the same wherever the same weights are served.

    `variant` joins the name where the same weights are served in another precision.
    """
    about = read_json(folder / "upwell.json")
    digest = about.get("weights_sha256")
    if not digest:
        sha = hashlib.sha256()
        kinds = ("*.safetensors", "*.onnx", "pytorch_model*.bin", "model.bin")
        for file in sorted(found for kind in kinds for found in folder.glob(kind)):
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    sha.update(block)
        digest = sha.hexdigest()
    name = about.get("name", folder.name) + (f"-{variant}" if variant else "")
    return f"{name}@{digest[:12]}"


def onnx_session(file, threads):
    """An ONNX Runtime session on the CPU, with so many threads of its own."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
