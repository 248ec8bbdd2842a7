"""The served text generator: texts as they come, its faster variant, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from upwell import resources
from upwell.content.check import check
from upwell.content.prompt import SHOWN_PROMPT, facts_of, prompt
from upwell.inference.errors import InferenceRejected, InferenceUnavailable
from upwell.inference.generate import TextGenerator
from upwell.inference.repository import loaded_as
from upwell.local.paths import default_cache, models_dir
from upwell.training.meanings import Linear
from upwell.training.prefix_mapper import Mapper
from upwell.training.served import module

pytestmark = pytest.mark.integration

MODELS = ("text_generator", "text_generator_stream")

FACTS = facts_of("The Silver Harbour", ["Drama", "Crime"], {"year": 1994, "director": "Nora Vane", "runtime": 112})
ASKED = prompt(FACTS, ["The Last Station"])


@pytest.fixture(scope="module")
def url(full_stack):
    return full_stack.endpoints().triton


@pytest.fixture
def generator(url):
    client = TextGenerator(url)
    yield client
    client.close()


def test_a_text_comes_in_pieces_that_make_up_the_whole(generator):
    pieces = list(generator.stream(ASKED, temperature=0))
    assert len(pieces) > 5
    assert "".join(pieces) == "".join(pieces).strip()
    assert check("".join(pieces), FACTS, ["The Last Station"]) == []
    assert list(generator.stream(ASKED, temperature=0)) == pieces


def test_streams_run_side_by_side(generator):
    streams = [generator.stream(ASKED, seed=seed) for seed in range(4)]
    begun = [next(one) for one in streams]
    whole = [first + "".join(rest) for first, rest in zip(begun, streams, strict=True)]
    assert all("Silver Harbour" in text for text in whole)


def test_a_stream_may_be_left_in_its_middle(generator):
    for _ in range(3):
        stream = generator.stream(ASKED)
        assert next(stream)
        stream.close()
    assert "".join(generator.stream(ASKED, temperature=0))


def test_a_stream_says_what_it_refuses(generator, url):
    with pytest.raises(InferenceRejected, match="TEMPERATURE is 9"):
        list(generator.stream(ASKED, temperature=9.0))
    with pytest.raises(InferenceRejected, match="at most 1024"):
        list(generator.stream("word " * 3000))
    other = TextGenerator(url, model="no_such_model")
    with pytest.raises(InferenceUnavailable, match="no_such_model_stream"):
        list(other.stream(ASKED))
    other.close()
    nobody = TextGenerator("127.0.0.1:9", timeout_s=5)
    with pytest.raises(InferenceUnavailable, match=r"127\.0\.0\.1:9"):
        list(nobody.stream(ASKED))
    nobody.close()


def test_eight_bits_write_as_faithfully(url, prefix):
    adapter = resources.folder("triton_models") / "text_generator" / "adapter"
    with loaded_as(
        url, "text_generator", f"{prefix}int8", {"variant": "int8", "adapter_dir": str(adapter), "prefix_dir": "none"}
    ) as name:
        client = TextGenerator(url, model=name)
        texts = client.generate([ASKED] * 16, seeds=range(16))
        assert client.model_version.startswith("SmolLM2-135M-Instruct-int8@")
        assert "+" in client.model_version
        client.close()
    passed = [not check(text.text, FACTS, ["The Last Station"]) for text in texts]
    assert sum(passed) >= 11, [text.text for text in texts]


def test_vectors_are_refused_where_they_make_no_sense(generator):
    vectors = [np.full(5, np.nan, dtype=np.float32), np.ones(5, dtype=np.float32)]
    broken, wrong, fine = generator.generate([ASKED] * 3, items=[*vectors, None])
    assert "finite" in broken.error
    assert "mapper" in wrong.error
    assert not fine.error
    assert fine.text


def test_a_mapper_of_vectors_is_served_as_it_was_written(url, prefix, tmp_path):
    adapter, folder = resources.folder("triton_models") / "text_generator" / "adapter", tmp_path / "prefix"
    torch.manual_seed(3)
    table = 0.1 * torch.randn(50, 576)  # of the generator's width
    Mapper(
        {"item": Linear(np.eye(6, dtype=np.float32), np.zeros(6, np.float32))}, {"item": 3}, {"item": 16}, table
    ).save(folder)
    here = module("text_generator", "generator").Generator(
        str(models_dir(default_cache()) / "text_generator"), adapter=adapter, prefix=folder
    )
    vectors = np.random.default_rng(1).normal(size=(3, 6)).astype(np.float32)
    with loaded_as(
        url, "text_generator", f"{prefix}shown", {"adapter_dir": str(adapter), "prefix_dir": str(folder)}
    ) as name:
        client = TextGenerator(url, model=name)
        for vector in vectors:
            (told,) = client.generate([SHOWN_PROMPT], 12, 0.0, items=[vector])
            assert (told.text, told.error) == (here.generate([here.row(SHOWN_PROMPT, 12, item=vector)])[0][0], "")
        (wrong,) = client.generate([SHOWN_PROMPT], items=[np.ones(5, np.float32)])
        assert "ITEM_VECTOR has 5 components; the mapper takes 6" in wrong.error
        assert client.model_version == here.version
        client.close()
