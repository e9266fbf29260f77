"""Blur kernels: parity with the reference, sums, symmetry, and filtering against the plain sum."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apisr.core.errors import InputError
from apisr.degrade.ops import kernels

SIZES = st.integers(3, 10).map(lambda half: 2 * half + 1)
SIGMAS = st.floats(0.2, 3.0)
ANGLES = st.floats(-math.pi, math.pi)


@pytest.fixture(scope="module")
def golden(data: Path) -> dict[str, np.ndarray]:
    with np.load(data / "kernels.npz") as arrays:
        return dict(arrays)


def test_kernels_equal_the_reference(golden: dict[str, np.ndarray]) -> None:
    compared = 0
    for row, (size, sigma_x, sigma_y, angle, isotropic) in enumerate(golden["gaussian_params"]):
        arguments = (int(size), sigma_x, None if isotropic else sigma_y)
        made = {f"gaussian.{row}": kernels.gaussian_kernel(*arguments, angle=angle)}
        for column, beta in enumerate(golden["generalized_betas"]):
            made[f"generalized.{row}.{column}"] = kernels.generalized_kernel(*arguments, angle=angle, beta=beta)
        for column, beta in enumerate(golden["plateau_betas"]):
            made[f"plateau.{row}.{column}"] = kernels.plateau_kernel(*arguments, angle=angle, beta=beta)
        for name, kernel in made.items():
            np.testing.assert_allclose(kernel, golden[name], rtol=0, atol=1e-12, err_msg=name)
            compared += 1
    assert compared == 40


def test_sinc_kernels_equal_the_reference(golden: dict[str, np.ndarray]) -> None:
    for row, (cutoff, size) in enumerate(golden["sinc_params"]):
        np.testing.assert_allclose(kernels.sinc_kernel(int(size), cutoff), golden[f"sinc.{row}"], rtol=0, atol=1e-12)


def test_filtering_equals_the_reference(golden: dict[str, np.ndarray]) -> None:
    picture = np.random.default_rng(0).random(tuple(golden["filter2d.seed0_shape"]), dtype=np.float32)
    blurred = kernels.blur(np.ascontiguousarray(picture[0].transpose(1, 2, 0)), golden["filter2d.kernel"])
    np.testing.assert_allclose(blurred.transpose(2, 0, 1), golden["filter2d.y"][0], rtol=0, atol=kernels.TOLERANCE)


@settings(max_examples=40, deadline=None)
@given(SIZES, SIGMAS, SIGMAS, ANGLES, st.floats(0.5, 4.0))
def test_kernels_sum_to_one_and_are_symmetric(size: int, x: float, y: float, angle: float, beta: float) -> None:
    for kernel in (
        kernels.gaussian_kernel(size, x, y, angle=angle),
        kernels.generalized_kernel(size, x, y, angle=angle, beta=beta),
        kernels.plateau_kernel(size, x, y, angle=angle, beta=min(beta, 2.0)),
        kernels.sinc_kernel(size, max(abs(angle), 0.3)),
    ):
        assert kernel.shape == (size, size)
        assert math.isclose(kernel.sum(), 1.0, abs_tol=1e-9)
        np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-12)


def test_beta_one_is_the_gaussian() -> None:
    plain = kernels.gaussian_kernel(15, 1.4, 0.6, angle=0.9)
    np.testing.assert_allclose(kernels.generalized_kernel(15, 1.4, 0.6, angle=0.9, beta=1.0), plain, atol=1e-15)


@settings(max_examples=60, deadline=None)
@given(
    SIZES, SIGMAS, SIGMAS, ANGLES, st.sampled_from(["gaussian", "generalized", "plateau", "sinc"]), st.integers(0, 99)
)
def test_fast_filtering_stays_within_the_tolerance(
    size: int, x: float, y: float, angle: float, family: str, seed: int
) -> None:
    if family == "gaussian":
        kernel = kernels.gaussian_kernel(size, x, y, angle=angle)
    elif family == "generalized":
        kernel = kernels.generalized_kernel(size, x, y, angle=angle, beta=0.5 + x)
    elif family == "plateau":
        kernel = kernels.plateau_kernel(size, x, y, angle=angle, beta=1.0 + y / 3)
    else:
        kernel = kernels.sinc_kernel(size, max(abs(angle), 0.63))
    # A picture of zeros and ones makes the error as large as it can be.
    picture = np.random.default_rng(seed).integers(0, 2, (31, 33, 3)).astype(np.float32)
    half = size // 2
    padded = np.pad(picture.astype(np.float64), ((half, half), (half, half), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(0, 1))
    exact = np.einsum("abcij,ij->abc", windows, kernel)
    assert np.abs(kernels.blur(picture, kernel) - exact).max() <= kernels.TOLERANCE + 1e-6


def test_blur_keeps_the_input() -> None:
    picture = np.random.default_rng(1).random((20, 20, 3), dtype=np.float32)
    before = picture.copy()
    for sigma in (0.2, 2.0):
        result = kernels.blur(picture, kernels.gaussian_kernel(21, sigma))
        assert result is not picture
        np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize(
    "call",
    [
        lambda: kernels.gaussian_kernel(8, 1.0),
        lambda: kernels.gaussian_kernel(7, 0.0),
        lambda: kernels.sinc_kernel(7, 4.0),
    ],
)
def test_bad_kernels_are_refused(call: Callable[[], object]) -> None:
    with pytest.raises(InputError) as refused:
        call()
    assert refused.value.code == "out-of-range"
