"""The served models: what they answer, and that any Hugging Face model can stand in for the demo's."""

from __future__ import annotations

import numpy as np
import pytest

from tiny_models import clip, language_model, sentence_encoder
from upwell.content.check import check
from upwell.content.prompt import facts_of, prompt
from upwell.inference.encode import TextEncoder
from upwell.inference.errors import InferenceUnavailable, ModelChanged
from upwell.inference.generate import TextGenerator
from upwell.inference.repository import load_as, loaded_as, unload

pytestmark = pytest.mark.integration


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


@pytest.mark.parametrize("kind", ["bert", "clip"])
def test_any_hugging_face_encoder_can_be_served(kind, url, prefix, tmp_path):
    """Of a CLIP-like model, the tower that reads texts."""
    name, versions, clients = f"{prefix}encoder", [], []
    for seed in (1, 2):
        folder = tmp_path / f"tiny-{seed}"
        (clip if kind == "clip" else sentence_encoder)(folder, kind, seed)
        tmp_path.chmod(0o755)
        load_as(url, "text_encoder", name, {"model_dir": str(folder), "variant": "fp32"})
        clients.append(TextEncoder(url, model=name))
        vectors = clients[-1].encode(["horror film", "a comedy about love", ""])
        assert vectors.shape == (3, 16 if kind == "clip" else 32)
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        versions.append(clients[-1].model_version)
    with pytest.raises(ModelChanged, match="tiny-2"):
        clients[0].encode(["horror"])
    for client in clients:
        client.close()
    unload(url, name)
    assert versions[0].startswith("tiny-1-fp32@")
    assert versions[0] != versions[1]


@pytest.mark.parametrize("kind", ["llama", "gpt_neox"])
def test_any_hugging_face_generator_can_be_served(kind, url, prefix, tmp_path):
    language_model(tmp_path, kind)
    given = {"model_dir": str(tmp_path), "adapter_dir": "none", "max_prompt_tokens": "32"}
    with loaded_as(url, "text_generator", f"{prefix}generator", given) as name:
        client = TextGenerator(url, model=name)
        answers = client.generate(
            ["try the film [END] because", "horror"] * 6, max_tokens=9, temperature=1.0, seeds=range(12)
        )
        assert all(1 <= a.tokens <= 9 and not a.error for a in answers)
        assert len({a.text for a in answers}) > 4
        assert "at most 32" in client.generate(["film " * 40])[0].error
        client.close()


def test_a_folder_of_pickles_is_refused_by_the_server(url, prefix, tmp_path):
    import torch

    torch.save(sentence_encoder(tmp_path).state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InferenceUnavailable, match=r"pytorch_model\.bin: pickles run code"):
        load_as(url, "text_encoder", f"{prefix}pickled", {"model_dir": str(tmp_path)})


def test_an_unknown_model_is_infrastructure(url):
    client = TextEncoder(url, model="no_such_model")
    with pytest.raises(InferenceUnavailable, match="no_such_model"):
        client.encode(["a"])
    client.close()
