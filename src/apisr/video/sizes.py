"""Pictures whose size changes inside a stream: noticed from the headers at keyframes, without decoding the video.

Broadcasts and raw streams repeat their headers at every keyframe. Where a header differs from those before it, that one
keyframe is decoded to see how large it is.
"""

from __future__ import annotations

from typing import Any, cast

import av
from av.codec import CodecContext
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext

#: Kind of the unit that holds the picture size: (mask of the byte after the start code, its value).
_HEADER_UNITS = {"h264": (0x1F, 7), "hevc": (0x7E, 66), "mpeg2video": (0xFF, 0xB3), "mpeg1video": (0xFF, 0xB3)}
_START = b"\0\0\1"
_MOST_HEADERS = 32


class SizeWatch:
    """Collects the sizes of the pictures of a stream from its keyframes.

    Args:
        codec: name of the codec; nothing is collected for those without repeated headers.

    Attributes:
        sizes: (width, height) of the parts after the first, in the order of their coming.
    """

    def __init__(self, codec: str) -> None:
        self.sizes: list[tuple[int, int]] = []
        self._codec = codec
        self._headers: set[bytes] = set()

    def look_at(self, packet: av.Packet[Any]) -> None:
        """Look at a keyframe."""
        if self._codec not in _HEADER_UNITS or len(self._headers) >= _MOST_HEADERS:
            return
        header = stream_header(self._codec, bytes(packet))
        if header is None or header in self._headers:
            return
        self._headers.add(header)
        if len(self._headers) > 1:
            size = _decoded_size(self._codec, bytes(packet))
            if size is not None:
                self.sizes.append(size)


def stream_header(codec: str, data: bytes) -> bytes | None:
    """Return the header inside a keyframe that states the picture size, None where there is none."""
    if codec not in _HEADER_UNITS:
        return None
    mask, kind = _HEADER_UNITS[codec]
    at = data.find(_START)
    while at >= 0 and at + 3 < len(data):
        following = data.find(_START, at + 3)
        if data[at + 3] & mask == kind:
            return data[at + 3 : following if following >= 0 else len(data)][:256]
        at = following
    return None


def _decoded_size(codec: str, data: bytes) -> tuple[int, int] | None:
    context = cast(VideoCodecContext, CodecContext.create(codec, "r"))
    try:
        frames = [*context.decode(av.Packet(data)), *context.decode(None)]
    except (FFmpegError, ValueError):
        return None
    return (frames[0].width, frames[0].height) if frames else None
