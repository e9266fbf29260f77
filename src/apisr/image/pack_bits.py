r"""Runs of bytes as TIFF and Photoshop pack them (PackBits).

>>> unpack_bits(bytes([1, 7, 8, 254, 9]), 5)
b'\x07\x08\t\t\t'
"""

from __future__ import annotations


def unpack_bits(codes: bytes, size: int) -> bytes:
    """Unpack at most `size` bytes; fewer where the codes end before."""
    result = bytearray()
    at = 0
    while at < len(codes) and len(result) < size:
        head = codes[at]
        if head < 128:
            result += codes[at + 1 : at + 2 + head]
            at += 2 + head
        else:
            result += codes[at + 1 : at + 2] * ((257 - head) % 129)  # 128 says nothing
            at += 1 + (head != 128)
    return bytes(result[:size])
