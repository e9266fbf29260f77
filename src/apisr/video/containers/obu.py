"""Plain AV1 streams (.obu): units that state their sizes (AV1 specification, 5.3)."""

from __future__ import annotations

import mmap
from pathlib import Path

_TEMPORAL_DELIMITER = 2
_HAS_EXTENSION, _HAS_SIZE, _FORBIDDEN = 0x04, 0x02, 0x80


def temporal_units(path: Path) -> tuple[int, int]:
    """Return how many frames are marked, and how many bytes follow a place where the structure breaks.

    A stream whose units do not state their sizes (Annex B) gives (0, 0).
    """
    size = path.stat().st_size
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[0] & _FORBIDDEN or not data[0] & _HAS_SIZE or data[0] >> 3 != _TEMPORAL_DELIMITER:
            return 0, 0
        marks, at = 0, 0
        while at < size:
            head = data[at]
            if head & _FORBIDDEN or not head & _HAS_SIZE:
                return marks, size - at
            marks += head >> 3 == _TEMPORAL_DELIMITER
            length, used = _leb128(data[at + 1 + bool(head & _HAS_EXTENSION) : at + 10])
            end = at + 1 + bool(head & _HAS_EXTENSION) + used + length
            if not used or end > size:
                return marks, size - at
            at = end
        return marks, 0


def _leb128(data: bytes) -> tuple[int, int]:
    """Return a number in groups of seven bits, and how many bytes it takes (0 if it does not end)."""
    value = 0
    for number, byte in enumerate(data):
        value |= (byte & 0x7F) << 7 * number
        if not byte & 0x80:
            return value, number + 1
    return 0, 0
