"""Reading pictures: upright, with every frame or page, all depths and all metadata, within a budget of memory.

:func:`open_picture` gives the frames one after another, :func:`read_picture` all at once, :func:`read_rgb` the first
as plain RGB.

    >>> import tempfile
    >>> from apisr.image.write import write_picture
    >>> path = Path(tempfile.mkdtemp()) / "a.png"
    >>> write_picture(path, np.zeros((2, 3, 3), np.uint8))
    >>> with open_picture(path) as source:
    ...     source.info.width, [frame.pixels.shape for frame in source.frames()]
    (3, [(2, 3, 3)])
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from apisr.core.files import FileIdentity
from apisr.image.convert import from_float, over_white, to_float
from apisr.image.decoding import Budget, Decoder, decoder_errors, open_bytes
from apisr.image.endings import cut_off
from apisr.image.extras import ExtraDecoder
from apisr.image.formats import not_a_picture, sniff_format
from apisr.image.gif import GifDecoder
from apisr.image.pillow import PillowDecoder
from apisr.image.png import PngDecoder
from apisr.image.pnm import decode_pnm
from apisr.image.types import Frame, ImageInt, ImageU8, Picture, PictureInfo

_HEAD_BYTES = 4096


class PictureSource:
    """An open picture file.

    Attributes:
        info: what is known of it.
        check_unchanged: raises RunError (``"source-changed"``) where the file is no longer the one that was opened.
    """

    def __init__(self, path: Path, decoder: Decoder, identity: FileIdentity) -> None:
        self.info: PictureInfo = decoder.info
        self.check_unchanged = identity.check_unchanged
        self._path = path
        self._decoder = decoder

    def frames(self) -> Generator[Frame]:
        """Decode the frames from the first on, one in memory at a time; may be called again.

        Raises:
            InputError: one of them is damaged.
        """
        frames = self._decoder.frames()
        while True:
            with decoder_errors(self._path):
                frame = next(frames, None)
            if frame is None:
                return
            yield frame

    def first_pixels(self) -> ImageInt:
        """Decode the first frame ``(H, W, channels)`` of ``info.dtype``."""
        with contextlib.closing(self.frames()) as frames:
            return next(frames).pixels


@contextlib.contextmanager
def open_picture(
    path: Path | str, *, max_pixels: int | None = None, header_only: bool = False
) -> Generator[PictureSource]:
    """Open a picture, animation or document.

    8-bit gray, RGB and palette files become uint8, deeper ones uint16. Palettes are expanded. CMYK and Lab are
    converted to sRGB. Alpha is straight.

    Args:
        path: the file.
        max_pixels: refuse more pixels than this; None: what the memory of the machine allows.
        header_only: decode a JPEG only when its frames are asked for. Where they are damaged is then not in
            ``info.notices``. (Other formats say what they hold only when they are decoded.)

    Raises:
        InputError: missing (``"cannot-read"``), empty (``"empty-file"``), not a picture (``"not-a-picture"``), damaged
            (``"damaged-picture"``) or too large (``"too-large"``).
        MissingExtra: a format whose decoder is not installed.
    """
    path = Path(path)
    with contextlib.closing(open_bytes(path)) as file:
        identity = FileIdentity(path, file)
        head = file.read(_HEAD_BYTES)
        file.seek(0)
        format_name = sniff_format(head, path.suffix)
        if format_name is None:
            raise not_a_picture(path, head)
        with decoder_errors(path):
            decoder = _decoder(path, file, Budget(path, max_pixels), format_name, header_only=header_only)
            if missing := cut_off(file, format_name):
                decoder.info = replace(decoder.info, notices=(*decoder.info.notices, missing))
        yield PictureSource(path, decoder, identity)


def read_picture(path: Path | str, *, max_pixels: int | None = None) -> Picture:
    """Read a picture with all its frames into memory; arguments and errors as :func:`open_picture`."""
    with open_picture(path, max_pixels=max_pixels) as source:
        info = source.info
        depth = info.channels * info.dtype.itemsize
        Budget(Path(path), max_pixels).check(info.width, info.height, bytes_per_pixel=depth, frames=info.frame_count)
        frames = list(source.frames())
    return Picture(
        tuple(frame.pixels for frame in frames),
        tuple(frame.duration_ms for frame in frames) if info.kind == "animation" else (),
        info.loop,
        info.format,
        info.lossless,
        info.metadata,
        info.notices,
    )


def read_rgb(path: Path | str, *, max_pixels: int | None = None) -> ImageU8:
    """Read the first frame as uint8 RGB ``(H, W, 3)``.

    Gray is repeated, 16 bit is rounded, alpha is laid over white.

    Raises:
        InputError: as :func:`open_picture`.
    """
    with open_picture(path, max_pixels=max_pixels) as source:
        return as_rgb(source.first_pixels())


def as_rgb(pixels: ImageInt) -> ImageU8:
    """Return pixels ``(H, W, 1 to 4)`` as uint8 RGB ``(H, W, 3)``; see :func:`read_rgb`."""
    if pixels.shape[2] == 3 and pixels.dtype == np.uint8:
        return np.asarray(pixels, np.uint8)
    values = over_white(to_float(pixels))
    if values.shape[2] == 1:
        values = np.repeat(values, 3, axis=2)
    return from_float(values, np.uint8)


class _PnmDecoder:
    def __init__(self, path: Path, file: BinaryIO, budget: Budget) -> None:
        def check(width: int, height: int) -> None:
            budget.check(width, height, bytes_per_pixel=60)

        pixels, notices = decode_pnm(file.read(), check=check)
        self._pixels: ImageInt = pixels
        height, width, channels = pixels.shape
        self.info = PictureInfo(width, height, channels, pixels.dtype, format="PNM", notices=notices)

    def frames(self) -> Generator[Frame]:
        yield Frame(self._pixels)


def _decoder(path: Path, file: BinaryIO, budget: Budget, format_name: str, *, header_only: bool) -> Decoder:
    if format_name == "PNG":
        return PngDecoder(path, file, budget)
    if format_name == "GIF":
        return GifDecoder(path, file, budget)
    if format_name == "TIFF":
        from apisr.image.tiff import TiffDecoder

        return TiffDecoder(path, file, budget)
    if format_name == "PNM":
        return _PnmDecoder(path, file, budget)
    if format_name in ("JPEG XL", "HEIF"):
        return ExtraDecoder(path, file, budget, format_name)
    return PillowDecoder(path, file, budget, format_name, header_only=header_only)
