"""How far two blocks of 16x16 pixels are apart, in units of what coding noise may do (for :mod:`apisr.upscale.hold`).

>>> black = np.zeros((1, 16, 16, 3), np.uint8)
>>> bool(differences(black, black)[0] <= 1)
True
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from apisr.image import BT601_LUMA, ImageInt

BLOCK_PX = 16
"""Side of the blocks that are held or follow."""

# Limits in 8-bit code values at quantiser 26 of H.264, luma; measured on held drawings, see docs/hold.md.
LOW_LIMIT = 2.6
_MEAN_LIMIT = 0.9
_PEAK_FLAT = 6.0
_PEAK_PER_RANGE = 0.06
_CHROMA_LOW_LIMIT = 3.5
_CHROMA_PEAK_LIMIT = 10.0

_QUADS = (BLOCK_PX // 2) ** 2

#: The limits are coarser than any choice of weights.
_TO_LUMA = np.array([BT601_LUMA], np.float32)
#: Blue and red, less luma.
_TO_CHROMA = (np.eye(3)[[2, 0]] - BT601_LUMA).astype(np.float32)


def differences(canonical: ImageInt, now: ImageInt, *, most: float = np.inf) -> NDArray[np.float32]:
    """Measure how far blocks are apart, in units of what coding noise may do.

    Args:
        canonical: ``(n, 16, 16, 3)`` uint8 or uint16 RGB.
        now: the same shape and dtype.
        most: beyond this the chroma is not looked at.

    Returns:
        ``(n,)``: the largest of five ratios to their limits: 4x4 means, peak and block mean of the luma difference, 4x4
        means and peak of the chroma difference. At most 1 is coding noise.
    """
    if not len(now):
        return np.zeros(0, np.float32)
    unit = np.float32(1.0 if now.dtype == np.uint8 else 1 / 257)
    luma = _differs_by(canonical, now, _TO_LUMA * unit)
    quads = _quads(luma)
    mean = np.abs(quads.sum(axis=1)) / _QUADS
    green = np.ascontiguousarray(canonical[..., 1]).reshape(len(now), -1)
    spread = (green.max(axis=1).astype(np.float32) - green.min(axis=1)) * unit
    limit = _PEAK_FLAT + _PEAK_PER_RANGE * spread
    ratio: NDArray[np.float32] = np.maximum(_low(quads) / np.float32(LOW_LIMIT), _peak(luma) / limit)
    ratio = np.maximum(ratio, mean / np.float32(_MEAN_LIMIT))
    close = np.flatnonzero(ratio <= most)
    if len(close):
        every = len(close) == len(now)
        chroma = _differs_by(canonical if every else canonical[close], now if every else now[close], _TO_CHROMA * unit)
        found = np.maximum(
            _low(_quads(chroma), 2) / np.float32(_CHROMA_LOW_LIMIT), _peak(chroma) / np.float32(_CHROMA_PEAK_LIMIT)
        )
        ratio[close] = np.maximum(ratio[close], found)
    return ratio


def _differs_by(canonical: ImageInt, now: ImageInt, weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return weighted sums of the difference's channels, ``(n, 16, 16, sums)``, the sums interleaved."""
    shape = (len(now) * BLOCK_PX, BLOCK_PX, 3)
    apart = cv2.subtract(now.reshape(shape), canonical.reshape(shape), dtype=cv2.CV_32F)
    sums = np.asarray(cv2.transform(apart, weights), np.float32)
    return sums.reshape(len(now), BLOCK_PX, BLOCK_PX, len(weights))


def _peak(values: NDArray[np.float32]) -> NDArray[np.float32]:
    rows = values.reshape(len(values), -1)
    return np.maximum(rows.max(axis=1), -rows.min(axis=1))


def _quads(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average 2x2 pixels of blocks (no two blocks share one); returns ``(n, 64 * sums)``, row by row."""
    count, _, _, sums = planes.shape
    half = BLOCK_PX // 2
    tall = planes.reshape(count * BLOCK_PX, BLOCK_PX, sums)
    small = cv2.resize(tall, (half, count * half), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32).reshape(count, -1)


def _low(quads: NDArray[np.float32], sums: int = 1) -> NDArray[np.float32]:
    """Return the largest 4x4 mean, at every second pixel.

    Neighbours are added along whole blocks, which is fast; sums that run from one row into the next are struck out.
    """
    row = BLOCK_PX // 2 * sums
    pairs = quads[:, sums:] + quads[:, :-sums]
    means = pairs[:, row:] + pairs[:, :-row]
    for plane in range(1, sums + 1):
        means[:, row - plane :: row] = 0
    return _peak(np.asarray(means, np.float32)) / np.float32(4)


def luma_thumbs(padded: ImageInt) -> NDArray[np.float32]:
    """Average the luma of 4x4 pixels.

    Args:
        padded: ``(H, W, 3)`` uint8 or uint16, of whole blocks.

    Returns:
        ``(blocks, 16)`` float32 in 8-bit code values, blocks row by row.
    """
    gray = cv2.cvtColor(padded, cv2.COLOR_RGB2GRAY)
    rows, columns = gray.shape[0] // BLOCK_PX, gray.shape[1] // BLOCK_PX
    small = cv2.resize(gray.astype(np.float32), (columns * 4, rows * 4), interpolation=cv2.INTER_AREA)
    small = small.reshape(rows, 4, columns, 4).transpose(0, 2, 1, 3).reshape(-1, 16)
    return np.ascontiguousarray(small * np.float32(1 if gray.dtype == np.uint8 else 1 / 257))


def as_blocks(padded: ImageInt) -> ImageInt:
    """View a picture of whole blocks as ``(rows, columns, 16, 16, 3)``."""
    rows, columns = padded.shape[0] // BLOCK_PX, padded.shape[1] // BLOCK_PX
    return padded.reshape(rows, BLOCK_PX, columns, BLOCK_PX, 3).transpose(0, 2, 1, 3, 4)


def blocks_that_differ(before: ImageInt, now: ImageInt) -> NDArray[np.bool_]:
    """Tell which blocks of two pictures of whole blocks differ in any bit."""
    rows = now.shape[0] // BLOCK_PX
    words = BLOCK_PX * 3 * now.dtype.itemsize // 8
    flips = np.bitwise_xor(
        before.reshape(now.shape[0], -1).view(np.uint64), now.reshape(now.shape[0], -1).view(np.uint64)
    )
    merged = np.bitwise_or.reduce(flips.reshape(rows, BLOCK_PX, -1), axis=1)
    return (merged.reshape(rows, -1, words) != 0).any(axis=2)
