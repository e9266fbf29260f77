"""The flattened picture of Photoshop files of 16 bits a channel, which Pillow does not read.

Layout: Adobe Photoshop File Formats Specification, "File Header Section" and "Image Data Section".

    >>> head = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 1, 1, 2, 16, 1) + bytes(12)
    >>> deep_pixels(head + struct.pack(">HHH", 0, 513, 65535)).ravel().tolist()
    [513, 65535]
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from apisr.image.colour import cmyk_to_rgb, lab_to_rgb
from apisr.image.convert import to_eight_bit
from apisr.image.pack_bits import unpack_bits
from apisr.image.types import ImageInt

_HEADER = struct.Struct(">4sH6xHIIHH")
_GRAY, _RGB, _CMYK, _LAB = 1, 3, 4, 9
#: Channels without transparency, by mode.
_COLOURS = {_GRAY: 1, _RGB: 3, _CMYK: 4, _LAB: 3}
_MODES = {0: "bitmap", _GRAY: "gray", 2: "a palette", _RGB: "RGB", _CMYK: "CMYK", 7: "multichannel", 8: "duotone"}
_MODES[_LAB] = "Lab"
_RAW, _RUNS = 0, 1
_LARGE = 2


def is_deep(head: bytes) -> bool:
    """Whether a file is Photoshop's with 16 bits in a mode that is read here."""
    return len(head) >= _HEADER.size and _HEADER.unpack_from(head)[5] == 16 and _mode(head) in _COLOURS


def kind(head: bytes) -> str:
    """Return what is in a file, for people."""
    return f"{_MODES.get(_mode(head), f'mode {_mode(head)}')}, {_HEADER.unpack_from(head)[5]} bit"


def as_eight_bit(data: bytes) -> bytes:
    """Return the file with a header that says 8 bits, as which Pillow reads everything but the pixels."""
    return data[:22] + b"\0\x08" + data[24:]


def deep_pixels(data: bytes) -> ImageInt:
    """Decode the flattened picture: uint16 gray or RGB, perhaps with alpha; CMYK becomes 8 bits.

    Raises:
        ValueError: it is damaged, or packed in a way that is not read.
    """
    _, version, channels, height, width, _, mode = _HEADER.unpack_from(data)
    at = _HEADER.size
    for wide in (False, False, version == _LARGE):  # palette, resources, layers
        length = 8 if wide else 4
        at += length + int.from_bytes(data[at : at + length], "big")
    colours = _COLOURS[mode]
    kept = min(channels, colours + 1)
    planes = _planes(data, at, (channels, height, width), kept, large=version == _LARGE)
    pixels = np.ascontiguousarray(np.moveaxis(planes, 0, 2)).astype(np.uint16)
    if mode == _LAB:
        return lab_to_rgb(pixels, signed=False)
    if mode == _CMYK:  # more is less ink
        eight = to_eight_bit(pixels)
        return cmyk_to_rgb(np.concatenate([255 - eight[..., :4], eight[..., 4:]], axis=2), None)
    return pixels


def _planes(data: bytes, at: int, shape: tuple[int, int, int], kept: int, *, large: bool) -> NDArray[np.uint16]:
    channels, height, width = shape
    compression = int.from_bytes(data[at : at + 2], "big")
    at += 2
    row_bytes = 2 * width
    if compression == _RAW:
        raw = data[at : at + kept * height * row_bytes]
    elif compression == _RUNS:
        wide = 4 if large else 2
        lengths = np.frombuffer(data, f">u{wide}", channels * height, at)
        at += channels * height * wide
        rows: list[bytes] = []
        for length in lengths[: kept * height].tolist():
            rows.append(unpack_bits(data[at : at + length], row_bytes))
            at += length
        raw = b"".join(rows)
    else:
        raise ValueError(f"its flattened picture is packed in way {compression}")
    if len(raw) != kept * height * row_bytes:
        raise ValueError("its flattened picture is cut off")
    return np.frombuffer(raw, ">u2").reshape(kept, height, width)


def _mode(head: bytes) -> int:
    return int(_HEADER.unpack_from(head)[6])
