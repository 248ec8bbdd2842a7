"""Picture generators: what they are shown, what they learn, what is kept, and how they are judged."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from upwell.evaluation.stamps import Stamp
from upwell.events.contracts import Item
from upwell.media import augment as bytes_augment
from upwell.training import conditions as conditioning
from upwell.training import fitting, gan, judging, painter, vae
from upwell.training.fitting import Limits
from upwell.training.fusion import Part
from upwell.training.fusion_features import Features
from upwell.training.painter import Painter, PainterError, Shape
from upwell.training.pictures import Lessons, augment, fit, held_out, pictures, to_floats
from upwell.training.served import module

SMALL = {"axes": 8, "latent": 4, "widths": (16, 8, 8, 8)}


def discs(n: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Discs of their own colour and place, and conditions that say which: uint8 [n, 64, 64, 3], float32 [n, 16]."""
    y, x = np.mgrid[:64, :64]
    rng = np.random.default_rng(5)
    pixels = np.full((n, 64, 64, 3), 255, np.uint8)
    for row in range(n):
        middle = rng.uniform(20, 44, 2)
        pixels[row][(x - middle[0]) ** 2 + (y - middle[1]) ** 2 < 200] = rng.integers(0, 200, 3)
    return pixels, rng.standard_normal((n, 16)).astype(np.float32)


def untrained(kind=vae, n: int = 12):
    pixels, told = discs(n)
    return kind.trainee(Shape(16, **SMALL), told, 1), Lessons(pixels, told, np.ones(n, dtype=bool), 0.5), pixels, told


def test_a_picture_is_fitted_whole_on_white():
    drawing = Image.new("RGBA", (100, 60), (0, 0, 0, 0))
    drawing.paste((200, 0, 0, 255), (10, 20, 90, 40))
    found = fit(drawing)
    assert found.shape == (64, 64, 3)
    assert found.dtype == np.uint8
    red = (found[:, :, 0] > 150) & (found[:, :, 1] < 60)
    assert (red.any(0).sum(), red.any(1).sum()) == (58, pytest.approx(15, abs=2)), "the empty border is cut"
    assert (found[0] == 255).all()
    for mode in ("P", "LA", "L", "RGB"):
        assert fit(drawing.convert(mode)).shape == (64, 64, 3)
    assert (fit(Image.new("RGBA", (5, 5), (0, 0, 0, 0))) == 255).all(), "nothing is drawn"


def test_pictures_of_stamps(tmp_path):
    Image.new("RGB", (30, 30), "blue").save(tmp_path / "blue.png")
    shown = Stamp(Item("a/blue", title="Blue", categories=["a", "b"]), {"image": tmp_path / "blue.png"})
    letter = Stamp(Item("a/b", title="B"), {"image": tmp_path / "blue.png"}, frozenset({"nomirror"}))
    found = pictures([shown, Stamp(Item("a/none")), letter])
    assert found.ids == ["a/blue", "a/b"]
    assert found.pixels.shape == (2, 64, 64, 3)
    assert found.mirrors.tolist() == [True, False]


def test_one_item_in_seven_is_held_out_for_ever():
    share = np.mean([held_out(f"animals/{n}") for n in range(7_000)])
    assert share == pytest.approx(1 / 7, abs=0.02)
    known = ["animals/mammals/pig", "animals/birds/cartoon/tux", "food/fruit/orange", "hobbies/camera_35mm"]
    assert [held_out(name) for name in known] == [False, True, False, True]


def test_augmentation_is_seeded_and_mirrors_only_what_it_may():
    pixels = np.full((6, 64, 64, 3), 255, np.uint8)
    pixels[:, 24:40, 42:56] = (90, 20, 150)  # all ink on the right
    batch, anyone = to_floats(pixels), torch.ones(6, dtype=torch.bool)
    never = augment(batch, ~anyone, torch.Generator().manual_seed(1), 1.0)
    assert torch.equal(never, augment(batch, ~anyone, torch.Generator().manual_seed(1), 1.0))
    assert not torch.equal(never, augment(batch, ~anyone, torch.Generator().manual_seed(2), 1.0))
    assert torch.equal(batch, augment(batch, anyone, torch.Generator().manual_seed(1), 0.0)), "none is asked for"
    assert never.shape == batch.shape
    assert 0 <= never.min() <= never.max() <= 1
    assert (1 - never)[..., :32].sum() < 1e-3, "turned and moved as far as the bounds say; paper stays white"
    many = augment(batch.repeat(10, 1, 1, 1), anyone.repeat(10), torch.Generator().manual_seed(1), 1.0)
    mirrored = ((1 - many)[..., :32].sum((1, 2, 3)) > 1).float().mean()
    assert 0.3 < mirrored < 0.7


def test_augmented_tensors_look_like_augmented_bytes_and_pass_a_gradient():
    pixels, _ = discs(1)
    chance, again = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    batch = to_floats(pixels).requires_grad_()
    for _ in range(5):
        made = augment(batch, torch.ones(1, dtype=torch.bool), chance, 1.0)
        rng = np.random.default_rng(int(torch.randint(2**63 - 1, (), generator=again)))
        other = bytes_augment.image(pixels[0], rng)
        # One interpolates linearly, the other by cubes: they differ along edges.
        assert np.abs(painter.to_pixels(made.detach())[0].astype(float) - other).mean() < 2
    made.sum().backward()
    assert torch.isfinite(batch.grad).all()
    assert (batch.grad != 0).any()


@pytest.mark.parametrize("kind", [vae, gan])
def test_training_repeats_and_goes_on_as_if_never_interrupted(kind, tmp_path):
    whole, lessons, _, _ = untrained(kind)
    limits = Limits(steps=6, batch=4)
    fitting.fit(whole, kind.step(whole, lessons, limits), limits, tmp_path / "whole", lambda *_: None)
    first, lessons, _, _ = untrained(kind)
    half = Limits(steps=3, batch=4)
    fitting.fit(first, kind.step(first, lessons, half), half, tmp_path / "half", lambda *_: None)
    second, lessons, _, _ = untrained(kind)
    fitting.resume(second, tmp_path / "half")
    assert second.step == 3
    fitting.fit(second, kind.step(second, lessons, limits), limits, tmp_path / "rest", lambda *_: None)
    for name, learned in whole.modules.items():
        for key, value in learned.state_dict().items():
            assert torch.allclose(value, second.modules[name].state_dict()[key], atol=1e-6), (name, key)


def test_an_interrupted_run_leaves_its_checkpoint(tmp_path):
    trainee, lessons, _, _ = untrained()
    limits = Limits(steps=50, batch=4)
    step = vae.step(trainee, lessons, limits)

    def interrupted(number, chance):
        if number == 3:
            signal.raise_signal(signal.SIGINT)
        return step(number, chance)

    assert fitting.fit(trainee, interrupted, limits, tmp_path / "checkpoint", lambda *_: None)
    again, *_ = untrained()
    fitting.resume(again, tmp_path / "checkpoint")
    assert again.step == 3
    other = vae.trainee(Shape(16, axes=4, latent=4, widths=(16, 8, 8, 8)), discs()[1], 1)
    with pytest.raises(ValueError, match="checkpoint is of another model"):
        fitting.resume(other, tmp_path / "checkpoint")


def test_the_vae_learns_to_reconstruct(tmp_path):
    trainee, lessons, pixels, told = untrained()
    before = judging.likeness(pixels, vae.reconstruct(trainee, pixels, told))
    limits = Limits(steps=100, batch=12)
    recipe = vae.Recipe(learning_rate=5e-3, adversarial=0.0)
    seen = []
    step = vae.step(trainee, lessons, limits, recipe)
    fitting.fit(trainee, step, limits, tmp_path / "c", lambda n, *_: seen.append(n))
    after = judging.likeness(pixels, vae.reconstruct(trainee, pixels, told))
    assert after > before + 0.2
    assert seen == [25, 50, 75, 100]
    assert trainee.curves["step"] == seen
    assert trainee.curves["loss"][-1] < trainee.curves["loss"][0] / 2


def test_the_discriminator_tells_real_from_painted_and_right_from_wrong(tmp_path):
    trainee, lessons, pixels, told = untrained(gan)
    limits = Limits(steps=60, batch=12)
    step = gan.step(trainee, lessons, limits, gan.Recipe(painter_rate=1e-6))
    fitting.fit(trainee, step, limits, tmp_path / "c", lambda *_: None)
    discriminator, model = trainee.modules["discriminator"].eval(), trainee.modules["average"].eval()
    with torch.no_grad():
        scores = model.read(torch.from_numpy(told))
        real = discriminator(to_floats(pixels), scores)
        painted = discriminator(to_floats(painter.sample(model, told, range(12))), scores)
        wrong = discriminator(to_floats(pixels), scores.roll(1, 0))
    assert real.mean() > wrong.mean() + 0.2
    assert real.min() > painted.max()


def test_the_gan_learns_to_paint_what_it_is_told(tmp_path):
    trainee, lessons, pixels, told = untrained(gan)
    before = judging.likeness(pixels, painter.sample(trainee.modules["average"], told, range(12)))
    limits = Limits(steps=120, batch=12)
    step = gan.step(trainee, lessons, limits, gan.Recipe(painter_rate=5e-3))
    fitting.fit(trainee, step, limits, tmp_path / "c", lambda *_: None)
    after = judging.likeness(pixels, painter.sample(trainee.modules["average"], told, range(12)))
    assert after > before + 0.2


def test_a_picture_follows_from_condition_and_seed_alone():
    trainee, _, _, told = untrained()
    model = trainee.modules["painter"].eval()
    together = painter.sample(model, told, range(12))
    alone = np.concatenate([painter.sample(model, told[i : i + 1], [i]) for i in range(12)])
    assert together.dtype == np.uint8
    assert together.shape == (12, 64, 64, 3)
    assert np.array_equal(together, alone)
    assert not np.array_equal(together[0], painter.sample(model, told[:1], [99])[0])
    still = painter.sample(model, told[:1], [1], spread=0), painter.sample(model, told[:1], [2], spread=0)
    assert np.array_equal(*still)


def test_the_axes_are_the_conditions_own():
    rng = np.random.default_rng(0)
    told = (rng.standard_normal((40, 3)) @ rng.standard_normal((3, 16))).astype(np.float32)
    model = Painter(Shape(16, **SMALL))
    model.look_at(told)
    scores = model.read(torch.from_numpy(told)).numpy()
    assert scores.shape == (40, 8)
    assert np.allclose(scores.mean(0), 0, atol=1e-4)
    assert (scores.std(0) > 1e-3).sum() == 3, "no more axes than there are"


def served(file: Path):
    """The generator as `triton_models/image_generator` reads it."""
    return module("image_generator", "painter").Painter(file)


def test_what_is_served_paints_the_same(tmp_path):
    trainee, _, _, told = untrained()
    model = trainee.modules["painter"].eval()
    version = painter.save(model, tmp_path / "vae.safetensors", "stamps-vae", "vae")
    there = served(tmp_path / "vae.safetensors")
    assert there.version == version
    assert there.version.startswith("stamps-vae@")
    assert there.width == 16
    mine = painter.sample(model, told, range(12)).astype(int)
    theirs = np.stack([there.paint(row, seed) for seed, row in enumerate(told)]).astype(int)
    assert np.abs(mine - theirs).max() <= 1
    again = painter.load(tmp_path / "vae.safetensors")
    assert np.array_equal(painter.sample(again, told, range(12)), mine)


def test_other_files_are_no_painters(tmp_path):
    from safetensors.numpy import save_file

    with pytest.raises(PainterError, match=r"gan.safetensors cannot be read"):
        painter.load(tmp_path / "gan.safetensors")
    save_file({"x": np.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(PainterError, match="no painter of format upwell-painter-1: train it anew"):
        painter.load(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="`upwell train other` makes it anew"):
        served(tmp_path / "other.safetensors")


def test_conditions_come_from_a_file(tmp_path):
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    conditioning.write(tmp_path / "fused", ["a", "b", "c"], rows)
    assert conditioning.read(tmp_path / "fused", ["c", "a"]).tolist() == [[4, 5], [0, 1]]
    with pytest.raises(conditioning.ConditionsError, match="fused has no condition for 1 of 2 items, as d"):
        conditioning.read(tmp_path / "fused", ["a", "d"])
    conditioning.write(tmp_path / "bad", ["a"], np.full((1, 2), np.nan, np.float32))
    with pytest.raises(conditioning.ConditionsError, match="finite float32"):
        conditioning.read(tmp_path / "bad", ["a"])
    (tmp_path / "text").write_text("hello")
    with pytest.raises(conditioning.ConditionsError, match="text holds no conditions"):
        conditioning.read(tmp_path / "text", ["a"])
    with pytest.raises(conditioning.ConditionsError, match=r"no image encoder is in .*upwell setup"):
        conditioning.ImageFeatures(tmp_path)


def test_conditions_are_the_fused_vectors_of_whatever_items_have():
    layout = {
        "text": (Part(4, shared=True),),
        "image": (Part(4, shared=True),),
        "audio": (Part(2),),
        "speech": (Part(4),),
    }
    inputs = {name: np.zeros((3, 2 if name == "audio" else 4), np.float32) for name in layout}
    inputs["text"][:, 0], inputs["image"][1, 1] = 1, 1
    present = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]], bool)
    given = Features(["words", "both", "nothing"], inputs, present, layout, {})
    found = conditioning.fused(given, ["both", "words"])
    assert found.dtype == np.float32
    assert np.allclose(found, [[0.5**0.5, 0.5**0.5, 0, 0], [1, 0, 0, 0]], atol=1e-6), "the mean, of unit length"
    assert np.allclose(conditioning.fused(given, ["both"], "image"), [[1, 0, 0, 0]])
    with pytest.raises(conditioning.ConditionsError, match="1 of 2 items have no features, nothing for one"):
        conditioning.fused(given, ["words", "nothing"])


def test_retrieval_is_exact_at_its_ends_and_chance_in_between():
    rng = np.random.default_rng(2)
    real = rng.standard_normal((200, 32)).astype(np.float32)
    assert judging.found_among_ten(real, real) == 1
    assert judging.found_among_ten(real + 7, real) == 1, "what all have in common is taken off"
    assert judging.found_among_ten(-real, real) < 0.01
    strangers = rng.standard_normal((200, 32)).astype(np.float32)
    assert judging.found_among_ten(strangers, real, centred=False) == pytest.approx(0.1, abs=0.05)


def test_baselines_and_likeness():
    pixels, told = discs(12)
    rivals = judging.baselines(pixels[:11], told[:11], np.concatenate([told[3:4] * 2, told[11:]]))
    assert np.array_equal(rivals["nearest_neighbour"][0], pixels[3])
    assert np.array_equal(rivals["mean_image"][0], rivals["mean_image"][1])
    assert judging.likeness(pixels, pixels) == pytest.approx(1)
    assert judging.likeness(pixels, pixels[::-1]) < 0.9


def test_ink_is_what_is_not_white():
    white = np.full((1, 64, 64, 3), 255, np.uint8)
    white[0, :4, :4, 1] = 55
    found = judging.ink(white)
    assert found.shape == (1, 768)
    assert (found[0, 1], found.sum()) == (200, 200)


def test_grids_and_curves_are_pictures(tmp_path):
    pixels, _ = discs(6)
    judging.grid([pixels[:3], pixels[3:5]], tmp_path / "a" / "grid.png")
    judging.curves({"step": [1, 2, 3], "loss": [3, 2, 1], "error": [1, 1, 1]}, tmp_path / "b" / "curves.png", "vae")
    with Image.open(tmp_path / "a" / "grid.png") as grid:
        assert grid.size == (2 * (3 * 66 + 2), 2 * (2 * 66 + 2))
    with Image.open(tmp_path / "b" / "curves.png") as curves:
        assert curves.width > 2 * curves.height


def test_metadata_say_what_it_is():
    about = painter.describe(Painter(Shape(16, **SMALL)), "stamps-gan", "gan")
    assert json.loads(about["shape"])["condition"] == 16
    assert (about["kind"], about["format"]) == ("gan", "upwell-painter-1")
