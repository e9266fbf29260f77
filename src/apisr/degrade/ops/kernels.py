"""Blur kernels and blurring (paper 4.1; the families are those of Real-ESRGAN).

Four families, all square with an odd side and a sum of 1: Gaussian, generalised Gaussian, plateau-shaped, and the sinc
(circular low-pass) that leaves ringing. With ``m(x)`` the squared Mahalanobis distance ``x' C^-1 x``:

    Gaussian     exp(-m / 2)
    generalised  exp(-m^beta / 2)
    plateau      1 / (1 + m^beta)
    sinc         cutoff * J1(cutoff * r) / (2 pi r)

Blurring chooses the cheapest exact way for each kernel: cut off what is nowhere visible, then a direct filter, or a
sum of separable filters (singular value decomposition). The error stays below :data:`TOLERANCE` of the full range.

    >>> import numpy as np
    >>> kernel = gaussian_kernel(21, 1.2, 0.7, angle=0.5)
    >>> kernel.shape, round(float(kernel.sum()), 9)
    ((21, 21), 1.0)
    >>> flat = np.full((8, 9, 3), 0.25, np.float32)
    >>> bool(np.allclose(blur(flat, kernel), 0.25, atol=1e-4))
    True
"""

from __future__ import annotations

import functools
import math
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from apisr.core.errors import InputError
from apisr.image import ImageF32

Kernel = NDArray[np.float64]

#: Largest difference between :func:`blur` and the exact sum, as a part of the full range (1/40 of an 8-bit level).
TOLERANCE = 1e-4


def gaussian_kernel(size: int, sigma_x: float, sigma_y: float | None = None, *, angle: float = 0.0) -> Kernel:
    """Make a Gaussian kernel ``(size, size)``, float64, sum 1.

    Args:
        size: odd side in pixels.
        sigma_x: standard deviation along the first axis, in pixels.
        sigma_y: along the second axis; `sigma_x` where not given (isotropic).
        angle: rotation in radians.

    Raises:
        InputError: a width is not above 0.
    """
    return _normalised(np.exp(-0.5 * _mahalanobis(size, sigma_x, sigma_y, angle)))


def generalized_kernel(
    size: int, sigma_x: float, sigma_y: float | None = None, *, angle: float = 0.0, beta: float
) -> Kernel:
    """Make a generalised Gaussian kernel; `beta` 1 is the Gaussian, smaller has a peak and long tails.

    The other arguments are those of :func:`gaussian_kernel`.

    Raises:
        InputError: a width is not above 0.
    """
    return _normalised(np.exp(-0.5 * _mahalanobis(size, sigma_x, sigma_y, angle) ** beta))


def plateau_kernel(
    size: int, sigma_x: float, sigma_y: float | None = None, *, angle: float = 0.0, beta: float
) -> Kernel:
    """Make a plateau-shaped kernel ``1 / (1 + m^beta)``; larger `beta` is flatter with steeper sides.

    The other arguments are those of :func:`gaussian_kernel`; ``m`` is the squared Mahalanobis distance from the middle.

    Raises:
        InputError: a width is not above 0.
    """
    return _normalised(1.0 / (1.0 + _mahalanobis(size, sigma_x, sigma_y, angle) ** beta))


def sinc_kernel(size: int, cutoff: float) -> Kernel:
    """Make a circular low-pass kernel.

    Args:
        size: odd side in pixels.
        cutoff: angular frequency in radians a pixel, above 0 and at most pi.

    Raises:
        InputError: the frequency is out of range.
    """
    if not 0 < cutoff <= math.pi:
        raise InputError(
            f"cut-off {cutoff} is out of range. Give a frequency above 0 and at most pi.", code="out-of-range"
        )
    offsets = _offsets(size)
    squares = offsets[:, None] ** 2 + offsets[None, :] ** 2
    values, places = np.unique(squares, return_inverse=True)
    radius = np.sqrt(values)
    profile = np.empty_like(radius)
    profile[0] = cutoff**2 / (4 * math.pi)
    profile[1:] = cutoff * _bessel_j1(cutoff * radius[1:]) / (2 * math.pi * radius[1:])
    return _normalised(profile[places].reshape(size, size))


def blur(picture: ImageF32, kernel: Kernel | ImageF32) -> ImageF32:
    """Filter every channel with `kernel` (correlation, mirrored borders without repeating the edge pixel).

    Args:
        picture: ``(H, W, C)`` or ``(H, W)`` float32.
        kernel: odd sides.

    Returns:
        A new array of the same shape, float32, within :data:`TOLERANCE` of the exact sum for pictures in [0, 1].
    """
    cut = _cut(np.asarray(kernel, np.float64))
    if cut.shape == (1, 1):
        return picture.copy()
    terms = _separated(cut.tobytes(), cut.shape[0])
    if terms is None:
        flat = cut.astype(np.float32)
        return cast("ImageF32", cv2.filter2D(picture, cv2.CV_32F, flat, borderType=cv2.BORDER_REFLECT_101))
    total: Any = None
    for column, row in terms:
        part = cv2.sepFilter2D(picture, cv2.CV_32F, row, column, borderType=cv2.BORDER_REFLECT_101)
        total = part if total is None else cv2.add(total, part, dst=total)
    return total


def _mahalanobis(size: int, sigma_x: float, sigma_y: float | None, angle: float) -> Kernel:
    offsets = _offsets(size)
    sigma_y = sigma_x if sigma_y is None else sigma_y
    if sigma_x <= 0 or sigma_y <= 0:
        raise InputError(
            f"kernel widths {sigma_x} and {sigma_y} are out of range. Give values above 0.", code="out-of-range"
        )
    across, down = offsets[None, :], offsets[:, None]
    cosine, sine = math.cos(angle), math.sin(angle)
    along = (cosine * across + sine * down) / sigma_x
    beside = (cosine * down - sine * across) / sigma_y
    return along**2 + beside**2


def _offsets(size: int) -> Kernel:
    if size < 1 or size % 2 == 0:
        raise InputError(f"kernel size {size} is not odd. Give 1, 3, 5, ...", code="out-of-range")
    return np.arange(size, dtype=np.float64) - size // 2


def _normalised(kernel: Kernel) -> Kernel:
    return kernel / kernel.sum()


def _bessel_j1(x: Kernel) -> Kernel:
    """Bessel function of the first kind, order 1, by its integral; the rule converges geometrically for x below ~60."""
    count = 128
    theta = (np.arange(count) + 0.5) * (math.pi / count)
    return np.cos(theta[None, :] - x[:, None] * np.sin(theta)[None, :]).mean(axis=1)


def _cut(kernel: Kernel) -> Kernel:
    """Take rings off the outside as long as what is lost stays below a quarter of the tolerance."""
    total = np.abs(kernel).sum()
    while min(kernel.shape) > 1:
        inner = kernel[1:-1, 1:-1]
        if total - np.abs(inner).sum() > TOLERANCE / 4:
            break
        kernel = inner
    return kernel / kernel.sum()


@functools.lru_cache(maxsize=64)
def _separated(data: bytes, size: int) -> list[tuple[ImageF32, ImageF32]] | None:
    """Write a kernel as a sum of column x row products, or None where filtering directly takes less time.

    All kernels here equal themselves turned by half a turn, so that every singular vector is even or odd; made exactly
    so, OpenCV needs half of the multiplications.
    """
    kernel = np.frombuffer(data).reshape(size, size)
    # Milliseconds for 1280x720 in colour on one core: direct (through Fourier space above 11x11), one separable term.
    direct = 1.5 + 0.085 * size**2 if size <= 11 else 38.0
    term = 1.9 + 0.22 * size
    left, strengths, right = np.linalg.svd(kernel)
    rest = kernel.copy()
    terms: list[tuple[ImageF32, ImageF32]] = []
    for index in range(min(int(direct / term), size)):
        root = math.sqrt(strengths[index])
        column, row = _even_or_odd(left[:, index] * root), _even_or_odd(right[index] * root)
        terms.append((column.astype(np.float32), row.astype(np.float32)))
        rest = rest - np.outer(column, row)
        if np.abs(rest).sum() <= TOLERANCE / 2:
            return terms
    return None


def _even_or_odd(vector: Kernel) -> Kernel:
    turned = vector[::-1]
    even, odd = (vector + turned) / 2, (vector - turned) / 2
    return even if np.abs(odd).max() <= np.abs(even).max() else odd
