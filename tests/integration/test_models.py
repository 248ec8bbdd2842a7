"""The served models: what they answer, and that any Hugging Face model can stand in for the demo's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tritonclient import grpc as triton

from upwell.content.check import check
from upwell.content.prompt import facts_of, prompt
from upwell.inference.encode import TextEncoder
from upwell.inference.errors import InferenceUnavailable, ModelChanged
from upwell.inference.generate import TextGenerator
from upwell.local.paths import triton_models

pytestmark = pytest.mark.integration

WORDS = "the a film about horror space love war comedy you liked try it because of and is directed by . , : - \n".split(
    " "
)


@pytest.fixture(scope="module")
def url(full_stack):
    return full_stack.endpoints().triton


@pytest.fixture
def encoder(url):
    client = TextEncoder(url)
    yield client
    client.close()


@pytest.fixture
def generator(url):
    client = TextGenerator(url)
    yield client
    client.close()


def test_embeddings_are_unit_vectors_that_mean_something(encoder):
    vectors = encoder.encode(
        ["A scary film about a ghost", "A horror movie with spirits", "A cookbook for vegetable soups"]
    )
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.3
    assert encoder.encode([]).shape == (0, 384)


def test_a_vector_does_not_depend_on_its_batch(encoder):
    texts = [f"Film number {i}: " + "a drama about a family and a war " * (i % 7) for i in range(150)]
    together = encoder.encode(texts)
    backwards = encoder.encode(texts[::-1])[::-1]
    alone = np.concatenate([encoder.encode([text]) for text in texts[:20]])
    assert np.array_equal(together, backwards)
    assert np.array_equal(together[:20], alone)


def test_strange_texts_are_encoded(encoder):
    vectors = encoder.encode(["", "\x00\ud800", "long " * 50_000, "漢字 🙂"])
    assert np.isfinite(vectors).all()


def test_the_version_names_the_weights(encoder, url):
    name, digest = encoder.model_version.split("@")
    assert name == "all-MiniLM-L6-v2"
    assert len(digest) == 12
    again = TextEncoder(url)
    assert again.model_version == encoder.model_version
    again.close()


def test_the_writer_tells_the_facts(generator):
    films = [
        facts_of("The Silver Harbour", ["Drama", "Crime"], {"year": 1994, "director": "Nora Vane", "runtime": 112}),
        facts_of("Midnight Orchard", ["Horror"], {"year": 2003, "cast": ["Tom Reyes", "Ida Falk"]}),
        facts_of("Seven Letters", ["Romance", "Comedy"], {"year": 1988}),
        facts_of("Oak Desk Lamp", ["Lighting"], {"brand": "Nordo"}),
    ] * 4
    texts = generator.generate([prompt(f, ["The Last Station"]) for f in films], seeds=list(range(len(films))))
    passed = [not check(t.text, f, ["The Last Station"]) for t, f in zip(texts, films, strict=True)]
    assert sum(passed) >= 11, [t.text for t in texts]
    assert all(0 < t.tokens <= 64 for t in texts)
    assert generator.model_version.startswith("SmolLM2-135M-Instruct@")
    assert "+" in generator.model_version, "the adapter is served"


def test_greedy_answers_repeat_and_end_in_time(generator):
    asked = prompt(facts_of("Alien", ["Horror"]), ["Jaws"])
    first, second = (generator.generate([asked], max_tokens=12, temperature=0)[0] for _ in range(2))
    assert first == second
    assert first.tokens <= 12


def test_what_a_model_refuses_does_not_harm_its_neighbours(generator):
    asked = prompt(facts_of("Alien", ["Horror"]), ["Jaws"])
    long, good = generator.generate(["word " * 3000, asked], max_tokens=8)
    assert long.text == ""
    assert "at most 1024" in long.error
    assert good.text
    assert not good.error
    assert "TEMPERATURE" in generator.generate([asked], temperature=9.0)[0].error


def _tiny_tokenizer(folder: Path) -> int:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[END]", *WORDS])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", eos_token="[END]", model_max_length=64
    ).save_pretrained(folder)
    return len(vocabulary)


def _serve(url: str, name: str, kind: str, folder: Path) -> None:
    """Load the packaged model code under another name, on another folder of weights."""
    inputs = {"text_encoder": ["TEXT"], "text_generator": ["PROMPT", "MAX_TOKENS", "TEMPERATURE", "SEED"]}[kind]
    types = {"MAX_TOKENS": "TYPE_INT32", "TEMPERATURE": "TYPE_FP32", "SEED": "TYPE_INT64", "TOKENS": "TYPE_INT32"}
    outputs = {"text_encoder": ["EMBEDDING", "VERSION"], "text_generator": ["TEXT", "TOKENS", "VERSION"]}[kind]
    types["EMBEDDING"] = "TYPE_FP32"
    config = {
        "name": name,
        "backend": "python",
        "max_batch_size": 8,
        "input": [
            {"name": n, "data_type": types.get(n, "TYPE_STRING"), "dims": [1], "optional": n in types} for n in inputs
        ],
        "output": [
            {"name": n, "data_type": types.get(n, "TYPE_STRING"), "dims": [-1 if n == "EMBEDDING" else 1]}
            for n in outputs
        ],
        "dynamic_batching": {},
        "instance_group": [{"kind": "KIND_CPU", "count": 1}],
        "parameters": {
            "model_dir": {"string_value": str(folder)},
            "adapter_dir": {"string_value": "none"},
            "max_prompt_tokens": {"string_value": "32"},
        },
    }
    code = {f"file:1/{file.name}": file.read_bytes() for file in (triton_models() / kind / "1").glob("*.py")}
    with triton.InferenceServerClient(url) as server:
        server.load_model(name, config=json.dumps(config), files=code)


def _unload(url: str, name: str) -> None:
    with triton.InferenceServerClient(url) as server:
        server.unload_model(name)


def test_any_hugging_face_encoder_can_be_served(url, prefix, tmp_path):
    import torch
    from transformers import BertConfig, BertModel

    versions = []
    name = f"{prefix}encoder"
    for seed in (1, 2):
        folder = tmp_path / f"tiny-{seed}"
        size = _tiny_tokenizer(folder)
        torch.manual_seed(seed)
        shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        BertModel(BertConfig(vocab_size=size, max_position_embeddings=64, **shape)).save_pretrained(folder)
        for path in (tmp_path, *folder.parents):
            path.chmod(path.stat().st_mode | 0o055) if path.is_relative_to(tmp_path) else None
        _serve(url, name, "text_encoder", folder)
        client = TextEncoder(url, model=name)
        vectors = client.encode(["horror film", "a comedy about love", ""])
        assert vectors.shape == (3, 32)
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        versions.append(client.model_version)
        if seed == 1:
            first = client
        else:
            client.close()
    with pytest.raises(ModelChanged, match="tiny-2"):
        first.encode(["horror"])
    first.close()
    _unload(url, name)
    assert versions[0].startswith("tiny-1@")
    assert versions[0] != versions[1]


def test_any_hugging_face_generator_can_be_served(url, prefix, tmp_path):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    size = _tiny_tokenizer(tmp_path)
    torch.manual_seed(3)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    LlamaForCausalLM(
        LlamaConfig(vocab_size=size, eos_token_id=2, pad_token_id=0, max_position_embeddings=128, **shape)
    ).save_pretrained(tmp_path)
    name = f"{prefix}generator"
    _serve(url, name, "text_generator", tmp_path)
    client = TextGenerator(url, model=name)
    answers = client.generate(
        ["try the film [END] because", "horror"] * 6, max_tokens=9, temperature=1.0, seeds=range(12)
    )
    assert all(1 <= a.tokens <= 9 and not a.error for a in answers)
    assert len({a.text for a in answers}) > 4
    assert "at most 32" in client.generate(["film " * 40])[0].error
    client.close()
    _unload(url, name)


def test_an_unknown_model_is_infrastructure(url):
    client = TextEncoder(url, model="no_such_model")
    with pytest.raises(InferenceUnavailable, match="no_such_model"):
        client.encode(["a"])
    client.close()
