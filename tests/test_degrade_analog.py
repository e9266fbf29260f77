"""Artifacts of discs and analogue video: each kind does what it says, in range, and nothing at strength 0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apisr.core.errors import InputError
from apisr.degrade.ops import analog


@pytest.fixture(scope="module")
def picture(data: Path) -> np.ndarray:
    with np.load(data / "lines.npz") as arrays:
        return arrays["0.input_rgb"].astype(np.float32) / 255


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(seed))


def luma(values: np.ndarray) -> np.ndarray:
    return values @ np.array([0.299, 0.587, 0.114], np.float32)


@pytest.mark.parametrize("kind", analog.KINDS)
def test_artifacts_change_the_picture_with_strength(kind: Any, picture: np.ndarray) -> None:
    changes = [
        float(np.abs(analog.artifact(picture, kind, strength=strength, generator=generator(4)) - picture).mean())
        for strength in (0.0, 0.3, 1.0)
    ]
    assert changes[0] < 1e-5, changes
    assert changes[0] < changes[1] < changes[2], changes
    result = analog.artifact(picture, kind, strength=1.0, generator=generator(4))
    assert result.shape == picture.shape
    assert result.dtype == np.float32
    assert result.min() >= 0
    assert result.max() <= 1


@pytest.mark.parametrize("kind", analog.KINDS)
def test_flat_pictures_have_no_artifacts(kind: Any) -> None:
    for colour in ((0.5, 0.5, 0.5), (0.8, 0.2, 0.3)):
        flat = np.full((48, 64, 3), colour, np.float32)
        result = analog.artifact(flat, kind, strength=1.0, generator=generator(1))
        np.testing.assert_allclose(result, flat, atol=1e-4)


def test_chroma_shift_leaves_luma_alone(picture: np.ndarray) -> None:
    muted = 0.25 + picture * 0.5  # far from the ends, so that nothing is clipped
    shifted = analog.artifact(muted, "chroma-shift", strength=1.0, generator=generator())
    np.testing.assert_allclose(luma(shifted), luma(muted), atol=2e-3)


def test_rainbows_need_no_colour() -> None:
    columns = 0.5 + 0.3 * np.sin(2 * np.pi / analog.CARRIER_PERIOD_PX * np.arange(96))
    gray = np.repeat(np.repeat(columns[None, :, None], 64, 0), 3, 2).astype(np.float32)
    result = analog.artifact(gray, "rainbow", strength=1.0, generator=generator())
    assert np.abs(result[..., 0] - result[..., 2]).max() > 0.05


def test_dot_crawl_needs_colour() -> None:
    rows = np.repeat(np.array([0.2, 0.8], np.float32), 32)
    gray = np.repeat(np.repeat(rows[:, None, None], 64, 1), 3, 2)
    np.testing.assert_allclose(analog.artifact(gray, "dot-crawl", strength=1.0, generator=generator()), gray, atol=1e-4)
    coloured = gray.copy()
    coloured[32:] = (0.8, 0.2, 0.2)
    result = luma(analog.artifact(coloured, "dot-crawl", strength=1.0, generator=generator()))
    edge = result[30:35]
    assert edge.std(axis=1).max() > 0.02  # a pattern along the edge
    assert result[:24].std() < 1e-3


def test_halos_overshoot_across_vertical_edges_only() -> None:
    steps = np.zeros((32, 64, 3), np.float32) + 0.3
    steps[:, 32:] = 0.7
    sharpened = analog.artifact(steps, "halos", strength=1.0, generator=generator())
    assert sharpened.max() > 0.72
    assert sharpened.min() < 0.28
    turned = np.ascontiguousarray(steps.transpose(1, 0, 2))
    np.testing.assert_allclose(analog.artifact(turned, "halos", strength=1.0, generator=generator()), turned, atol=1e-4)


def test_interlacing_combs_or_softens(picture: np.ndarray) -> None:
    combed = softened = 0
    for seed in range(12):
        result = luma(analog.artifact(picture, "interlacing", strength=1.0, generator=generator(seed)))
        even_changed = np.abs(result[::2] - luma(picture)[::2]).mean()
        if even_changed < 1e-4:
            combed += 1
        else:
            softened += 1
            assert np.abs(np.diff(result, axis=0)).mean() < np.abs(np.diff(luma(picture), axis=0)).mean()
    assert combed
    assert softened


def test_bad_requests_are_refused(picture: np.ndarray) -> None:
    for kind, strength in (("halos", 2), ("rain", 1)):
        with pytest.raises(InputError) as caught:
            analog.artifact(picture, kind, strength=strength, generator=generator())  # type: ignore[arg-type]
        assert caught.value.code == "out-of-range"
