"""Whether a picture file ends where it says that it does: downloads that broke off, disks that filled up with zeros.

Decoders are content when the pixels are there, and some when they are not: nobody misses the frames, pages and texts
behind them. These numbers stand in the files themselves and do not come from the decoders. PNG and GIF are taken apart
by us, and tell it on the way.

    >>> cut_off(io.BytesIO(b"RIFF" + (100).to_bytes(4, "little") + b"WEBP"), "WEBP")
    'the file is cut off (it states 108 bytes and has 12): parts of it may be missing'
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO

_QOI_END = bytes(7) + b"\1"
_JPEG2000_END = b"\xff\xd9"
_CODESTREAM = b"\xff\x4f\xff\x51"
_PSD_HEAD_BYTES, _PACK_BITS = 26, 1
_ICO_ENTRY_BYTES = 16
#: Bytes of a value, by TIFF's number of its type.
_TIFF_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_MOST_PAGES = 100_000


def cut_off(file: BinaryIO, format_name: str) -> str | None:
    """Return what is missing at the end of a file by its own words; None where nothing is, or it has no such words.

    Args:
        file: the picture; its position is left anywhere.
        format_name: as :func:`apisr.image.formats.sniff_format` names it.
    """
    check = _CHECKS.get(format_name)
    if check is None:
        return None
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    try:
        return check(file, size)
    except struct.error:  # it ends inside a number
        return ends_early("it ends inside a table")


def ends_early(detail: str) -> str:
    """Return the notice about a file whose end is missing."""
    return f"the file is cut off ({detail}): parts of it may be missing"


def _shorter(stated: int, size: int) -> str | None:
    return ends_early(f"it states {stated} bytes and has {size}") if stated > size else None


def _webp(file: BinaryIO, size: int) -> str | None:
    return _shorter(8 + struct.unpack("<4xI", file.read(8))[0], size)


def _bmp(file: BinaryIO, size: int) -> str | None:
    kind, stated = struct.unpack("<2sI", file.read(6))
    return _shorter(stated, size) if kind == b"BM" else None


def _ico(file: BinaryIO, size: int) -> str | None:
    count = struct.unpack("<4xH", file.read(6))[0]
    entries = struct.iter_unpack("<8xII", file.read(_ICO_ENTRY_BYTES * count))
    return _shorter(max((length + offset for length, offset in entries), default=0), size)


def _qoi(file: BinaryIO, size: int) -> str | None:
    file.seek(max(0, size - len(_QOI_END)))
    return None if file.read() == _QOI_END else ends_early("its end mark is missing")


def _jpeg2000(file: BinaryIO, size: int) -> str | None:
    end = next((at + length for kind, at, length in _boxes(file, size) if kind == b"jp2c"), size)
    if end > size:
        return _shorter(end, size)
    file.seek(max(0, end - 2))
    return None if file.read(2) == _JPEG2000_END else ends_early("its end mark is missing")


def _boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, offset, length) of the boxes of a JP2 file; none of a bare code stream."""
    if file.read(4) == _CODESTREAM:
        return
    at = 0
    while at + 8 <= size:
        file.seek(at)
        length, kind = struct.unpack(">I4s", file.read(8))
        if length == 1:
            length = struct.unpack(">Q", file.read(8))[0]
        length = length or size - at
        yield kind, at, length
        at += max(8, length)


def _psd(file: BinaryIO, size: int) -> str | None:
    """Compare the rows of the flattened picture with what is there; they are packed, and their lengths stand first."""
    channels, height = struct.unpack(">12xHI8x", file.read(_PSD_HEAD_BYTES))
    for _ in range(3):  # colours, resources, layers
        file.seek(struct.unpack(">I", file.read(4))[0], io.SEEK_CUR)
    if struct.unpack(">H", file.read(2))[0] != _PACK_BITS:
        return None
    table = file.read(2 * channels * height)
    rows = sum(length for (length,) in struct.iter_unpack(">H", table))
    return _shorter(file.tell() + rows, size)


def _tiff(file: BinaryIO, size: int) -> str | None:
    """Follow the directories of all pages; the place of the next one, or of a value, may lie behind the end."""
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = struct.unpack(order + "H", head[2:4])[0] == 43
    word, count_of, entry = ("Q", "Q", "HHQQ") if big else ("I", "H", "HHII")
    inline = struct.calcsize("<" + word)
    at = struct.unpack_from(order + word, head, 8 if big else 4)[0]
    visited: set[int] = set()
    while at and at not in visited and len(visited) < _MOST_PAGES:
        visited.add(at)
        if at + inline > size:
            return ends_early(f"page {len(visited)} stands at byte {at} of {size}")
        file.seek(at)
        count = struct.unpack(order + count_of, file.read(struct.calcsize("<" + count_of)))[0]
        table = file.read(min(size, count * struct.calcsize("<" + entry)))
        for _, kind, values, place in struct.iter_unpack(order + entry, table):
            length = values * _TIFF_BYTES.get(kind, 1)
            if length > inline and place + length > size:
                return ends_early(f"values of page {len(visited)} stand behind its end")
        at = struct.unpack(order + word, file.read(inline))[0]
    return None


_CHECKS: dict[str, Callable[[BinaryIO, int], str | None]] = {
    "WEBP": _webp,
    "BMP": _bmp,
    "ICO": _ico,
    "QOI": _qoi,
    "JPEG 2000": _jpeg2000,
    "PSD": _psd,
    "TIFF": _tiff,
}
