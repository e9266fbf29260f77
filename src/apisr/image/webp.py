"""What the header of a WebP file says, and what it should say (RFC 9649)."""

from __future__ import annotations

import struct

_ALPHA, _ANIMATION = 0x10, 0x02
_FLAGS_AT, _FIRST_CHUNK = 20, 12
_TO_BACKGROUND = 0x01


def canvas_size(data: bytes) -> tuple[int, int]:
    """Return the size of the canvas, which libwebp allocates when it opens a file.

    Raises:
        ValueError: the first chunk is not that of a picture.
    """
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and len(data) >= 30:
        width, height = struct.unpack("<HH", data[26:30])
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError("its first chunk is no picture")


def is_lossy(data: bytes) -> bool:
    """Look for a lossy frame (chunk ``VP8 ``) among the chunks of a WebP file, inside animation frames too."""
    return any(
        kind == b"VP8 " or (kind == b"ANMF" and data[at + 24 : at + 28] in (b"VP8 ", b"ALPH"))
        for kind, at, _ in _chunks(data)
    )


def with_alpha_flag(data: bytes) -> bytes:
    """Return an animation whose header says that it has transparency.

    libwebp leaves the flag out where no frame has an alpha plane of its own, although frames smaller than the canvas
    leave a transparent rim. Decoders that go by the flag show the rim black, browsers do not.
    """
    flagged = bytearray(data)
    if data[12:16] == b"VP8X" and len(data) > _FLAGS_AT:
        flagged[_FLAGS_AT] |= _ALPHA
    return bytes(flagged)


def is_transparent_animation(data: bytes) -> bool:
    """Whether parts of the canvas of an animation are clear: before its first frame, or after one that is disposed."""
    if data[12:16] != b"VP8X" or len(data) <= _FLAGS_AT or not data[_FLAGS_AT] & _ANIMATION:
        return False
    width, height = canvas_size(data)
    frames = [data[at + 8 : at + 24] for kind, at, size in _chunks(data) if kind == b"ANMF" and size >= 16]
    return any(frame[15] & _TO_BACKGROUND for frame in frames[:-1]) or any(
        1 + int.from_bytes(frame[6:9], "little") < width or 1 + int.from_bytes(frame[9:12], "little") < height
        for frame in frames[:1]
    )


def _chunks(data: bytes) -> list[tuple[bytes, int, int]]:
    """Return (name, offset, size) of the chunks."""
    found: list[tuple[bytes, int, int]] = []
    position = _FIRST_CHUNK
    while position + 8 <= len(data):
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        found.append((data[position : position + 4], position, size))
        position += 8 + size + size % 2
    return found
