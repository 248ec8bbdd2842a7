"""The mapper from vectors to soft prompt tokens: what is taught is what is served, and nothing of held-out items is taught."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from upwell.content.prompt import SHOWN_PROMPT
from upwell.events.contracts import Item
from upwell.training import fusion, prefix, prefix_words, shown, writer
from upwell.training.fusion_features import Features
from upwell.training.prefix_judge import found_among
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
def examples():
    """Each animal seen three times; what is seen is its meaning turned about, and noise."""
    rng = np.random.default_rng(3)
    meanings = rng.normal(size=(len(NAMES), 4))
    meanings = (meanings / np.linalg.norm(meanings, axis=1, keepdims=True)).astype(np.float32)
    turned = np.linalg.qr(rng.normal(size=(len(NAMES), 4)))[0].T
    return [
        prefix.Shown(
            f"It shows: {name}.", (meaning @ turned + rng.normal(0, 0.02, len(NAMES))).astype(np.float32), meaning
        )
        for _ in range(3)
        for name, meaning in zip(NAMES, meanings, strict=True)
    ]


@pytest.fixture(scope="module")
def taught(folder, examples, tmp_path_factory):
    lessons = [*examples]
    lessons += [prefix.Shown(one.text, one.item, one.meaning, np.ones(5, np.float32)) for one in examples[:4]]
    alone = [prefix.Shown(one.text, None, one.meaning) for one in examples[: len(NAMES)]]
    out = tmp_path_factory.mktemp("prefix")
    recipe = prefix.Recipe(
        item_tokens=2, user_tokens=1, item_width=16, user_width=4, batch=8, bag_batch=32, bag_steps=60, steps=200, noise=0.2,
        learning_rate=2e-2,
    )  # fmt: skip
    prefix.teach(*writer.load(folder), lessons, alone, out, recipe, lambda _: None)
    return out


def test_the_right_text_is_found_from_what_was_taught(folder, examples, taught):
    generator = module("text_generator", "generator").Generator(str(folder), variant="fp32", prefix=taught)
    part = examples[: len(NAMES)]
    found = found_among(generator, part)
    assert found["gain"] > 0.6
    assert found["likelihood"] > 0.6
    assert found["chance"] == 0.1
    assert found_among(generator, part, vectors=False)["likelihood"] < 0.4
    assert generator.version.count("+") == 1


def test_vectors_stand_at_the_end_of_the_message(folder, taught):
    generator = module("text_generator", "generator").Generator(str(folder), prefix=taught)
    row = generator.row(SHOWN_PROMPT, item=np.ones(12, np.float32))
    place = row.tokens.index(-1)
    whole = generator.tokens(SHOWN_PROMPT)
    assert [token for token in row.tokens if token >= 0] == whole
    assert generator.tokenizer.decode(whole[:place]).endswith("shows .")


def test_a_vector_of_another_length_is_refused(folder, taught):
    generator = module("text_generator", "generator").Generator(str(folder), prefix=taught)
    assert generator.row("a", item=np.ones(12, np.float32), user=np.ones(5, np.float32)).soft.shape == (3, 48)
    with pytest.raises(ValueError, match="ITEM_VECTOR has 9 components; the mapper takes 12"):
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
    given = shown.material(items, features, mean, 1, embed)
    assert given.lessons
    assert given.examination
    taught = {one.text for one in given.lessons}
    assert not taught & {one.text for one in (*given.examination, *given.personal)}
    # Words withheld: another text and another recording change nothing.
    inputs["text"], inputs["speech"] = inputs["text"] + 1, inputs["speech"] + 1
    again = shown.material(items, Features(features.items, inputs, present, layout, {}), mean, 1, embed)
    assert all(np.array_equal(a.item, b.item) for a, b in zip(given.examination, again.examination, strict=True))
    # No held-out title is among the names without pictures; its single words may be, unless they are barred.
    hidden = {one.text for one in given.examination}
    words = prefix_words.Words(single=12, varied=40, paired=20)
    assert not hidden & {one.text for one in shown.alone(items, [], NAMES, embed, words, bar=False)[: len(NAMES)]}
    name = next(iter(hidden)).removeprefix("It shows: ").split()[0]
    alone = shown.alone(items, [], NAMES, embed, words, bar=True)
    assert f"It shows: {name}." not in {one.text for one in alone}


def embed(texts):
    """What stands in for a text encoder: letters counted."""
    rows = np.array([[text.lower().count(letter) + 0.1 for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts])
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
