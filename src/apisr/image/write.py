"""Writing pictures: complete under their final name, or not at all.

>>> import tempfile
>>> import numpy as np
>>> path = Path(tempfile.mkdtemp()) / "a.tif"
>>> write_picture(path, np.zeros((2, 3, 3), np.uint16))
>>> sorted(file.name for file in path.parent.iterdir())
['a.tif']
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from apisr.core.errors import InputError, RunError
from apisr.core.files import atomic_path
from apisr.image.colour import gamma_profile
from apisr.image.encoded import PillowAnimationWriter, PillowWriter
from apisr.image.formats import check_format, check_lossless, format_of, frames_kept
from apisr.image.metadata import with_provenance
from apisr.image.stream import FrameWriter, GifWriter, PngWriter
from apisr.image.tiff_writer import TiffWriter
from apisr.image.types import ImageInt, Picture, PictureInfo


@contextlib.contextmanager
def open_writer(
    path: Path,
    info: PictureInfo,
    *,
    overwrite: bool = False,
    quality: int | None = None,
    lossless: bool = False,
    provenance: Mapping[str, str] | None = None,
) -> Generator[FrameWriter]:
    """Give a writer for a picture; the file appears under its name when the block ends without an error.

    What the format cannot hold is left out (see :func:`apisr.image.formats.losses`).

    Args:
        path: target; the ending chooses the format.
        info: kind, number of frames, loop and metadata of what is to be written. Sizes and depth are those that
            :meth:`~apisr.image.stream.FrameWriter.start_frame` is told.
        overwrite: replace an existing file.
        quality: 1 to 100 for JPEG, WebP and AVIF. By default JPEG 95, AVIF 90, WebP 95 or lossless as the source was.
        lossless: every value must come back as it is. PNG, TIFF and BMP do that anyway; WebP is told to; AVIF is
            written by imagecodecs (extra ``avif``), stills of 8 bits without metadata.
        provenance: what made the picture, names and values, for example ``{"Software": "apisr 1.0"}``.

    Raises:
        InputError: unknown ending, an animation in a format without, an existing target.
        MissingExtra: `lossless` AVIF, and imagecodecs is not installed.
        RunError: the disk is full (``"disk-full"``), the file too large for it (``"file-too-large"``).
    """
    format_name = format_of(path)
    if lossless:
        check_lossless(path)
    if frames_kept(info, path) == 1 and info.kind != "still":
        info = replace(info, kind="still", frame_count=1)
    info = replace(info, metadata=with_provenance(info.metadata, provenance, format_name))
    if format_name == "TIFF" and info.metadata.icc_profile is None and info.metadata.gamma:
        made = gamma_profile(info.metadata.gamma, info.metadata.chromaticities, gray=info.channels <= 2)
        info = replace(info, metadata=replace(info.metadata, icc_profile=made))
    if lossless and format_name == "AVIF" and info.kind != "still":
        raise InputError(
            f"cannot write '{path}' without loss: lossless AVIF is for stills. Choose .png or .webp.",
            code="not-lossless",
        )
    with atomic_path(path, overwrite=overwrite) as partial:
        with partial.open("wb") as file:
            writer = _writer(file, info, format_name, quality, lossless=lossless)
            try:
                yield writer
                writer.finish()
            except BaseException:
                writer.abandon()
                raise
            file.flush()
            os.fsync(file.fileno())
            expected = file.seek(0, 2)
        written = partial.stat().st_size
        if written != expected:
            raise RunError(
                f"cannot write '{path}': {written} of {expected} bytes reached the disk.", code="short-write"
            )


def write_picture(
    path: Path | str,
    picture: Picture | ImageInt,
    *,
    overwrite: bool = False,
    quality: int | None = None,
    lossless: bool = False,
    provenance: Mapping[str, str] | None = None,
) -> None:
    """Write a picture, animation or document that is whole in memory.

    Args:
        path: target; the ending chooses the format.
        picture: a :class:`~apisr.image.types.Picture`, or one array ``(H, W, C)`` uint8 or uint16.
        overwrite: as :func:`open_writer`; so are the other options and the errors.
        quality: likewise.
        lossless: likewise.
        provenance: likewise.

    Raises:
        InputError: also a size that the format cannot hold.
    """
    path = Path(path)
    if not isinstance(picture, Picture):
        picture = Picture((picture,))
    format_of(path)
    kept = picture.frames[: frames_kept(picture.info, path)]
    for frame in kept:
        check_format(path, *frame.shape[:2])
    durations = picture.durations_ms or (0.0,) * len(kept)
    with open_writer(
        path,
        picture.info,
        overwrite=overwrite,
        quality=quality,
        lossless=lossless,
        provenance=provenance,
    ) as writer:
        for frame, duration in zip(kept, durations, strict=False):
            height, width, channels = frame.shape
            writer.start_frame(height, width, channels, frame.dtype, duration_ms=duration)
            writer.write(frame)


def _writer(file: BinaryIO, info: PictureInfo, format_name: str, quality: int | None, *, lossless: bool) -> FrameWriter:
    if format_name == "PNG":
        return PngWriter(file, info)
    if format_name == "TIFF":
        return TiffWriter(file, info)
    if format_name == "GIF":
        return GifWriter(file, info)
    if info.kind == "animation":
        return PillowAnimationWriter(file, info, format_name, quality, lossless=lossless)
    return PillowWriter(file, info, format_name, quality, lossless=lossless)
