"""A language model's folder in, a smaller one out: whole layers, or neurons, that change least are left out.

What comes out is a plain Hugging Face folder, so it is served and measured as any other.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch


def without_layers(model: Any, batches: Sequence[Any], count: int) -> Any:
    """The model without the `count` layers whose output is most like their input (ShortGPT, Men et al. 2024).

    Args:
        model: a Llama of Hugging Face's; changed in place.
        batches: token ids int64 [n, length] that the influence of the layers is read from.
    """
    influence = torch.zeros(len(model.model.layers))
    with torch.inference_mode():
        for ids in batches:
            states = model.model(input_ids=ids, output_hidden_states=True).hidden_states
            for number, (before, after) in enumerate(itertools.pairwise(states)):
                influence[number] += 1 - torch.cosine_similarity(before.float(), after.float(), dim=-1).mean()
    kept = sorted(influence.argsort(descending=True)[: len(influence) - count].tolist())
    model.model.layers = torch.nn.ModuleList([model.model.layers[number] for number in kept])
    for number, layer in enumerate(model.model.layers):
        layer.self_attn.layer_idx = number
    model.config.num_hidden_layers = len(kept)
    return model


def without_neurons(model: Any, share: float) -> Any:
    """The model without this share of every layer's inner neurons, those with the smallest weights: the product of the
    norms of what goes into a neuron and what comes out of it. Changed in place.
    """
    for layer in model.model.layers:
        mlp = layer.mlp
        size = mlp.gate_proj.weight.norm(dim=1) * mlp.up_proj.weight.norm(dim=1) * mlp.down_proj.weight.norm(dim=0)
        kept = size.argsort(descending=True)[: round(len(size) * (1 - share))].sort().values
        for name, dimension in (("gate_proj", 0), ("up_proj", 0), ("down_proj", 1)):
            old = getattr(mlp, name).weight.detach().index_select(dimension, kept)
            new = torch.nn.Linear(old.shape[1], old.shape[0], bias=False, dtype=old.dtype)
            new.weight = torch.nn.Parameter(old)
            setattr(mlp, name, new)
    model.config.intermediate_size = len(kept)
    return model


def save(model: Any, tokenizer: Any, folder: Path) -> Path:
    """A folder that the model server's user can read, too."""
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder
