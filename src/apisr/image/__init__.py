"""Pictures: files <-> arrays <-> network tensors. Nothing else in the package opens or saves a picture.

Reading is in :mod:`apisr.image.read`, writing in :mod:`apisr.image.write`, the table of formats in
:mod:`apisr.image.formats`, the words (arrays, frames, metadata) in :mod:`apisr.image.types`.
"""

from __future__ import annotations

from pathlib import Path

from apisr.core.errors import InputError
from apisr.core.media import find_media, kind_of_name
from apisr.image.convert import Resampling, from_float, from_tensor, over_white, resize, to_float, to_tensor
from apisr.image.formats import (
    FORMATS,
    check_format,
    check_lossless,
    format_of,
    frames_kept,
    losses,
    output_suffix,
)
from apisr.image.read import PictureSource, open_picture, read_picture, read_rgb
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
    "check_format",
    "check_lossless",
    "format_of",
    "frames_kept",
    "from_float",
    "from_tensor",
    "losses",
    "open_picture",
    "open_writer",
    "output_suffix",
    "over_white",
    "read_picture",
    "read_rgb",
    "resize",
    "to_float",
    "to_tensor",
    "write_picture",
]

# Names of before, kept until the other rooms use the new ones.
Pixels = ImageInt
Floats = ImageF32


def is_picture_name(path: Path) -> bool:
    """Tell whether the file ending is that of a picture."""
    return kind_of_name(path) == "picture"


def find_pictures(given: Path, *, without: Path | None = None) -> list[tuple[Path, Path]]:
    """List the picture files of a folder with its subfolders, or the one file given, with their relative names."""
    if given.is_file():
        return [(given, Path(given.name))]
    if not given.is_dir():
        raise InputError(f"cannot read '{given}': no such file or folder.", code="cannot-read")
    skipped = without.resolve() if without is not None and without.resolve() != given.resolve() else None
    listing = find_media(given, kinds=("picture",), skip=lambda path: path.resolve() == skipped)
    if not listing.found:
        raise InputError(
            f"no pictures found in '{given}'. Expected files ending in {', '.join(FORMATS)}.", code="nothing-found"
        )
    return [(path, path.relative_to(given)) for path in listing.found]
