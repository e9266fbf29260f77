"""Gaussian and Poisson noise, in colour and in gray (paper 4.1; as in Real-ESRGAN).

Poisson noise is shot noise: the picture in 8-bit levels is scaled to ``n`` counts, where ``n`` is the number of
different levels in it rounded up to a power of two, and counted again. Since there are at most 256 levels, every level
has one table (Walker's alias method), so that a draw costs one random number and one look-up; the distribution is the
Poisson distribution to 24 bits.

    >>> import numpy as np
    >>> gray = np.full((64, 64, 3), 0.5, np.float32)
    >>> noisy = gaussian_noise(gray, sigma=10, gray=True, generator=np.random.default_rng(0))
    >>> bool((noisy[..., 0] == noisy[..., 2]).all()), bool(abs(noisy.std() * 255 - 10) < 0.5)
    (True, True)
"""

from __future__ import annotations

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

from apisr.errors import InputError
from apisr.image import Floats

_CHUNK = 1 << 16
_BINS = 256


def gaussian_noise(picture: Floats, *, sigma: float, gray: bool, generator: np.random.Generator) -> Floats:
    """Add normal noise and clip.

    Args:
        picture: ``(H, W, 3)`` float32 in [0, 1].
        sigma: standard deviation in 8-bit levels (of 255).
        gray: the same noise in all channels.
        generator: source of randomness.

    Returns:
        A new array, float32 in [0, 1].
    """
    if sigma < 0:
        raise InputError(f"noise of {sigma} levels is out of range. Give 0 or more.")
    shape = picture.shape[:2] if gray else picture.shape
    noise = generator.standard_normal(shape, dtype=np.float32)
    return _added(picture, noise, sigma / 255)


def poisson_noise(picture: Floats, *, scale: float, gray: bool, generator: np.random.Generator) -> Floats:
    """Add `scale` times the Poisson noise of the picture's own brightness, and clip.

    Args:
        picture: ``(H, W, 3)`` float32 in [0, 1].
        scale: factor of the noise (1 is the counting noise itself).
        gray: noise of the gray picture (weights 0.299, 0.587, 0.114), the same in all channels.
        generator: source of randomness.

    Returns:
        A new array, float32 in [0, 1].
    """
    if scale < 0:
        raise InputError(f"noise scale {scale} is out of range. Give 0 or more.")
    source = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) if gray else picture
    levels = np.asarray(cv2.addWeighted(source, 255.0, source, 0.0, 0.0, dtype=cv2.CV_8U))
    flat = levels.reshape(-1)
    used = int(np.count_nonzero(cv2.calcHist([flat], [0], None, [256], [0, 256])))
    counts = 1 << (used - 1).bit_length()
    table, first = _alias_tables(counts)
    offset = (first / counts - np.arange(256) / 255).astype(np.float32)
    noise = np.empty(flat.size, np.float32)
    unit = np.float32(1 / counts)
    for start in range(0, flat.size, _CHUNK):
        level = flat[start : start + _CHUNK]
        bits = generator.integers(0, 1 << 32, level.size, dtype=np.uint32)
        place = bits >> 24
        place |= level.astype(np.uint32) << 8
        entry = table.take(place)
        bits &= 0xFFFFFF
        chosen = np.where(bits < entry >> 8, place, entry).astype(np.uint8)  # the low byte of either
        part = noise[start : start + _CHUNK]
        np.multiply(chosen, unit, out=part)
        part += offset.take(level)
    return _added(picture, noise.reshape(source.shape), scale)


def _added(picture: Floats, noise: Floats, factor: float) -> Floats:
    if noise.ndim == 2:
        noise = np.asarray(cv2.merge([noise, noise, noise]))
    noise *= np.float32(factor)
    noise += picture
    return np.clip(noise, 0, 1, out=noise)


@functools.lru_cache(maxsize=9)
def _alias_tables(counts: int) -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
    """Make the alias tables of all 256 levels: entries ``threshold (24 bits) << 8 | alias``, and the first value of each."""
    table = np.empty((256, _BINS), np.uint32)
    first = np.zeros(256)
    for level in range(256):
        mean = level / 255 * counts
        first[level] = start = max(0, round(mean) - _BINS // 2)
        values = np.arange(start, start + _BINS)
        if mean == 0:
            chance = (values == 0).astype(np.float64)
        else:
            logarithm = values * np.log(mean) - mean - _log_factorial(start, _BINS)
            chance = np.exp(logarithm)
        table[level] = _alias_row(chance / chance.sum())
    return table.reshape(-1), first


def _log_factorial(start: int, count: int) -> NDArray[np.float64]:
    sums = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, start + count)))])
    return sums[start : start + count]


def _alias_row(chance: NDArray[np.float64]) -> NDArray[np.uint32]:
    rest = (chance * _BINS).tolist()
    alias = list(range(_BINS))
    keep = [1.0] * _BINS
    small = [index for index, value in enumerate(rest) if value < 1]
    large = [index for index, value in enumerate(rest) if value >= 1]
    while small and large:
        low, high = small.pop(), large[-1]
        keep[low], alias[low] = rest[low], high
        rest[high] -= 1 - rest[low]
        if rest[high] < 1:
            small.append(large.pop())
    threshold = np.minimum(np.rint(np.array(keep) * (1 << 24)), (1 << 24) - 1).astype(np.uint32)
    return threshold << 8 | np.array(alias, np.uint32)
