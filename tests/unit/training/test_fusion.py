"""Every fusion strategy: unit rows, weights over what is there, nothing of what is not, and bits that know no batch."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from upwell.training.fusion import MODALITIES, STRATEGIES, FusionError, Part, create, load

LAYOUT = {
    "text": (Part(12, shared=True),),
    "image": (Part(12, shared=True), Part(40)),
    "audio": (Part(9), Part(5, scaled=True)),
    "speech": (Part(12, shared=True),),
}
DIMENSION = dict.fromkeys(STRATEGIES, 12) | {"late": 60}

masks = st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=9)
every_strategy = pytest.mark.parametrize("strategy", STRATEGIES)


def some_inputs(n: int, seed: int = 0) -> dict[str, torch.Tensor]:
    chance = torch.Generator().manual_seed(seed)
    return {
        name: torch.cat(
            [
                torch.randn(n, part.size, generator=chance) * 50 - 90
                if part.scaled
                else torch.nn.functional.normalize(torch.randn(n, part.size, generator=chance), dim=1)
                for part in LAYOUT[name]
            ],
            1,
        )
        for name in MODALITIES
    }


def settled(strategy: str, seed: int = 3):
    """A model with constants, and with parameters that are not where they began."""
    model = create(strategy, LAYOUT, DIMENSION[strategy], seed)
    model.calibrate(some_inputs(64, 9), torch.ones(64, 4, dtype=torch.bool))
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.3 * torch.randn(value.shape, generator=chance))
    return model.eval().requires_grad_(False)


@every_strategy
@settings(max_examples=25, deadline=None)
@given(masks, st.integers(0, 1000))
def test_rows_are_unit_and_weights_are_shares_of_what_is_there(strategy, mask, seed):
    present = torch.tensor(mask)
    vectors, weights = settled(strategy)(some_inputs(len(mask), seed), present)
    there = present.any(1)
    assert vectors.shape == (len(mask), DIMENSION[strategy])
    assert vectors.dtype == weights.dtype == torch.float32
    torch.testing.assert_close(vectors.norm(dim=1), there.float(), atol=1e-5, rtol=0)
    torch.testing.assert_close(weights.sum(1), there.float(), atol=1e-5, rtol=0)
    assert (weights[~present] == 0).all()
    assert (weights[present] > 0).all()


@every_strategy
@settings(max_examples=25, deadline=None)
@given(masks, st.integers(0, 1000), st.sampled_from([float("nan"), float("inf"), -1e30, 1.0]))
def test_what_is_absent_leaks_nothing(strategy, mask, seed, poison):
    model, present, inputs = settled(strategy), torch.tensor(mask), some_inputs(len(mask), seed)
    poisoned = {name: x.clone() for name, x in inputs.items()}
    for column, name in enumerate(MODALITIES):
        poisoned[name][~present[:, column]] = poison
    for clean, other in zip(model(inputs, present), model(poisoned, present), strict=True):
        assert torch.equal(clean, other)


@every_strategy
def test_what_is_absent_leaks_nothing_into_training(strategy):
    model = settled(strategy).train().requires_grad_(True)
    present = torch.rand(16, 4, generator=torch.Generator().manual_seed(1)) < 0.5
    present[:, 0] = True
    inputs = some_inputs(16)
    for column, name in enumerate(MODALITIES):
        inputs[name][~present[:, column]] = float("nan")
    vectors, _ = model(inputs, present)
    if model.learns:
        vectors.square().mul(torch.arange(vectors.shape[1])).sum().backward()
        for name, value in model.named_parameters():
            assert value.grad is None or torch.isfinite(value.grad).all(), name
    assert torch.isfinite(vectors).all()


@every_strategy
@settings(max_examples=25, deadline=None)
@given(st.permutations(range(7)), st.integers(1, 7), st.integers(0, 1000))
def test_the_bits_of_a_row_do_not_depend_on_its_batch(strategy, order, size, seed):
    model, inputs = settled(strategy), some_inputs(7, seed)
    present = torch.rand(7, 4, generator=torch.Generator().manual_seed(seed)) < 0.6
    present[:, 0] = True
    whole, shares = model(inputs, present)
    chosen = list(order)[:size]
    vectors, weights = model({name: x[chosen] for name, x in inputs.items()}, present[chosen])
    assert vectors.numpy().tobytes() == whole[chosen].numpy().tobytes()
    assert weights.numpy().tobytes() == shares[chosen].numpy().tobytes()


@every_strategy
def test_computed_together_the_rows_are_the_same_but_for_rounding(strategy):
    model, inputs = settled(strategy), some_inputs(20)
    present = torch.rand(20, 4, generator=torch.Generator().manual_seed(5)) < 0.6
    for one, other in zip(model(inputs, present), model.fuse(inputs, present), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


@every_strategy
def test_an_item_with_only_text_keeps_working(strategy):
    present = torch.zeros(5, 4, dtype=torch.bool)
    present[:, 0] = True
    vectors, weights = settled(strategy)(some_inputs(5), present)
    torch.testing.assert_close(weights[:, 0], torch.ones(5))
    assert len({row.numpy().tobytes() for row in vectors}) == 5


def test_the_untrained_mean_of_a_text_is_the_text():
    present = torch.tensor([[True, False, False, False]] * 5)
    inputs = some_inputs(5)
    vectors, _ = create("mean", LAYOUT, 12).eval()(inputs, present)
    torch.testing.assert_close(vectors, inputs["text"])


def test_the_mean_keeps_cosines_of_parts_in_other_spaces():
    layout = LAYOUT | {"image": (Part(8),)}
    images = torch.nn.functional.normalize(torch.randn(30, 8, generator=torch.Generator().manual_seed(2)), dim=1)
    present = torch.tensor([[False, True, False, False]] * 30)
    vectors, _ = create("mean", layout, 12).eval()(some_inputs(30) | {"image": images}, present)
    torch.testing.assert_close(vectors @ vectors.T, images @ images.T, atol=1e-5, rtol=0)


def test_late_fusion_scores_are_weighted_sums_of_cosines():
    model = create("late", LAYOUT, 90).eval().requires_grad_(False)  # room for every part as it is
    with torch.no_grad():
        model.logits.copy_(torch.tensor([0.5, -0.5, 1.0, 0.0]))
    inputs, present = some_inputs(6), torch.ones(6, 4, dtype=torch.bool)
    vectors, weights = model(inputs, present)
    modal = model.modal(inputs, present)
    expected = sum(weights[0, m] * (modal[:, m] @ modal[:, m].T) for m in range(4))
    torch.testing.assert_close(vectors @ vectors.T, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(weights[0], torch.tensor([0.5, -0.5, 1.0, 0.0]).softmax(0))
    texts = inputs["text"] @ inputs["text"].T
    torch.testing.assert_close(modal[:, 0] @ modal[:, 0].T, texts, atol=1e-5, rtol=0)


@every_strategy
def test_saved_and_loaded_the_bits_are_the_same(strategy, tmp_path):
    model, inputs = settled(strategy), some_inputs(3)
    present = torch.tensor([[True, True, False, True], [True, False, False, False], [False, True, True, False]])
    version = model.save(tmp_path / "kept", encoders={"text": "tiny@1"}, seed=3)
    other = load(tmp_path / "kept")
    assert other.version == version
    assert version.startswith(f"fusion-{strategy}@")
    assert other.about["encoders"] == {"text": "tiny@1"}
    for one, two in zip(model(inputs, present), other(inputs, present), strict=True):
        assert torch.equal(one, two)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_the_version_is_of_the_weights_and_of_the_encoders(tmp_path):
    one = settled("concat").save(tmp_path / "a", encoders={"text": "tiny@1"})
    assert settled("concat").save(tmp_path / "b", encoders={"text": "tiny@1"}, seed=8) == one
    assert settled("concat").save(tmp_path / "c", encoders={"text": "tiny@2"}) != one
    assert settled("concat", seed=4).save(tmp_path / "d", encoders={"text": "tiny@1"}) != one


def test_a_folder_that_is_none_says_why(tmp_path):
    with pytest.raises(FusionError, match="holds no fusion model"):
        load(tmp_path)
    settled("gated").save(tmp_path / "kept")
    about = json.loads((tmp_path / "kept" / "upwell.json").read_text())
    (tmp_path / "kept" / "upwell.json").write_text(json.dumps(about | {"weights_sha256": "0" * 64}))
    with pytest.raises(FusionError, match="not those that"):
        load(tmp_path / "kept")
    (tmp_path / "kept" / "model.safetensors").write_bytes(b"\x80\x04broken")
    with pytest.raises(FusionError):
        load(tmp_path / "kept")


def test_inputs_that_do_not_fit_are_named():
    model, inputs, present = settled("gated"), some_inputs(2), torch.ones(2, 4, dtype=torch.bool)
    with pytest.raises(FusionError, match=r"image is \(2, 51\).*52"):
        model(inputs | {"image": torch.zeros(2, 51)}, present)
    with pytest.raises(FusionError, match="speech is missing"):
        model({name: x for name, x in inputs.items() if name != "speech"}, present)
    with pytest.raises(FusionError, match=r"present is torch\.float32"):
        model(inputs, present.float())
    with pytest.raises(FusionError, match="no fusion strategy is called 'blend'"):
        create("blend", LAYOUT, 12)
    with pytest.raises(FusionError, match="no parts for audio"):
        create("mean", LAYOUT | {"audio": ()}, 12)
    with pytest.raises(FusionError, match="6 parts"):
        create("late", LAYOUT, 5)


@every_strategy
def test_nothing_at_all_gives_no_rows(strategy):
    vectors, weights = settled(strategy)(some_inputs(0), torch.zeros(0, 4, dtype=torch.bool))
    assert vectors.shape == (0, DIMENSION[strategy])
    assert weights.shape == (0, 4)
