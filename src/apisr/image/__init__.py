"""Pictures: files <-> arrays <-> network tensors. Nothing else in the package opens or saves a picture.

Reading is in :mod:`apisr.image.read`, writing in :mod:`apisr.image.write`, the table of formats in
:mod:`apisr.image.formats`, the words (arrays, frames, metadata) in :mod:`apisr.image.types`.
"""

from __future__ import annotations

from apisr.image.convert import (
    BT601_LUMA,
    Resampling,
    check_floats,
    from_float,
    from_tensor,
    over_white,
    resize,
    to_float,
    to_tensor,
)
from apisr.image.find import find_pictures
from apisr.image.formats import (
    FORMATS,
    check_format,
    check_lossless,
    format_of,
    frames_kept,
    has_quality,
    losses,
    output_suffix,
)
from apisr.image.read import PictureSource, open_picture, read_picture, read_rgb
from apisr.image.reduced import rgb_and_losses, rgb_losses
from apisr.image.stream import FrameWriter
from apisr.image.types import (
    Frame,
    FrameKind,
    ImageF32,
    ImageInt,
    ImageU8,
    ImageU16,
    Metadata,
    Picture,
    PictureInfo,
    TextEntry,
)
from apisr.image.write import open_writer, write_picture

__all__ = [
    "BT601_LUMA",
    "FORMATS",
    "Frame",
    "FrameKind",
    "FrameWriter",
    "ImageF32",
    "ImageInt",
    "ImageU16",
    "ImageU8",
    "Metadata",
    "Picture",
    "PictureInfo",
    "PictureSource",
    "Resampling",
    "TextEntry",
    "check_floats",
    "check_format",
    "check_lossless",
    "find_pictures",
    "format_of",
    "frames_kept",
    "from_float",
    "from_tensor",
    "losses",
    "open_picture",
    "open_writer",
    "has_quality",
    "output_suffix",
    "over_white",
    "read_picture",
    "read_rgb",
    "resize",
    "rgb_and_losses",
    "rgb_losses",
    "to_float",
    "to_tensor",
    "write_picture",
]
