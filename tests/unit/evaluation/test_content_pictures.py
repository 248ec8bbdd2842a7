"""Posters against pictures, and distances of sets of features: exact where it can be worked out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm
from skimage.data import astronaut

from upwell.content.poster import poster
from upwell.evaluation.content_pictures import frechet, likeness


def test_a_poster_without_style_keeps_its_picture():
    picture = astronaut()
    plain, noisy = poster(picture, "").pixels, poster(picture, "").pixels.copy()
    ssim, psnr = likeness(plain, picture)
    assert ssim == pytest.approx(1)
    assert psnr == np.inf
    noisy[:] = np.clip(noisy + np.random.default_rng(1).normal(0, 40, noisy.shape), 0, 255)
    worse, lower = likeness(noisy, picture)
    assert worse < 0.8
    assert lower < 20


def test_lettering_below_the_picture_does_not_count():
    picture = astronaut()
    small = picture[200:300, 200:300]
    assert likeness(poster(small, "A title", "and a line below it").pixels, small)[0] == pytest.approx(1, abs=0.01)


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match="960, 640"):
        likeness(np.zeros((10, 10, 3), np.uint8), astronaut())


def test_frechet_is_the_published_formula():
    rng = np.random.default_rng(5)
    ones = rng.normal(size=(60, 6)).astype(np.float32) @ rng.normal(size=(6, 6)).astype(np.float32)
    others = rng.normal(size=(45, 6)).astype(np.float32) + 0.5
    c1, c2 = (np.cov(rows.astype(np.float64), rowvar=False) for rows in (ones, others))
    gap = np.square(ones.mean(0, dtype=np.float64) - others.mean(0, dtype=np.float64)).sum()
    published = gap + np.trace(c1 + c2 - 2 * np.real(sqrtm(c1 @ c2)))
    assert frechet(ones, others) == pytest.approx(published, rel=1e-4)
    assert frechet(ones, ones) == pytest.approx(0, abs=1e-3)


def test_frechet_of_fewer_pictures_than_features():
    rng = np.random.default_rng(6)
    ones, others = (rng.normal(size=(20, 300)).astype(np.float32) for _ in range(2))
    assert frechet(ones, others + 3) > frechet(ones, others) > 0
