"""Ogg: what its pages say about what is missing (RFC 3533). It is read only."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

_MARK = b"OggS"
_HEAD = struct.Struct("<4sBBqIIIB")
_BEGIN, _END = 0x02, 0x04
_BLOCK = 1 << 20


@dataclass
class _Stream:
    """Where a stream of pages is."""

    following: int
    ended: bool


def missing_pages(path: Path) -> tuple[int, int]:
    """Return how many pages are missing by their numbers, and how many streams have no last page (a cut off end)."""
    streams: dict[int, _Stream] = {}
    missing = at = 0
    size = path.stat().st_size
    with path.open("rb") as file:
        while at + _HEAD.size <= size:
            file.seek(at)
            mark, _, flags, _, serial, number, _, segments = _HEAD.unpack(file.read(_HEAD.size))
            if mark != _MARK:
                file.seek(at + 1)
                place = file.read(_BLOCK).find(_MARK)
                at += 1 + place if place >= 0 else _BLOCK - len(_MARK)
                continue
            stream = streams.get(serial)
            if stream is not None and not flags & _BEGIN:
                missing += max(0, number - stream.following)
            at += _HEAD.size + segments + sum(file.read(segments))
            streams[serial] = _Stream(number + 1, bool(flags & _END) and at <= size)
    return missing, sum(not stream.ended for stream in streams.values())
