"""NUT: libav's own format, which carries nearly everything that libav knows; and what its index says about its end.

The index at the end of a file states the time of the last packet. It is found from the end and has a number of its own,
so that damage before it does not hide it. (Format: the NUT specification of MPlayer and FFmpeg.)
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from apisr.video.containers.base import Container

# Video codecs that have a mark in the muxer; ProRes has none.
_VIDEO = frozenset(
    {
        *("h264", "hevc", "av1", "vp8", "vp9", "vvc", "mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v2", "msmpeg4v3"),
        *("ffv1", "ffvhuff", "huffyuv", "mjpeg", "png", "rawvideo", "theora", "utvideo", "wmv1", "wmv2", "wmv3", "vc1"),
    }
)
ENTRIES = {".nut": Container("nut", video=_VIDEO, audio=None, subtitle=frozenset(), chapters=True)}

_MAIN = bytes.fromhex("4e4d7a561f5f04ad")
_INDEX = bytes.fromhex("4e58dd672f23e64e")
_HEAD_BYTES, _TAIL_BYTES = 4096, 12


def last_time_s(path: Path) -> Fraction | None:
    """Return the time in seconds of the last packet of a file as its index states it, None without an index."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        file.seek(max(0, size - _TAIL_BYTES))
        distance = int.from_bytes(file.read(8), "big")
        if not _TAIL_BYTES < distance <= size:
            return None
        file.seek(size - distance)
        index = file.read(min(distance, _HEAD_BYTES))
    bases = _time_bases(head)
    if not index.startswith(_INDEX) or not bases:
        return None
    _, at = _number(index, len(_INDEX))
    last, _ = _number(index, at)
    return last // len(bases) * bases[last % len(bases)]


def _time_bases(head: bytes) -> list[Fraction]:
    """Return the units of time that the main header lists."""
    at = head.find(_MAIN)
    if at < 0:
        return []
    _, at = _number(head, at + len(_MAIN))  # length of the header
    version, at = _number(head, at)
    if version > 3:
        _, at = _number(head, at)  # minor version
    _, at = _number(head, at)  # streams
    _, at = _number(head, at)  # largest distance
    count, at = _number(head, at)
    bases: list[Fraction] = []
    while len(bases) < count and at < len(head):
        numerator, at = _number(head, at)
        denominator, at = _number(head, at)
        if not denominator:
            return []
        bases.append(Fraction(numerator, denominator))
    return bases


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of variable length (seven bits a byte) and where it ends."""
    value = 0
    while at < len(data):
        value = value << 7 | data[at] & 0x7F
        at += 1
        if not data[at - 1] & 0x80:
            break
    return value, at
