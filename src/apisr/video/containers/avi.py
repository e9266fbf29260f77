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
