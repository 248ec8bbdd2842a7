"""Models of transformers with random weights, as small as they get: folders as a user would bring them along."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WORDS = "the a film about horror space love war comedy you liked try it because of and is directed by . , : - \n".split(
    " "
)
TOKENS = 64
"""Positions of the encoders."""
SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
DECODER = {**SHAPE, "num_key_value_heads": 2}


CHAT = "{% for message in messages %}[TURN]{{ message['content'] }}{% endfor %}[TURN]"


def tokenizer(folder: Path, *, ends: bool = False, chat: bool = False) -> int:
    """A tokenizer of whole words, ending every text with [END] where `ends`; with `chat` one of bytes, which has turns.

    Returns its size.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    known = sorted(pre_tokenizers.ByteLevel.alphabet()) if chat else WORDS
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[END]", "[TURN]", *known])}
    if chat:
        raw = Tokenizer(models.BPE(vocabulary, []))
        raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    else:
        raw = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
        raw.pre_tokenizer = pre_tokenizers.Whitespace()
    if ends:
        raw.post_processor = processors.TemplateProcessing(single="$A [END]", special_tokens=[("[END]", 2)])
    found = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", eos_token="[END]", model_max_length=TOKENS,
        extra_special_tokens=["[TURN]"],
    )  # fmt: skip
    found.chat_template = CHAT if chat else None
    found.save_pretrained(folder)
    return len(vocabulary)


def sentence_encoder(folder: Path, kind: str = "bert", seed: int = 1) -> Any:
    """kind: model type of transformers, `bert`, `roberta` or `mistral`. Returns the model."""
    import torch
    from transformers import AutoConfig, AutoModel

    size = tokenizer(folder, ends=True)
    torch.manual_seed(seed)
    config = AutoConfig.for_model(
        kind, vocab_size=size, max_position_embeddings=TOKENS, pad_token_id=0, eos_token_id=2, **DECODER
    )
    return _saved(AutoModel.from_config(config), folder)


def clip(folder: Path, kind: str = "clip", seed: int = 5) -> Any:
    """kind: `clip` or `siglip`. Both towers with a space of 16 (CLIP) or 32 (SigLIP) dimensions; returns the model."""
    import torch
    from transformers import AutoConfig, AutoModel
    from transformers.models.clip import CLIPImageProcessorPil
    from transformers.models.siglip import SiglipImageProcessorPil

    size = tokenizer(folder, ends=True)
    torch.manual_seed(seed)
    tower = {**SHAPE, "projection_dim": 16} if kind == "clip" else SHAPE
    config = AutoConfig.for_model(
        kind,
        text_config={
            **tower, "vocab_size": size, "max_position_embeddings": TOKENS, "pad_token_id": 0, "bos_token_id": 1,
            "eos_token_id": 2,
        },
        vision_config={**tower, "image_size": 32, "patch_size": 8},
        **({"projection_dim": 16} if kind == "clip" else {}),
    )  # fmt: skip
    square = {"height": 32, "width": 32}
    processor = (
        CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=square)
        if kind == "clip"
        else SiglipImageProcessorPil(size=square)
    )
    processor.save_pretrained(folder)
    return _saved(AutoModel.from_config(config), folder)


def vision_encoder(folder: Path, seed: int = 1, *, names: list[str] | None = None, pooler: bool = True) -> Any:
    """A ViT; with `names` a classifier. `pooler`: whether it has the layer that sums a picture up. Returns the model."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTModel
    from transformers.models.vit import ViTImageProcessorPil

    torch.manual_seed(seed)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    about = {"image_size": 32, "patch_size": 8, **SHAPE}
    if names is None:
        return _saved(ViTModel(ViTConfig(**about), add_pooling_layer=pooler), folder)
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    return _saved(ViTForImageClassification(ViTConfig(**about, **labels)), folder)


def language_model(folder: Path, kind: str = "llama", seed: int = 3, *, chat: bool = False) -> Any:
    """A causal language model that samples; kind: model type of transformers, such as `llama`, `gpt2`, `phi3`.

    `chat`: it knows turns, and writes bytes instead of words. Returns the model.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    size = tokenizer(folder, chat=chat)
    torch.manual_seed(seed)
    config = AutoConfig.for_model(
        kind, vocab_size=size, bos_token_id=1, eos_token_id=2, pad_token_id=0, max_position_embeddings=128, **DECODER
    )
    model = AutoModelForCausalLM.from_config(config)
    model.generation_config.do_sample = True
    return _saved(model, folder)


def _saved(model: Any, folder: Path) -> Any:
    model.eval().save_pretrained(folder)
    # A model server may run as another user.
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
    return model
