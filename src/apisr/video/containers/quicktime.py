"""MP4 and QuickTime: what they carry, and the few things of a file that libav does not pass on.

The clean aperture (``clap``) says which part of the picture is shown. It stands in the sample description of a track:
ISO/IEC 14496-12, 12.1.4. libav passes it on to its own programs only.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import BinaryIO

from apisr.video.containers.base import PCM, Container

_FAST_START = (("movflags", "+faststart"),)
#: TrueHD in MP4 is "experimental" to libav; it is read back whole.
_EXPERIMENTAL = (("strict", "experimental"),)
_MP4 = Container(
    "mp4",
    video=frozenset({"h264", "hevc", "av1", "vp9", "mpeg4", "mpeg2video", "mpeg1video", "vvc", "mjpeg", "ffv1"}),
    audio=frozenset(
        {
            *("aac", "mp3", "mp2", "ac3", "eac3", "dts", "opus", "alac", "flac", "vorbis", "truehd"),
            *(f"pcm_{kind}" for kind in ("s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "f32le", "f32be")),
            *("pcm_f64le", "pcm_f64be"),
        }
    ),
    subtitle=frozenset({"mov_text", "dvd_subtitle"}),
    cover=True,
    chapters=True,
    options=_FAST_START + _EXPERIMENTAL,
)
ENTRIES = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": Container(
        "mov",
        video=frozenset(
            {"h264", "hevc", "prores", "mpeg4", "mpeg2video", "mjpeg", "dnxhd", "png", "qtrle", "rawvideo"}
        ),
        audio=PCM
        | {
            *("aac", "mp3", "mp2", "ac3", "eac3", "alac", "amr_nb", "amr_wb", "adpcm_ima_qt", "gsm", "mace3"),
            "mace6",
        },
        subtitle=frozenset({"mov_text"}),
        chapters=True,
        options=_FAST_START,
    ),
}

#: That of libav, and that of Smooth Streaming, beyond which no player need be able to count; units of a second.
_LEAST_TIMESCALE, _MOST_TIMESCALE = 1000, 10_000_000
_MOST_UNITS = (1 << 31) - 1

_TO_TABLE = (b"mdia", b"minf", b"stbl", b"stsd")
_FULL_BOX = 4
"""Bytes of version and flags; the sample description has the number of its entries after them."""
_VISUAL_ENTRY = 78
"""Bytes of a visual sample entry before the boxes inside it."""
_SIZE_IN_ENTRY = 24

Box = tuple[bytes, int, int]
"""Name, start of the content, end of the content."""


def movie_timescale(units: Sequence[Fraction], starts: Sequence[Fraction], length_s: Fraction) -> int:
    """Return how many units of a second an edit list counts, so that streams begin exactly where they do.

    It holds every unit where that fits, else where the streams begin, else where the first of them does.

    Args:
        units: seconds of one unit of the times of each stream.
        starts: seconds at which each stream begins.
        length_s: of the whole, whose count of units must stay within 32 bits.

    >>> movie_timescale([Fraction(1, 12288), Fraction(1, 48000)], [], Fraction(60))
    1536000
    >>> movie_timescale([Fraction(1, 12288), Fraction(1, 44100)], [Fraction(1, 12)], Fraction(7200))
    3000
    """
    most = min(_MOST_TIMESCALE, int(_MOST_UNITS / max(1, length_s)))
    for moments in (units, starts, starts[:1]):
        scale = lcm(*(moment.denominator for moment in moments))
        scale = scale if scale >= _LEAST_TIMESCALE else lcm(scale, _LEAST_TIMESCALE)
        if scale <= most:
            return scale
    return _LEAST_TIMESCALE


def clean_aperture(path: Path) -> tuple[int, int, int, int]:
    """Return how many pixels of the first video track are not shown: (top, bottom, left, right)."""
    with path.open("rb") as file:
        for _, start, end in _named(file, 0, path.stat().st_size, b"moov"):
            for _, inside, last in _named(file, start, end, b"trak"):
                if _handler(file, inside, last) == b"vide":
                    return _of_track(file, inside, last)
    return 0, 0, 0, 0


def declared_end(path: Path) -> int | None:
    """Return the offset at which the boxes of the file end, None where they do not say."""
    end = None
    size = path.stat().st_size
    with path.open("rb") as file:
        at = 0
        while at + 8 <= size:
            file.seek(at)
            head = file.read(16)
            length = int.from_bytes(head[:4], "big")
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            if length < 8:
                break
            at += length
            end = at
    return end


def empty_tail(path: Path) -> int:
    """Return how many bytes at the end of a file in fragments are no boxes (a download that is filled with zeros)."""
    with path.open("rb") as file:
        size = path.stat().st_size
        boxes = list(_boxes(file, 0, size))
        end = next((start - 8 for name, start, _ in boxes if not any(name)), boxes[-1][2] if boxes else 0)
        return size - end if any(name == b"moof" for name, _, _ in boxes) else 0


def joined_files(path: Path) -> int:
    """Return how many movies that are complete in themselves (not in fragments) follow one another in a file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        movies = [(start, end) for _, start, end in _named(file, 0, size, b"moov")]
        return sum(next(_named(file, start, end, b"mvex"), None) is None for start, end in movies)


def differing_tables(path: Path) -> list[str]:
    """Return, for each video track whose tables contradict each other, how many samples they speak of, in words.

    Every sample has a time; a table of reorderings may end early, but not go on after the last sample.
    """
    found: list[str] = []
    with path.open("rb") as file:
        for _, start, end in _named(file, 0, path.stat().st_size, b"moov"):
            for _, track, stop in _named(file, start, end, b"trak"):
                counts = _table_counts(file, track, stop) if _handler(file, track, stop) == b"vide" else {}
                sizes = counts.get("sizes")
                if sizes is not None and (counts.get("times") != sizes or counts.get("reorderings", 0) > sizes):
                    found.append(", ".join(f"{number} {name}" for name, number in counts.items()))
    return found


def _table_counts(file: BinaryIO, start: int, end: int) -> dict[str, int]:
    """Return how many samples the tables of a track speak of."""
    for name in (b"mdia", b"minf", b"stbl"):
        box = next(_named(file, start, end, name), None)
        if box is None:
            return {}
        _, start, end = box
    counts: dict[str, int] = {}
    for name, at, stop in _boxes(file, start, end):
        file.seek(at + _FULL_BOX)
        content = file.read(stop - at - _FULL_BOX)
        if name == b"stsz" and len(content) >= 8:
            counts["sizes"] = int.from_bytes(content[4:8], "big")
        elif name in (b"stts", b"ctts") and len(content) >= 4:
            entries = min(int.from_bytes(content[:4], "big"), (len(content) - 4) // 8)
            runs = struct.unpack_from(f">{2 * entries}I", content, 4)[::2]
            counts["times" if name == b"stts" else "reorderings"] = sum(runs)
    return counts


def _of_track(file: BinaryIO, start: int, end: int) -> tuple[int, int, int, int]:
    for name in _TO_TABLE:
        found = next(_named(file, start, end, name), None)
        if found is None:
            return 0, 0, 0, 0
        _, start, end = found
    for _, entry, last in _boxes(file, start + _FULL_BOX + 4, end):
        file.seek(entry + _SIZE_IN_ENTRY)
        width, height = struct.unpack(">HH", file.read(4))
        for _, at, stop in _named(file, entry + _VISUAL_ENTRY, last, b"clap"):
            if stop - at >= 32:
                file.seek(at)
                return _margins(width, height, file.read(32))
        break
    return 0, 0, 0, 0


def _margins(width: int, height: int, record: bytes) -> tuple[int, int, int, int]:
    """Turn size and offset of the shown part into margins; (0, 0, 0, 0) where they are no whole pixels inside."""
    numbers = struct.unpack(">IIIIiIiI", record)
    if 0 in numbers[1::2]:
        return 0, 0, 0, 0
    shown_width, shown_height, right_of, below = (Fraction(numbers[at], numbers[at + 1]) for at in range(0, 8, 2))
    left = (width - shown_width) / 2 + right_of
    top = (height - shown_height) / 2 + below
    margins = top, height - shown_height - top, left, width - shown_width - left
    if any(margin < 0 or margin.denominator != 1 for margin in margins) or not shown_width or not shown_height:
        return 0, 0, 0, 0
    return int(margins[0]), int(margins[1]), int(margins[2]), int(margins[3])


def _handler(file: BinaryIO, start: int, end: int) -> bytes:
    for _, inside, last in _named(file, start, end, b"mdia"):
        for _, at, _ in _named(file, inside, last, b"hdlr"):
            file.seek(at + _FULL_BOX + 4)
            return file.read(4)
    return b""


def _named(file: BinaryIO, start: int, end: int, name: bytes) -> Iterator[Box]:
    return (box for box in _boxes(file, start, end) if box[0] == name)


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[Box]:
    at = start
    while at + 8 <= end:
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return
        size, name = struct.unpack(">I4s", head[:8])
        content = at + 8
        if size == 1 and len(head) == 16:
            size, content = struct.unpack(">Q", head[8:])[0], at + 16
        elif size == 0:
            size = end - at
        if size < content - at:
            return
        yield name, content, min(at + size, end)
        at += size
