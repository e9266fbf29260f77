"""What is lost of pictures that are read as 8-bit RGB, which is how they are degraded, trained on and scored.

Every command that reads pictures with :func:`apisr.image.read_rgb` says this, one line a kind of loss: long work says
it before it begins (:func:`rgb_losses`), short work when the pictures were read (:func:`rgb_and_losses`).

    >>> import tempfile
    >>> from apisr.image.write import write_picture
    >>> path = Path(tempfile.mkdtemp()) / "a.png"
    >>> write_picture(path, np.zeros((2, 3, 4), np.uint16))
    >>> for line in rgb_losses([path]):
    ...     print(line)
    alpha is laid over white: a.png
    only the upper 8 of 16 bits are read: a.png
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from apisr.core.errors import ApisrError
from apisr.core.processes import usable_cores
from apisr.core.text import lines_by_kind, printable
from apisr.image import jpeg
from apisr.image.colour import is_srgb, profile_space
from apisr.image.decoding import open_bytes
from apisr.image.read import PictureSource, as_rgb, open_picture
from apisr.image.types import ImageInt, ImageU8, Metadata, PictureInfo

#: A colour that a profile moves by fewer levels of 255 than this is not called another.
_SAME_LEVELS = 4
#: Colour signalling (cICP) of sRGB and BT.709: primaries; transfers that viewers show alike.
_PRIMARIES, _TRANSFERS = (1, 2), (1, 2, 6, 13, 14, 15)


def rgb_losses(paths: Iterable[Path]) -> tuple[str, ...]:
    """Return what :func:`apisr.image.read_rgb` loses of pictures, one sentence for each kind, with their names.

    Files that cannot be read are passed over: reading them says so. Pixels are decoded only where the header leaves
    something open. A PNG is decoded where it may have alpha. A JPEG is looked through for damage at an eighth of its
    size; of one that is cut off, what its header tells is said. Decoders of other formats tell what a file holds only
    when they have decoded it.
    """
    files = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(usable_cores()) as pool:
        found = zip(files, pool.map(_losses_of, files), strict=True)
        return lines_by_kind((printable(path.name), kinds) for path, kinds in found)


def rgb_and_losses(picture: PictureSource) -> tuple[ImageU8, tuple[str, ...]]:
    """Decode an open picture once: as :func:`apisr.image.read_rgb` does, and what that loses, a sentence each."""
    pixels = picture.first_pixels()
    return as_rgb(pixels), _losses(picture.info, pixels)


def _losses_of(path: Path) -> tuple[str, ...]:
    with contextlib.suppress(ApisrError), open_picture(path, header_only=True) as picture:
        has_alpha = picture.info.channels in (2, 4)
        losses = _losses(picture.info, picture.first_pixels() if has_alpha else None)
        return (*losses, jpeg.NOTICE) if picture.info.format == "JPEG" and _is_damaged_jpeg(path) else losses
    return ()


def _losses(info: PictureInfo, pixels: ImageInt | None) -> tuple[str, ...]:
    """Return what is lost of a picture; its first frame is needed where it has alpha."""
    found = [notice.rstrip(".") for notice in info.notices]
    if info.frame_count > 1:
        what = "frames" if info.kind == "animation" else "pages"
        found.append(f"only the first frame or page is read, not the other {what}")
    if info.dtype == np.uint16:
        found.append("only the upper 8 of 16 bits are read")
    if _other_colours(info.metadata):
        found.append("the colours are read as sRGB, though the file says that they are others")
    if info.channels in (2, 4) and pixels is not None and (pixels[..., -1] < np.iinfo(pixels.dtype).max).any():
        found.append("alpha is laid over white")
    return tuple(found)


def _is_damaged_jpeg(path: Path) -> bool:
    with contextlib.closing(open_bytes(path)) as file:
        return jpeg.is_damaged(file.read())


def _other_colours(metadata: Metadata) -> bool:
    """Whether a picture means other colours than sRGB has for its values."""
    if metadata.cicp is not None:
        return metadata.cicp[0] not in _PRIMARIES or metadata.cicp[1] not in _TRANSFERS
    if metadata.icc_profile is not None:
        return not _is_srgb_profile(metadata.icc_profile)
    return not is_srgb(metadata.gamma, metadata.chromaticities)


def _is_srgb_profile(profile: bytes) -> bool:
    """Whether a profile leaves the values of a grid of colours as they are in sRGB; a damaged one says nothing."""
    levels = np.linspace(0, 255, 6).round().astype(np.uint8)
    mode = "L" if profile_space(profile) == b"GRAY" else "RGB"
    grid = levels[None] if mode == "L" else np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        shown = ImageCms.profileToProfile(
            Image.fromarray(grid), source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return True
    expected = grid if mode == "RGB" else np.repeat(grid[..., None], 3, axis=2)
    return bool(np.abs(np.asarray(shown, np.int64) - expected).max() <= _SAME_LEVELS)
