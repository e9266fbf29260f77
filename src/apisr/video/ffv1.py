"""Checksums of FFV1: damage that the decoder conceals without a word.

A frame of FFV1 version 3 (RFC 9043) is a row of slices. Each ends with its size in three bytes and, where the stream
has checksums, with an error byte and a CRC-32 over the whole slice, whose remainder is 0. The slices are found from the
end of the packet; only one of the two forms of the footer leads back to its first byte.
"""

from __future__ import annotations

import zlib

_SIZE_BYTES = 3
_CHECKED_FOOTER = 8
_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


def damaged_slices(packet: bytes) -> int:
    """Return how many slices of a packet fail their checksum; 0 where the stream has no checksums.

    >>> damaged_slices(b"")
    0
    """
    slices = _slices(packet)
    return sum(_remainder(packet[start:end]) != 0 for start, end in slices)


def _slices(packet: bytes) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    end = len(packet)
    while end > _CHECKED_FOOTER:
        at = end - _CHECKED_FOOTER
        start = at - int.from_bytes(packet[at : at + _SIZE_BYTES], "big")
        if start < 0 or start == at:
            return []
        found.append((start, end))
        end = start
    return found if end == 0 else []


def _remainder(data: bytes) -> int:
    """Return the CRC-32 (polynomial 0x04C11DB7, first bit first, no inversion) by way of zlib's mirrored one."""
    return zlib.crc32(data.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
