"""Animated WebP as a video: libav has no decoder for it, so its frames are written once more without loss."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av

from apisr.core.errors import InputError
from apisr.core.files import open_regular
from apisr.image import open_picture
from apisr.video.libav import open_write

_HEAD_BYTES = 21
#: Milliseconds, in which WebP counts.
_UNIT = Fraction(1, 1000)
#: Browsers show a frame of no length this long.
_SHORTEST_MS = 10


def is_animated_webp(path: Path) -> bool:
    """Whether the header of a file says that it is a WebP animation."""
    try:
        with open_regular(path) as file:
            head = file.read(_HEAD_BYTES)
    except (OSError, InputError):  # whoever opens it next says why
        return False
    animated = head[8:16] == b"WEBPVP8X" and len(head) == _HEAD_BYTES and bool(head[20] & 0x02)
    return head[:4] == b"RIFF" and animated


def video_of_webp(path: Path) -> tempfile.TemporaryDirectory[str]:
    """Write an animation as a lossless video with the same times; return the folder that holds it alone.

    The folder is removed with the object.

    Raises:
        InputError: it cannot be read.
    """
    folder = tempfile.TemporaryDirectory(prefix="apisr-webp-")
    with (
        open_picture(path) as picture,
        open_write(video_in(folder), format="mov", options={"video_track_timescale": "1000"}) as out,
    ):
        stream = out.add_stream("png", rate=1000)
        stream.width, stream.height = picture.info.width, picture.info.height
        stream.pix_fmt = "rgba" if picture.info.channels == 4 else "rgb24"
        stream.codec_context.time_base = _UNIT
        moment = 0
        for frame in picture.frames():
            length = max(_SHORTEST_MS, round(frame.duration_ms))
            shown = av.VideoFrame.from_ndarray(cast(Any, frame.pixels), format=stream.pix_fmt)
            shown.pts, shown.duration, shown.time_base = moment, length, _UNIT
            for packet in stream.encode(shown):
                packet.duration = length
                out.mux(packet)
            moment += length
        out.mux(stream.encode(None))
    return folder


def video_in(folder: tempfile.TemporaryDirectory[str]) -> Path:
    """Return the video in a folder of :func:`video_of_webp`."""
    return Path(folder.name) / "animation.mov"
