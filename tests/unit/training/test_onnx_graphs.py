"""The graphs built by hand answer what torch's own modules answer on the same weights."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from upwell.training.onnx_graphs import bert, efficientnet_lite0, sound_cnn


def run(graph, **given):
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, given)


def numbers(state):
    return {name: value.float().numpy() for name, value in state.items()}


def norm(channels: int) -> torch.nn.BatchNorm2d:
    """A batch normalisation that has seen something."""
    made = torch.nn.BatchNorm2d(channels)
    torch.nn.init.normal_(made.weight, 1, 0.2)
    torch.nn.init.normal_(made.bias)
    made.running_mean.normal_()
    made.running_var.uniform_(0.5, 2)
    return made


def test_bert():
    from transformers import BertConfig, BertModel

    torch.manual_seed(1)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    model = BertModel(BertConfig(vocab_size=99, max_position_embeddings=20, **shape)).eval()
    ids = torch.randint(0, 99, (3, 7))
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    with torch.inference_mode():
        expected = model(input_ids=ids, attention_mask=mask).last_hidden_state.numpy()
    graph = bert(numbers(model.state_dict()), layers=2, heads=4)
    (found,) = run(graph, input_ids=ids.numpy(), attention_mask=mask.numpy().astype(np.int32))
    kept = mask.numpy().astype(bool)
    assert np.allclose(found[kept], expected[kept], atol=1e-5)


def test_sound_cnn():
    torch.manual_seed(2)
    layers, weights = torch.nn.Sequential(), {}
    for block, (before, after) in enumerate(((1, 64), (64, 128), (128, 256), (256, 512)), 1):
        for part, channels in ((1, before), (2, after)):
            conv, scale = torch.nn.Conv2d(channels, after, 3, padding=1, bias=False), norm(after)
            name = f"embedding_net.conv_block{block}"
            weights |= {f"{name}.conv{part}.weight": conv.weight}
            weights |= {f"{name}.bn{part}.{key}": value for key, value in scale.state_dict().items()}
            layers.extend([conv, scale, torch.nn.ReLU()])
        if block < 4:
            layers.append(torch.nn.MaxPool2d(2))
    spectrum = torch.rand(2, 24, 16)
    with torch.inference_mode():
        expected = layers.eval()(spectrum[:, None]).mean(3).amax(2).numpy()
        (found,) = run(sound_cnn(numbers(weights)), spectrum=spectrum.numpy())
    assert found.shape == (2, 512)
    assert np.allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_efficientnet_lite0_wants_all_of_its_weights():
    with pytest.raises(KeyError, match="_bn0"):
        efficientnet_lite0({"_conv_stem.weight": np.zeros((32, 3, 3, 3), np.float32)})
