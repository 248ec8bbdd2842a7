"""Pruned models: smaller, still models, and what changes least goes first."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from upwell.training import pruning

IDS = torch.arange(20).unsqueeze(0)


@pytest.fixture
def model():
    torch.manual_seed(1)
    shape = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 40}
    return LlamaForCausalLM(LlamaConfig(vocab_size=60, **shape)).eval()


def test_the_layer_that_changes_nothing_is_left_out(model):
    idle = model.model.layers[2]
    for product in (idle.self_attn.o_proj, idle.mlp.down_proj):
        torch.nn.init.zeros_(product.weight)
    with torch.inference_mode():
        before = model(input_ids=IDS).logits
        smaller = pruning.without_layers(model, [IDS], 1)
        assert torch.allclose(smaller(input_ids=IDS).logits, before, atol=1e-5)
    assert len(smaller.model.layers) == smaller.config.num_hidden_layers == 3
    assert [layer.self_attn.layer_idx for layer in smaller.model.layers] == [0, 1, 2]


def test_the_smallest_neurons_are_left_out(model):
    for layer in model.model.layers:
        torch.nn.init.zeros_(layer.mlp.down_proj.weight[:, :10])
    with torch.inference_mode():
        before = model(input_ids=IDS).logits
        smaller = pruning.without_neurons(model, 0.25)
        assert torch.allclose(smaller(input_ids=IDS).logits, before, atol=1e-5)
    assert smaller.config.intermediate_size == 30
    assert smaller.model.layers[0].mlp.down_proj.weight.shape == (32, 30)
