"""The mapper from vectors to soft prompt tokens: what is taught is what is served, and nothing of held-out items is taught."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from upwell.content.prompt import SHOWN_PROMPT
from upwell.events.contracts import Item
from upwell.training import fusion, prefix, shown, writer
from upwell.training.fusion_features import Features
from upwell.training.served import module

NAMES = ("pig", "cat", "owl", "fox", "ant", "bee", "cow", "emu", "elk", "hen", "ape", "yak")
TEMPLATE = "{% for m in messages %}[USER] {{ m.content }} [END] {% endfor %}[BOT]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny generator that knows a dozen animals."""
    folder = tmp_path_factory.mktemp("tiny")
    words = [
        "[PAD]",
        "[UNK]",
        "[END]",
        "[USER]",
        "[BOT]",
        *SHOWN_PROMPT.replace(".", " .").split(),
        "It",
        "shows",
        ":",
        *NAMES,
    ]
    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(":", "isolated"), pre_tokenizers.Split(".", "isolated")]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", eos_token="[END]", chat_template=TEMPLATE
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(1)
    shape = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 64}
    config = LlamaConfig(
        vocab_size=len(words),
        eos_token_id=2,
        pad_token_id=0,
        max_position_embeddings=64,
        initializer_range=0.3,
        **shape,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def taught(folder, tmp_path_factory):
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(len(NAMES), 8)).astype(np.float32)
    examples = [prefix.Shown(f"It shows: {name}.", vector) for name, vector in zip(NAMES, vectors, strict=True)]
    examples += [prefix.Shown(one.text, one.item, np.ones(5, np.float32)) for one in examples[:4]]
    out = tmp_path_factory.mktemp("prefix")
    recipe = prefix.Recipe(item_tokens=2, user_tokens=1, width=16, batch=8, steps=150, learning_rate=2e-2)
    prefix.teach(*writer.load(folder), examples, out, recipe, lambda _: None)
    return out, examples


def test_the_right_text_is_found_from_what_was_taught(folder, taught):
    out, examples = taught
    generator = module("text_generator", "generator").Generator(str(folder), variant="fp32", prefix=out)
    part = examples[: len(NAMES)]
    found = prefix.found_among(generator, part)
    assert found["gain"] > 0.6
    assert found["chance"] == 0.1
    assert prefix.found_among(generator, part, vectors=False)["likelihood"] < 0.4
    assert generator.version.count("+") == 1


def test_a_vector_of_another_length_is_refused(folder, taught):
    generator = module("text_generator", "generator").Generator(str(folder), prefix=taught[0])
    assert generator.row("a", item=np.ones(8, np.float32), user=np.ones(5, np.float32)).soft.shape == (3, 48)
    with pytest.raises(ValueError, match="ITEM_VECTOR has 9 components; the mapper takes 8"):
        generator.row("a", item=np.ones(9, np.float32))
    without = module("text_generator", "generator").Generator(str(folder))
    with pytest.raises(ValueError, match="need a mapper"):
        without.row("a", item=np.ones(8, np.float32))


def test_held_out_stamps_are_in_no_lesson():
    rng = np.random.default_rng(4)
    n = 60
    layout = {name: (fusion.Part(6, shared=name in ("text", "speech")),) for name in fusion.MODALITIES}
    inputs = {name: rng.normal(size=(n, 6)).astype(np.float32) for name in fusion.MODALITIES}
    items = [Item(f"animals/{i}", title=f"{NAMES[i % 12]} {i // 12}", categories=["animals"]) for i in range(n)]
    present = np.ones((n, 4), bool)
    features = Features([item.item_id for item in items], inputs, present, layout, {})
    mean = fusion.create("mean", layout, 6)
    given = shown.material(items, features, mean, seed=1)
    assert given.lessons
    assert given.examination
    taught = {one.text for one in given.lessons}
    assert not taught & {one.text for one in (*given.examination, *given.personal)}
    # Words withheld: another text and another recording change nothing.
    inputs["text"], inputs["speech"] = inputs["text"] + 1, inputs["speech"] + 1
    again = shown.material(items, Features(features.items, inputs, present, layout, {}), mean, seed=1)
    assert all(np.array_equal(a.item, b.item) for a, b in zip(given.examination, again.examination, strict=True))
