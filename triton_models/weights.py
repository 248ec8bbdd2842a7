"""A model's folder found and named, its weights or its ONNX graph opened. The folders of models with weights link to it.

What is served reads it, and what measures the same model without Triton. Nothing of a folder is ever run: weights are
safetensors or ONNX.
"""

import hashlib
import json
import os
from pathlib import Path

FETCHED = ("*.safetensors", "*.json", "*.txt", "*.jinja", "*.model")
"""What is fetched of a repository on the hub: no pickles, no code."""
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def folder_of(given, name, signs=("config.json", "upwell.json")):
    """The model's folder: `given` (a folder, or `owner/name` of Hugging Face's hub), else $UPWELL_MODEL_DIR/name.

    `signs`: patterns of files, one of which such a folder holds. On the hub, `owner/name@revision` names a branch, a tag or a
    commit. Raises FileNotFoundError where there is none.
    """
    folder = Path(given or Path(os.environ.get("UPWELL_MODEL_DIR", "")) / name).expanduser()
    if given and not folder.is_dir() and given.count("/") == 1 and not given.startswith((".", "~", "/")):
        return _fetched(*given.partition("@")[::2])
    if not any(file.is_file() for sign in signs for file in folder.glob(sign)):
        raise FileNotFoundError(
            f"No model in {folder}: set UPWELL_MODEL_DIR, or model_dir in config.pbtxt; `make setup` converts the demo's."
        )
    return folder


def _fetched(repository, revision):
    """The snapshot in the hub's cache on this machine; fetched where the machine may ask the hub."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(repository, revision=revision or None, allow_patterns=list(FETCHED))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        words = str(error).strip().splitlines()[0]
        raise FileNotFoundError(f"{repository} is not on this machine, and the hub did not give it: {words}") from error
    return Path(folder)


def pretrained(kind, folder, **more):
    """A tokenizer, processor or configuration of transformers; code that a folder brings along is refused."""
    return kind.from_pretrained(folder, trust_remote_code=False, **more)


def read_model(kind, folder, **more):
    """A model of transformers ready to be asked, and whether its pooler is as it was trained.

    kind: one of transformers' Auto classes. Raises ValueError on an architecture that transformers does not know, where the
    folder holds pickles alone, or the weights of another kind of model: transformers would fill up with random ones.
    """
    from transformers import AutoConfig

    pretrained(AutoConfig, folder)
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(file.name for pattern in PICKLES for file in folder.glob(pattern))
        held = f"{', '.join(pickles)}: pickles run code when they are loaded" if pickles else "no weights"
        raise ValueError(
            f"{folder} holds {held}. Only safetensors are read: `save_pretrained` of transformers writes them"
        )
    found, about = pretrained(kind, folder, use_safetensors=True, output_loading_info=True, **more)
    lacking = sorted(about["missing_keys"])
    if other := [name for name in lacking if "pooler" not in name]:
        raise ValueError(
            f"{folder} holds another kind of model than {type(found).__name__}: it lacks {len(other)} of its weights, "
            f"{other[0]} among them"
        )
    return found.eval(), not lacking


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
        kinds = ("*.safetensors", "*.onnx", "model.bin")
        for file in sorted(found for kind in kinds for found in folder.glob(kind)):
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    sha.update(block)
        digest = sha.hexdigest()
    name = about.get("name") or _name(folder)
    name += f"-{variant}" if variant else ""
    return f"{name}@{digest[:12]}"


def _name(folder):
    """The folder's, or the repository's where it is a snapshot in the hub's cache: `models--owner--name/snapshots/…`."""
    return folder.parts[-3].rpartition("--")[2] if folder.parts[-2:-1] == ("snapshots",) else folder.name


def onnx_session(file, threads):
    """An ONNX Runtime session on the CPU, with so many threads of its own."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
