"""Transport streams: of broadcasts (.ts) and of Blu-ray discs (.m2ts)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from apisr.video.containers.base import Container

# What Blu-ray numbers its streams by; anything else would be written as private data that no one can read back.
_BLU_RAY = Container(
    "mpegts",
    video=frozenset({"h264", "hevc", "mpeg2video"}),
    audio=frozenset({"pcm_bluray", "ac3", "eac3", "dts", "truehd"}),
    subtitle=frozenset({"hdmv_pgs_subtitle"}),
    options=(("mpegts_copyts", "1"), ("mpegts_m2ts_mode", "1")),
)
ENTRIES = {
    ".ts": Container(
        "mpegts",
        # MPEG-4 part 2 needs its header in the stream, which libav's muxer does not put there.
        video=frozenset({"h264", "hevc", "mpeg2video", "mpeg1video", "vvc"}),
        audio=frozenset({"aac", "aac_latm", "mp2", "mp3", "mp1", "ac3", "eac3", "dts", "truehd", "opus", "s302m"}),
        subtitle=frozenset({"dvb_subtitle"}),
        data=frozenset({"timed_id3", "klv", "scte_35"}),
        options=(("mpegts_copyts", "1"),),
    ),
    ".m2ts": _BLU_RAY,
    ".mts": _BLU_RAY,
}

_SYNC = 0x47
_SIZES = (188, 192, 204)
_BLU_RAY_STEP, _BLU_RAY_HEADER = 192, 4
Bytes = NDArray[np.uint8]
_CHUNK_PACKETS = 1 << 16


def stray_bytes(path: Path) -> tuple[int, int]:
    """Return how many bytes inside a file, and how many at its end, do not belong to whole packets.

    Every packet begins with the same byte at the same distance. libav passes over what does not fit in silence.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        step, at = _raster(np.frombuffer(file.read(64 * max(_SIZES)), np.uint8))
        if not step:
            return 0, 0
        mark = _BLU_RAY_HEADER if step == _BLU_RAY_STEP else 0  # where in a packet the byte is
        strays = at
        while at + step <= size:
            file.seek(at)
            block = np.frombuffer(file.read(step * min(_CHUNK_PACKETS, (size - at) // step)), np.uint8)
            marks = block[mark::step] == _SYNC
            whole = marks.size if marks.all() else int(np.argmin(marks))
            at += whole * step
            if whole < marks.size:
                lost = _to_next(block[whole * step + mark :], step)
                strays += lost
                at += lost
    return strays, size - at


def _to_next(block: Bytes, step: int) -> int:
    """Return how far it is to the next place from which the raster goes on."""
    places = np.flatnonzero(block[: max(0, block.size - step)] == _SYNC)
    return next((int(place) for place in places if place and block[place + step] == _SYNC), block.size)


def _raster(head: Bytes) -> tuple[int, int]:
    """Return (distance of packets, offset of the first), (0, 0) where there is no raster.

    The first packets may be damaged, so that it begins later.
    """
    for start in np.flatnonzero(head == _SYNC).tolist():
        for step in _SIZES:
            marks = head[start::step][:4]
            if marks.size >= 3 and (marks == _SYNC).all():
                return step, max(0, start - _BLU_RAY_HEADER) if step == _BLU_RAY_STEP else start
    return 0, 0
