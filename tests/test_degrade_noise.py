"""Noise: mean, variance, gray share, and the distribution itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apisr.core.errors import InputError
from apisr.degrade.ops import noise


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(seed))


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("sigma", [1.0, 10.0, 30.0])
def test_gaussian_noise_has_the_right_mean_and_variance(sigma: float, gray: bool) -> None:
    flat = np.full((400, 500, 3), 0.5, np.float32)
    added = (noise.gaussian_noise(flat, sigma=sigma, gray=gray, generator=generator()) - flat) * 255
    count = added[..., 0].size
    assert abs(added.mean()) < 5 * sigma / math.sqrt(count)
    assert added.std() == pytest.approx(sigma, rel=0.01)
    # A normal distribution: kurtosis 3, and the right share beyond two and three sigma.
    assert (added.astype(np.float64) ** 4).mean() / added.astype(np.float64).var() ** 2 == pytest.approx(3, rel=0.05)
    assert (np.abs(added) > 2 * sigma).mean() == pytest.approx(0.0455, rel=0.05)
    assert (np.abs(added) > 3 * sigma).mean() == pytest.approx(0.0027, rel=0.2)
    assert bool((added[..., 0] == added[..., 1]).all()) is gray
    if not gray:
        assert abs(np.corrcoef(added[..., 0].ravel(), added[..., 1].ravel())[0, 1]) < 0.02
    neighbours = np.corrcoef(added[:, :-1, 0].ravel(), added[:, 1:, 0].ravel())[0, 1]
    assert abs(neighbours) < 0.02


@pytest.mark.parametrize("gray", [False, True])
def test_poisson_noise_has_the_variance_of_counting(gray: bool) -> None:
    # A small factor, so that nothing is clipped; all 256 levels, so that there are 256 counts.
    levels = np.linspace(0, 255, 256, dtype=np.uint8)
    picture = np.repeat(levels[:, None], 800, axis=1)[..., None].repeat(3, 2).astype(np.float32) / 255
    added = (noise.poisson_noise(picture, scale=0.05, gray=gray, generator=generator(3)) - picture) / 0.05
    for row in (64, 128, 200):
        expected = row / 255 / 256  # mean counts over counts squared: v n / n^2
        assert added[row].var() == pytest.approx(expected, rel=0.15)
        assert abs(added[row].mean()) < 6 * math.sqrt(expected / 800)
    assert bool((added[..., 0] == added[..., 1]).all()) is gray
    np.testing.assert_array_equal(added[0], 0)  # black stays black


@pytest.mark.parametrize(("level", "counts"), [(3, 256), (40, 256), (255, 256), (128, 16), (200, 2)])
def test_poisson_tables_hold_the_poisson_distribution(level: int, counts: int) -> None:
    row = noise._alias_table(counts).reshape(256, 256)[level]
    keep, alias = (row >> 8) / 256, row & 0xFF
    chance = np.zeros(256)
    np.add.at(chance, np.arange(256), keep / 256)
    np.add.at(chance, alias, (1 - keep) / 256)
    mean = level / 255 * counts
    first = int(noise._first_value(np.array([level], np.uint16), counts)[0])
    values = first + np.arange(256)
    expected = np.exp(values * np.log(mean) - mean - np.array([math.lgamma(value + 1) for value in values]))
    np.testing.assert_allclose(chance, expected, atol=2**-16)
    assert expected.sum() == pytest.approx(1, abs=1e-9)
    assert chance @ values == pytest.approx(mean, rel=1e-3)
    assert chance @ (values - mean) ** 2 == pytest.approx(mean, rel=1e-2)


def test_poisson_counts_follow_the_number_of_levels() -> None:
    # Four levels -> 4 counts: noise in steps of a quarter.
    picture = np.zeros((64, 64, 3), np.float32)
    picture[16:32], picture[32:48], picture[48:] = 85 / 255, 170 / 255, 1.0
    noisy = noise.poisson_noise(picture, scale=1.0, gray=False, generator=generator(1))
    np.testing.assert_allclose(noisy[20] * 4, np.rint(noisy[20] * 4), atol=1e-5)
    assert noisy[20].std() > 0.1


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 60), st.booleans(), st.integers(0, 1000))
def test_noise_keeps_shape_and_range_and_repeats(height: int, width: int, amount: float, gray: bool, seed: int) -> None:
    picture = np.random.default_rng(seed).random((height, width, 3), dtype=np.float32)
    before = picture.copy()
    for function, name in ((noise.gaussian_noise, "sigma"), (noise.poisson_noise, "scale")):
        first = function(picture, gray=gray, generator=generator(seed), **{name: amount})
        second = function(picture, gray=gray, generator=generator(seed), **{name: amount})
        assert first.shape == picture.shape
        assert first.dtype == np.float32
        assert first.min() >= 0
        assert first.max() <= 1
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(picture, before)


def test_negative_noise_is_refused() -> None:
    picture = np.zeros((4, 4, 3), np.float32)
    with pytest.raises(InputError) as refused:
        noise.gaussian_noise(picture, sigma=-1, gray=False, generator=generator())
    assert refused.value.code == "out-of-range"
    with pytest.raises(InputError) as refused:
        noise.poisson_noise(picture, scale=-1, gray=False, generator=generator())
    assert refused.value.code == "out-of-range"
