"""Language models of other architectures: what is generated from is transformers' own logits."""

from __future__ import annotations

import pytest
import torch

from tiny_models import language_model, sentence_encoder
from upwell.training.served import module


@pytest.fixture(scope="module")
def generator():
    return module("text_generator", "generator")


# Cohere, Granite and Gemma 2 change their logits after the last layer.
@pytest.mark.parametrize("kind", ["llama", "gpt2", "phi3", "gpt_neox", "gemma2", "granite", "cohere"])
def test_texts_are_as_likely_as_transformers_says(kind, generator, tmp_path):
    reference = language_model(tmp_path, kind)
    own = generator.Generator(str(tmp_path), variant="fp32")
    rows = [own.row("try the film because"), own.row("horror")]
    (first, second), counts = own.likelihood(rows, ["a comedy", "space is a war"])
    assert counts == [3, 5], "the end of turn is counted"
    for row, text, found in zip(rows, ("a comedy", "space is a war"), (first, second), strict=True):
        answer = own._answer(text)
        with torch.inference_mode():
            logits = reference(input_ids=torch.tensor([row.tokens + answer])).logits[0, len(row.tokens) - 1 : -1]
        shares = torch.log_softmax(logits, dim=1)
        assert found == pytest.approx(float(shares[range(len(answer)), answer].sum()), abs=1e-3)


@pytest.mark.parametrize("variant", ["bf16", "fp16", "int8"])
def test_every_precision_writes(variant, generator, tmp_path):
    language_model(tmp_path, "gpt2")
    own = generator.Generator(str(tmp_path), variant=variant)
    texts, counts = own.generate([own.row("try the film", 9, 1.0, seed) for seed in range(8)])
    assert len(set(texts)) > 3
    assert all(1 <= count <= 9 for count in counts)
    assert own.version.startswith(tmp_path.name + ("@" if variant == "bf16" else f"-{variant}@"))


def test_what_cannot_be_is_said(generator, tmp_path):
    language_model(tmp_path / "writer")
    with pytest.raises(ValueError, match="int8 is for the CPU"):
        generator.Generator(str(tmp_path / "writer"), variant="int8", device="cuda")
    sentence_encoder(tmp_path / "reader", "mistral")
    with pytest.raises(ValueError, match=r"another kind of model than MistralForCausalLM: it lacks 1 .*lm_head"):
        generator.Generator(str(tmp_path / "reader"))
