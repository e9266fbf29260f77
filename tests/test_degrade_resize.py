"""Resizing: torch's definitions, exact sizes, flat pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apisr.core.errors import InputError
from apisr.degrade.ops.resize import MODES, resize

SIZES = [(45, 65), (33, 50), (100, 200), (13, 20), (90, 60), (97, 131), (1, 1), (89, 130)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["area", "bilinear", "bicubic"])
def test_equals_torch_interpolate(mode: str, size: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    picture = np.random.default_rng(1).random((90, 131, 3), dtype=np.float32)
    tensor = torch.from_numpy(picture.transpose(2, 0, 1)[None].copy())
    options: dict[str, Any] = {} if mode == "area" else {"align_corners": False}
    expected = torch.nn.functional.interpolate(tensor, size=size, mode=mode, **options)[0].numpy().transpose(1, 2, 0)
    np.testing.assert_allclose(resize(picture, *size, mode=mode), expected, rtol=0, atol=3e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", SIZES)
def test_area_is_the_mean_of_its_window(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(2).random((90, 131, 3), dtype=np.float32)
    expected = np.empty((*size, 3))
    for row in range(size[0]):
        for column in range(size[1]):
            rows = slice(row * 90 // size[0], -(-(row + 1) * 90 // size[0]))
            columns = slice(column * 131 // size[1], -(-(column + 1) * 131 // size[1]))
            expected[row, column] = picture[rows, columns].mean((0, 1))
    np.testing.assert_allclose(resize(picture, *size, mode="area"), expected, rtol=0, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 60), st.integers(1, 60), st.sampled_from(MODES))
def test_flat_pictures_stay_flat_at_every_size(height: int, width: int, rows: int, columns: int, mode: Any) -> None:
    flat = np.full((height, width, 3), 0.37, np.float32)
    result = resize(flat, rows, columns, mode=mode)
    assert result.shape == (rows, columns, 3)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, 0.37, atol=1e-5)


def test_antialiased_modes_remove_what_plain_ones_alias() -> None:
    stripes = np.tile(np.array([0, 1], np.float32), 64)[None, :, None].repeat(64, 0).repeat(3, 2)
    plain = resize(stripes, 21, 43, mode="bilinear")
    smooth = resize(stripes, 21, 43, mode="bilinear-antialiased")
    assert plain.std() > 5 * smooth.std()


def test_bad_sizes_and_modes_are_refused() -> None:
    picture = np.zeros((4, 4, 3), np.float32)
    with pytest.raises(InputError) as refused:
        resize(picture, 0, 4, mode="area")
    assert refused.value.code == "out-of-range"
    with pytest.raises(InputError) as refused:
        resize(picture, 2, 2, mode="cubic")  # type: ignore[arg-type]
    assert refused.value.code == "out-of-range"
