"""Gaussian and Poisson noise, in colour and in gray (paper 4.1; as in Real-ESRGAN).

Normal values come from a table of 65,536 equally likely ones (they reach 4.3 sigma, in steps far below an 8-bit level).
Poisson noise is shot noise: the picture in 8-bit levels is scaled to ``n`` counts, where ``n`` is the number of
different levels in it rounded up to a power of two, and counted again. Since there are at most 256 levels, every level
has one table (Walker's alias method), so that a draw costs one random number and one look-up; the distribution is the
Poisson distribution in multiples of 2^-16.

    >>> import numpy as np
    >>> gray = np.full((64, 64, 3), 0.5, np.float32)
    >>> noisy = gaussian_noise(gray, sigma=10, gray=True, generator=np.random.default_rng(0))
    >>> bool((noisy[..., 0] == noisy[..., 2]).all()), bool(abs(noisy.std() * 255 - 10) < 0.5)
    (True, True)
"""

from __future__ import annotations

import functools
import statistics
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from apisr.core.errors import InputError
from apisr.image import ImageF32

_BAND_VALUES = 1 << 16
_BINS = 256


def gaussian_noise(picture: ImageF32, *, sigma: float, gray: bool, generator: np.random.Generator) -> ImageF32:
    """Add normal noise and clip.

    Args:
        picture: ``(H, W, 3)`` float32 in [0, 1].
        sigma: standard deviation in 8-bit levels (of 255).
        gray: the same noise in all channels.
        generator: source of randomness.

    Returns:
        A new array, float32 in [0, 1].

    Raises:
        InputError: `sigma` is negative.
    """
    if sigma < 0:
        raise InputError(f"noise of {sigma} levels is out of range. Give 0 or more.", code="out-of-range")
    normal = _normal_table()
    result = np.empty_like(picture)
    for band in _bands(picture):
        part = picture[band]
        bits = generator.integers(0, 1 << 16, part.shape[:2] if gray else part.shape, dtype=np.uint16)
        noise = normal.take(bits)
        _add(part, noise, sigma / 255, result[band])
    return result


def poisson_noise(picture: ImageF32, *, scale: float, gray: bool, generator: np.random.Generator) -> ImageF32:
    """Add `scale` times the Poisson noise of the picture's own brightness, and clip.

    Args:
        picture: ``(H, W, 3)`` float32 in [0, 1].
        scale: factor of the noise (1 is the counting noise itself).
        gray: noise of the luma (BT.601), the same in all channels.
        generator: source of randomness.

    Returns:
        A new array, float32 in [0, 1].

    Raises:
        InputError: `scale` is negative.
    """
    if scale < 0:
        raise InputError(f"noise scale {scale} is out of range. Give 0 or more.", code="out-of-range")
    source = cast("ImageF32", cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)) if gray else picture
    levels = cast("NDArray[np.uint8]", cv2.addWeighted(source, 255.0, source, 0.0, 0.0, dtype=cv2.CV_8U))
    used = int(np.count_nonzero(cv2.calcHist([levels.reshape(-1)], [0], None, [256], [0, 256])))
    counts = 1 << (used - 1).bit_length()
    table = _alias_table(counts)
    result = np.empty_like(picture)
    for band in _bands(picture):
        level = levels[band]
        bits = generator.integers(0, 1 << 16, level.shape, dtype=np.uint16)
        bins = bits >> np.uint16(8)
        place = level.astype(np.uint16)
        first = _first_value(place, counts)
        noise = np.multiply(place, np.float32(-1 / 255), dtype=np.float32)
        place <<= np.uint16(8)
        place |= bins
        entry = table.take(place)
        bits &= np.uint16(0xFF)
        chosen = np.where(bits < entry >> np.uint16(8), bins, entry & np.uint16(0xFF))
        chosen += first
        noise += np.multiply(chosen, np.float32(1 / counts), dtype=np.float32)
        _add(picture[band], noise, scale, result[band])
    return result


def _bands(picture: ImageF32) -> list[slice]:
    """Cut the rows into bands small enough for the processor's cache."""
    rows = max(1, _BAND_VALUES // (picture.shape[1] * picture.shape[2]))
    return [slice(top, top + rows) for top in range(0, picture.shape[0], rows)]


def _add(part: ImageF32, noise: ImageF32, factor: float, out: ImageF32) -> None:
    noise *= np.float32(factor)
    if noise.ndim == 2:
        noise = cast("ImageF32", cv2.merge([noise, noise, noise]))
    np.add(part, noise, out=out)
    np.clip(out, 0, 1, out=out)


@functools.lru_cache(maxsize=1)
def _normal_table() -> ImageF32:
    """Make the 65,536 equally likely values of a normal distribution, with variance 1."""
    inverse = statistics.NormalDist().inv_cdf
    half = np.array([inverse((index + 0.5) / 65536) for index in range(32768)])
    values = np.concatenate([half, -half[::-1]])
    return (values / values.std()).astype(np.float32)


def _first_value(level: NDArray[np.uint16], counts: int) -> NDArray[np.uint16]:
    """Return the count that bin 0 of each level stands for: 128 or so below the mean, at least 0."""
    if counts < _BINS:
        return np.zeros_like(level)
    return np.maximum(level, np.uint16(127)) - np.uint16(127)


@functools.lru_cache(maxsize=9)
def _alias_table(counts: int) -> NDArray[np.uint16]:
    """Make the alias tables of all 256 levels: entries of threshold (8 bits) and alias (8 bits)."""
    table = np.empty((256, _BINS), np.uint16)
    starts = _first_value(np.arange(256, dtype=np.uint16), counts)
    for level in range(256):
        mean, start = level / 255 * counts, int(starts[level])
        values = np.arange(start, start + _BINS)
        if mean == 0:
            chance = (values == 0).astype(np.float64)
        else:
            chance = np.exp(values * np.log(mean) - mean - _log_factorial(start, _BINS))
        table[level] = _alias_row(chance / chance.sum())
    return table.reshape(-1)


def _log_factorial(start: int, count: int) -> NDArray[np.float64]:
    sums = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, start + count)))])
    return sums[start : start + count]


def _alias_row(chance: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Make one alias table of a distribution rounded to multiples of 2^-16.

    A bin is chosen by 8 bits and is kept if 8 more bits are below its threshold. A threshold holds 0 to 255, so a
    bin that is always kept refers to itself.
    """
    units = np.floor(chance * 65536).astype(int)
    rest = chance * 65536 - units
    units[np.argsort(-rest, kind="stable")[: 65536 - units.sum()]] += 1
    left = units.tolist()
    alias = list(range(_BINS))
    keep = [0] * _BINS
    small = [index for index, value in enumerate(left) if value < 256]
    large = [index for index, value in enumerate(left) if value >= 256]
    while small and large:
        low, high = small.pop(), large[-1]
        keep[low], alias[low] = left[low], high
        left[high] -= 256 - left[low]
        if left[high] < 256:
            small.append(large.pop())
    return (np.array(keep, np.uint16) << np.uint16(8)) | np.array(alias, np.uint16)
