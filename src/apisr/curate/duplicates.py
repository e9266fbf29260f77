"""The same drawing twice: perceptual hashes, and a look at the pictures before they count as equal.

A 64-bit hash of the low frequencies (DCT) finds candidates quickly; hashes alone give false alarms on dark and plain
pictures, therefore candidates are also compared as 32x32 gray pictures.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> picture = cv2.resize(rng.integers(0, 256, (9, 16, 3), dtype=np.uint8), (320, 180))
    >>> one, other = fingerprint(picture), fingerprint(cv2.GaussianBlur(picture, (5, 5), 1))
    >>> same_drawing(one, other)
    True
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from apisr.image.types import ImageU8

#: Hashes that differ in more bits than this are different pictures.
MAX_DISTANCE_BITS = 10
#: Least correlation of the 32x32 gray pictures of duplicates.
MIN_CORRELATION = 0.97
#: Largest mean absolute difference of the 32x32 gray pictures of duplicates, their means removed, of 255.
MAX_DIFFERENCE = 8.0

_SIDE = 32
#: Length of the gray picture behind a fingerprint.
FINGERPRINT_BYTES = _SIDE * _SIDE


@dataclass(frozen=True)
class Fingerprint:
    """A 64-bit perceptual hash and the 32x32 gray picture (bytes) behind it."""

    hash: int
    small: bytes


def fingerprint(picture: ImageU8) -> Fingerprint:
    """Return the fingerprint of RGB ``(H, W, 3)``: signs of the lowest 8x8 DCT terms against their median."""
    gray = cv2.cvtColor(cv2.resize(picture, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    terms = cv2.dct(gray.astype(np.float32))[:8, :8].ravel()
    bits = terms > np.median(terms[1:])
    bits[0] = False
    return Fingerprint(int.from_bytes(np.packbits(bits).tobytes(), "big"), gray.tobytes())


def same_drawing(one: Fingerprint, other: Fingerprint) -> bool:
    """Tell whether two fingerprints are of the same drawing (hash distance, then correlation of the small pictures)."""
    if (one.hash ^ other.hash).bit_count() > MAX_DISTANCE_BITS:
        return False
    first = np.frombuffer(one.small, np.uint8).astype(np.float32)
    second = np.frombuffer(other.small, np.uint8).astype(np.float32)
    first, second = first - first.mean(), second - second.mean()
    if float(np.abs(first - second).mean()) > MAX_DIFFERENCE:
        return False
    norm = float(np.linalg.norm(first) * np.linalg.norm(second))
    return norm < 1e-3 or float(first @ second) / norm >= MIN_CORRELATION


def first_of_each(fingerprints: Sequence[Fingerprint]) -> list[int | None]:
    """Return, for each picture, the position of an earlier picture that it repeats, or None.

    Earlier duplicates are not compared again: every duplicate points at a picture that is kept.
    """
    hashes = np.array([item.hash for item in fingerprints], np.uint64)
    kept = np.zeros(len(fingerprints), bool)
    result: list[int | None] = []
    for number, current in enumerate(fingerprints):
        distances = _bit_counts(hashes[:number] ^ hashes[number])
        candidates = np.flatnonzero(kept[:number] & (distances <= MAX_DISTANCE_BITS))
        ordered = candidates[np.argsort(distances[candidates], kind="stable")]
        original = next((int(other) for other in ordered if same_drawing(fingerprints[other], current)), None)
        kept[number] = original is None
        result.append(original)
    return result


def _bit_counts(values: NDArray[np.uint64]) -> NDArray[np.int64]:
    return np.unpackbits(values.view(np.uint8).reshape(-1, 8), axis=1).sum(1, dtype=np.int64)
