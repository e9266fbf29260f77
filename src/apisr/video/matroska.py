"""The few things of a Matroska file that libav does not pass on: its declared end, and the crop of its video.

Element numbers and meanings are those of RFC 9559.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_HEADER, _SEGMENT, _CLUSTER, _TRACKS, _ENTRY = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE
_TRACK_TYPE, _VIDEO = 0x83, 0xE0
_CROPS = {0x54BB: "top", 0x54AA: "bottom", 0x54CC: "left", 0x54DD: "right"}
_VIDEO_TRACK = 1


def declared_end(path: Path) -> int | None:
    """Return the offset at which the file says that it ends, None if it does not say."""
    with path.open("rb") as file:
        for number, start, size in _elements(file, 0, path.stat().st_size):
            if number == _SEGMENT:
                return None if size is None else start + size
            if number != _HEADER:
                return None
    return None


def video_crop(path: Path) -> tuple[int, int, int, int]:
    """Return how many pixels of the first video track are not shown: (top, bottom, left, right)."""
    limit = path.stat().st_size
    with path.open("rb") as file:
        for number, start, size in _elements(file, 0, limit):
            if number != _SEGMENT:
                continue
            for inner, at, length in _elements(file, start, limit if size is None else min(limit, start + size)):
                if inner == _CLUSTER:
                    break
                if inner == _TRACKS and length is not None:
                    return _first_video(file, at, at + length)
            break
    return 0, 0, 0, 0


def _first_video(file: BinaryIO, start: int, end: int) -> tuple[int, int, int, int]:
    for number, entry, size in _elements(file, start, end):
        if number != _ENTRY or size is None:
            continue
        kind = 0
        crops = dict.fromkeys(_CROPS.values(), 0)
        for inner, at, length in _elements(file, entry, entry + size):
            if inner == _TRACK_TYPE:
                kind = _value(file, at, length)
            elif inner == _VIDEO and length is not None:
                for detail, place, width in _elements(file, at, at + length):
                    if detail in _CROPS:
                        crops[_CROPS[detail]] = _value(file, place, width)
        if kind == _VIDEO_TRACK:
            return crops["top"], crops["bottom"], crops["left"], crops["right"]
    return 0, 0, 0, 0


def _elements(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int | None]]:
    """Yield (number, start of content, size of content or None if unknown) of the elements between two offsets."""
    at = start
    while at + 2 <= end:
        file.seek(at)
        head = file.read(12)
        if not head or not head[0]:
            return
        width = 9 - head[0].bit_length()
        if width > 4 or len(head) <= width or not head[width]:
            return
        number = int.from_bytes(head[:width], "big")
        length = 9 - head[width].bit_length()
        raw = int.from_bytes(head[width : width + length], "big")
        value = raw & ((1 << (7 * length)) - 1)
        content = at + width + length
        if value == (1 << (7 * length)) - 1:
            yield number, content, None
            return
        yield number, content, value
        at = content + value


def _value(file: BinaryIO, at: int, size: int | None) -> int:
    file.seek(at)
    return int.from_bytes(file.read(min(8, size or 0)), "big")
