"""The generator's own decoder against transformers': the same logits in every precision, however prompts are batched."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from upwell.training.served import module

PROMPTS = [
    [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14],
    [3, 4, 5, 6, 7, 8, 9, 10, 11, 20],
    [3, 4, 5, 6, 7, 8, 9, 10, 11, 30, 31, 32, 33, 34, 35, 36],
]
AFTER = [[40, 41, 42], [43, 44, 45], [46, 47, 48]]


@pytest.fixture(scope="module")
def llama():
    return module("text_generator", "llama")


@pytest.fixture(scope="module")
def general():
    return module("text_generator", "general")


@pytest.fixture(scope="module")
def reference():
    torch.manual_seed(1)
    shape = {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2}
    config = LlamaConfig(
        vocab_size=60, intermediate_size=96, max_position_embeddings=64, initializer_range=0.2, **shape
    )
    return LlamaForCausalLM(config).eval()


def _logits(model, ids):
    """The reference's logits after each of the ids, computed at once."""
    with torch.inference_mode():
        return model(input_ids=torch.tensor([ids])).logits[0]


def _close(one, other, most=1e-3):
    assert (one - other).abs().max() < most


def test_only_plain_llamas_are_taken(llama):
    assert llama.fits(LlamaConfig())
    assert not llama.fits(LlamaConfig(attention_bias=True))
    assert not llama.fits(LlamaConfig(rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}))
    assert not llama.fits(GPT2Config())


@pytest.mark.parametrize("kind", ["llama", "general"])
def test_logits_are_those_of_transformers(kind, llama, general, reference):
    own = llama.Llama(reference, "fp32") if kind == "llama" else general.General(reference, "fp32")
    with torch.inference_mode():
        for _ in range(3):  # the second and the third time, the common beginning is there already
            run, states = own.begin(PROMPTS, 8)
            for step in range(4):
                for row, prompt in enumerate(PROMPTS):
                    expected = _logits(reference, prompt + AFTER[row][:step])[-1]
                    _close(own.logits(states)[row], expected)
                if step < 3:
                    states = run.next([after[step] for after in AFTER])


def test_a_common_beginning_is_read_once(llama, reference):
    own = llama.Llama(reference, "fp32")
    with torch.inference_mode():
        assert own.begin(PROMPTS, 1)[0].shared == 0
        assert own.begin(PROMPTS[1:], 1)[0].shared == 9
        assert own.begin([[9, 8, 7], *PROMPTS], 1)[0].shared == 0
        # The same prompt again: all but its last token, whose state is wanted.
        long = [*PROMPTS[2], *range(50, 58)]
        for _ in range(3):
            run, states = own.begin([long], 1)
        assert run.shared == len(long) - 1
        _close(own.logits(states)[0], _logits(reference, long)[-1])


@pytest.mark.parametrize("kind", ["llama", "general"])
def test_states_that_are_asked_for_are_read_though_they_are_common(kind, llama, general, reference):
    own = llama.Llama(reference, "fp32") if kind == "llama" else general.General(reference, "fp32")
    texts = [[*PROMPTS[0], 40, 41, last] for last in (42, 43, 44)]
    with torch.inference_mode():
        for _ in range(3):
            for row, states in enumerate(own.states(texts, [4, 4, 5])):
                assert len(states) == (5 if row == 2 else 4)
                _close(own.logits(states), _logits(reference, texts[row])[-len(states) :])


@pytest.mark.parametrize("kind", ["llama", "general"])
def test_rows_that_have_ended_leave_the_batch(kind, llama, general, reference):
    own = llama.Llama(reference, "fp32") if kind == "llama" else general.General(reference, "fp32")
    with torch.inference_mode():
        run, _ = own.begin(PROMPTS, 4)
        run.next([40, 43, 46])
        run.keep([0, 2])
        logits = own.logits(run.next([41, 47]))
    _close(logits[0], _logits(reference, [*PROMPTS[0], 40, 41])[-1])
    _close(logits[1], _logits(reference, [*PROMPTS[2], 46, 47])[-1])


@pytest.mark.parametrize("kind", ["llama", "general"])
def test_vectors_take_the_places_of_tokens(kind, llama, general, reference):
    own = llama.Llama(reference, "fp32") if kind == "llama" else general.General(reference, "fp32")
    soft = torch.randn(2, 96, generator=torch.Generator().manual_seed(5))
    ids = [3, -1, -1, 4, 5]
    with torch.inference_mode():
        _, states = own.begin([ids, PROMPTS[0]], 1, [soft, None])
        embedded = reference.get_input_embeddings()(torch.tensor([[3, 0, 0, 4, 5]]))
        embedded[0, 1:3] = soft
        expected = reference(inputs_embeds=embedded).logits[0, -1]
        _close(own.logits(states)[0], expected)
        _close(own.logits(states)[1], _logits(reference, PROMPTS[0])[-1])


@pytest.mark.parametrize("kind", ["llama", "general"])
@pytest.mark.parametrize(("variant", "most"), [("bf16", 0.3), ("int8", 0.8)])
def test_low_precision_stays_close(kind, variant, most, llama, general, reference):
    import copy

    own = llama.Llama(reference, variant) if kind == "llama" else general.General(copy.deepcopy(reference), variant)
    with torch.inference_mode():
        _, states = own.begin(PROMPTS, 1)
        for row, prompt in enumerate(PROMPTS):
            _close(own.logits(states)[row], _logits(reference, prompt)[-1], most)


def test_any_other_architecture_is_read_by_transformers(general):
    torch.manual_seed(2)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=60, n_positions=64, n_embd=32, n_layer=2, n_head=4)).eval()
    own = general.General(model, "fp32")
    with torch.inference_mode():
        run, states = own.begin(PROMPTS, 4)
        _close(own.logits(states)[1], _logits(model, PROMPTS[1])[-1])
        _close(own.logits(run.next([40, 43, 46]))[1], _logits(model, [*PROMPTS[1], 43])[-1])
