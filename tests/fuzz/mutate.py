"""Damage bytes in ways that files are damaged: flipped bits, lost and doubled stretches, absurd numbers, cut ends.

>>> import random
>>> mutate(b"a long enough picture", random.Random(3)) != b"a long enough picture"
True
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable

#: Numbers that headers are not prepared for.
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_HEADER_BYTES = 300
_PNG = b"\x89PNG\r\n\x1a\n"


def mutate(content: bytes, draw: random.Random) -> bytes:
    """Return a damaged copy of a file; one to three damages, more often near its head than elsewhere.

    The checksums of every other damaged PNG are put right, so that the damage reaches what is behind them.
    """
    damaged = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        if damaged:
            draw.choice(_MUTATORS)(damaged, draw)
    if damaged[:8] == _PNG and draw.random() < 0.5:
        return _with_checksums(bytes(damaged))
    return bytes(damaged)


def _with_checksums(png: bytes) -> bytes:
    position, parts = 8, [png[:8]]
    while position + 12 <= len(png):
        end = position + 8 + int.from_bytes(png[position : position + 4], "big")
        body = png[position + 4 : end]
        parts.append(png[position : position + 4] + body + zlib.crc32(body).to_bytes(4, "big"))
        position = end + 4
    return b"".join(parts)


def _place(content: bytearray, draw: random.Random) -> int:
    end = min(len(content), _HEADER_BYTES) if draw.random() < 0.6 else len(content)
    return draw.randrange(max(1, end))


def _flip(content: bytearray, draw: random.Random) -> None:
    for _ in range(draw.randint(1, 12)):
        content[_place(content, draw)] ^= 1 << draw.randrange(8)


def _number(content: bytearray, draw: random.Random) -> None:
    size, order = draw.choice((1, 2, 4)), draw.choice(("little", "big"))
    value = draw.choice(_EXTREMES) & ((1 << 8 * size) - 1)
    at = _place(content, draw)
    content[at : at + size] = value.to_bytes(size, order)


def _cut(content: bytearray, draw: random.Random) -> None:
    del content[draw.randrange(len(content)) :]


def _lose(content: bytearray, draw: random.Random) -> None:
    at = _place(content, draw)
    del content[at : at + draw.randint(1, max(1, len(content) // 4))]


def _double(content: bytearray, draw: random.Random) -> None:
    at = _place(content, draw)
    content[at:at] = content[at : at + draw.randint(1, max(1, len(content) // 4))]


def _noise(content: bytearray, draw: random.Random) -> None:
    at = _place(content, draw)
    length = draw.randint(1, 64)
    content[at : at + length] = draw.randbytes(length)


def _zeros(content: bytearray, draw: random.Random) -> None:
    at = _place(content, draw)
    length = draw.randint(1, 512)
    content[at : at + length] = bytes(min(length, len(content) - at))


_MUTATORS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip,
    _flip,
    _number,
    _number,
    _number,
    _cut,
    _lose,
    _double,
    _noise,
    _zeros,
)
