"""Program streams (.mpg, .vob): packs and packets that state their lengths, one after another without a gap."""

from __future__ import annotations

import mmap
from pathlib import Path

_START = b"\0\0\1"
_PACK, _END = b"\0\0\1\xba", 0xB9
_FIRST_PACKET = 0xBB
#: So many zeros between packs, or behind the last, may be there to fill a sector.
_SECTOR_BYTES = 2048


def stray_bytes(path: Path) -> tuple[int, int]:
    """Return how many bytes do not belong to whole packets, and how many are missing of the last one.

    libav passes over what does not fit in silence, and is content with a part of the last packet.
    """
    size = path.stat().st_size
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        strays, at = 0, 0
        while at + 4 <= size:
            length = _length(data, at)
            if not length:
                found = data.find(_PACK, at + 1)
                found = size if found < 0 else found
                padding = found - at <= _SECTOR_BYTES and not any(data[at:found])
                strays += 0 if padding else found - at
                at = found
                continue
            at += length
        return strays, max(0, at - size)


def _length(data: mmap.mmap, at: int) -> int:
    """Return the length of the pack header or packet at a place, 0 if there is none."""
    head = data[at : at + 14]
    if not head.startswith(_START):
        return 0
    if head[3] == _PACK[3]:
        return 14 + (head[13] & 7) if len(head) > 13 and head[4] >> 6 == 1 else 12
    if head[3] == _END:
        return 4
    return 6 + int.from_bytes(head[4:6], "big") if head[3] >= _FIRST_PACKET else 0
