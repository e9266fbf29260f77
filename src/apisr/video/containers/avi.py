"""AVI: what it carries, and the size that its header declares."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from apisr.video.containers.base import Container

ENTRIES = {
    ".avi": Container(
        "avi",
        video=frozenset({"h264", "mpeg4", "mpeg2video", "mpeg1video", "mjpeg", "ffv1", "huffyuv", "ffvhuff"}),
        audio=frozenset(
            {
                *("mp3", "mp2", "ac3", "dts", "aac", "wmav1", "wmav2", "wmapro", "adpcm_ms", "adpcm_ima_wav"),
                *("gsm_ms", "flac", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_u8", "pcm_f32le", "pcm_alaw"),
                "pcm_mulaw",
            }
        ),
        subtitle=frozenset(),
        variable_rate=False,
    )
}


def declared_end(path: Path) -> int | None:
    """Return the offset at which the first RIFF chunk says that it ends, None if it does not say."""
    with path.open("rb") as file:
        head = file.read(8)
    size = int.from_bytes(head[4:8], "little")
    return size + 8 if size else None


def joined_files(path: Path) -> int:
    """Return how many AVI files follow one another in a file (further parts of one file have another name)."""
    count, at, size = 0, 0, path.stat().st_size
    with path.open("rb") as file:
        while at + 12 <= size:
            file.seek(at)
            name, length, kind = struct.unpack("<4sI4s", file.read(12))
            if name != b"RIFF":
                break
            count += kind == b"AVI "
            at += 8 + length + length % 2
    return count


def index_problem(path: Path) -> str | None:
    """Return what is wrong with the index of a file, None if nothing is or it has none.

    Only what shifts or overwrites the bytes of a file moves its chunks away from where the index says.
    """
    with path.open("rb") as file:
        movie, index = _movie_and_index(file, path.stat().st_size)
        if index is None:
            return "it holds something that is not a chunk"
        entries = [struct.unpack_from("<4sIII", index, at) for at in range(0, len(index) - 15, 16)]
        base = next((base for base in (movie, 0) if entries and _is_chunk(file, base, entries[0])), None)
        displaced = 0 if base is None else sum(not _is_chunk(file, base, entry) for entry in entries)
        return f"{displaced} of {len(entries)} chunks are not where the index says" if displaced else None


def _movie_and_index(file: BinaryIO, end: int) -> tuple[int, bytes | None]:
    """Return the offset that the index counts from, and its content: empty if there is none, None at a break."""
    movie, at = 0, 12
    while at + 12 <= end:
        file.seek(at)
        name, size, kind = struct.unpack("<4sI4s", file.read(12))
        if name == b"LIST" and kind == b"movi":
            movie = at + 8
        elif name == b"idx1" and movie:
            file.seek(at + 8)
            return movie, file.read(min(size, end - at - 8))
        elif not name.strip().isalnum():
            return movie, None
        at += 8 + size + size % 2
    return movie, b""


def _is_chunk(file: BinaryIO, base: int, entry: tuple[bytes, int, int, int]) -> bool:
    file.seek(base + entry[2])
    return file.read(8) == entry[0] + struct.pack("<I", entry[3])


#: Sound whose chunks are frames; the header counts frames, and a sample has no size of its own.
FRAMED_AUDIO = frozenset({"mp1", "mp2", "mp3", "ac3", "eac3", "dts", "aac"})
_LENGTH_AT, _SAMPLE_SIZE_AT = 32, 44


def correct_sound_headers(path: Path, frames: Mapping[int, int]) -> None:
    """Write length and sample size of streams whose chunks are frames.

    libav copies a block size from the source and then counts such streams in bytes, by the scale of frames.

    Args:
        path: the finished file.
        frames: number of chunks by number of the stream.
    """
    with path.open("r+b") as file:
        for number, header in enumerate(_stream_headers(file, path.stat().st_size)):
            if number in frames:
                file.seek(header + _LENGTH_AT)
                file.write(struct.pack("<I", frames[number]))
                file.seek(header + _SAMPLE_SIZE_AT)
                file.write(struct.pack("<I", 0))


def _stream_headers(file: BinaryIO, end: int) -> Iterator[int]:
    """Yield the offsets of the contents of the ``strh`` chunks, in the order of the streams."""
    at = 12
    while at + 12 <= end:
        file.seek(at)
        name, size, kind = struct.unpack("<4sI4s", file.read(12))
        if name == b"LIST" and kind in (b"hdrl", b"strl"):
            at += 12  # into the list
            continue
        if name == b"LIST":
            return
        if name == b"strh":
            yield at + 8
        at += 8 + size + size % 2
