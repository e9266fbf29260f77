"""JPEG XL and HEIC, which need decoders beyond the light installation (the extra ``formats``)."""

from __future__ import annotations

import importlib.util
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from apisr.core.errors import MissingExtra
from apisr.image.colour import profile_fits
from apisr.image.decoding import Budget
from apisr.image.metadata import readable_exif, resolution_of, without_orientation
from apisr.image.pnm import integers_of_floats
from apisr.image.types import Frame, ImageInt, Metadata, PictureInfo

_JXL_RATIOS = ((0, 0), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


class ExtraDecoder:
    """An open JPEG XL or HEIC file; see :class:`apisr.image.decoding.Decoder`.

    Raises:
        MissingExtra: the decoder is not installed.
    """

    def __init__(self, path: Path, file: BinaryIO, budget: Budget, format_name: str) -> None:
        library = {"JPEG XL": "imagecodecs", "HEIF": "pillow_heif"}[format_name]
        if importlib.util.find_spec(library) is None:
            raise MissingExtra("formats", f"to read the {format_name} file '{path}'")
        data = file.read()
        if format_name == "JPEG XL":
            budget.check(*jxl_size(data), bytes_per_pixel=24)
            self._pixels, metadata, notices = _jxl(data)
        else:
            self._pixels, metadata, notices = _heif(file, budget)
        height, width, channels = self._pixels.shape
        dtype = self._pixels.dtype
        self.info = PictureInfo(
            width, height, channels, dtype, format=format_name, lossless=False, metadata=metadata, notices=notices
        )

    def frames(self) -> Generator[Frame]:
        """Give the one frame."""
        yield Frame(self._pixels)


def jxl_size(data: bytes) -> tuple[int, int]:
    """Return width and height as the header of a JPEG XL file says (ISO 18181-1, SizeHeader).

    Raises:
        ValueError: there is no codestream in it.
    """
    if data[:2] != b"\xff\x0a":
        data = _jxl_codestream(data)
    bits = int.from_bytes(data[2:18], "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    small = take(1)

    def side() -> int:
        return 8 * (take(5) + 1) if small else take((9, 13, 18, 30)[take(2)]) + 1

    height = side()
    ratio = _JXL_RATIOS[take(3)]
    return (height * ratio[0] // ratio[1] if ratio[1] else side()), height


def _jxl_codestream(data: bytes) -> bytes:
    position = 0
    while position + 8 <= len(data):
        size, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        start = position + 8
        if size == 1:
            size, start = int.from_bytes(data[position + 8 : position + 16], "big"), position + 16
        if kind in (b"jxlc", b"jxlp"):
            return data[start + (4 if kind == b"jxlp" else 0) :][:64]
        if size < 8:
            break
        position += size
    raise ValueError("it holds no codestream")


def _jxl(data: bytes) -> tuple[ImageInt, Metadata, tuple[str, ...]]:
    from imagecodecs import jpegxl_decode  # pyright: ignore

    values = np.asarray(jpegxl_decode(data, index=0))
    values = values if values.ndim == 3 else values[..., None]
    if values.shape[2] > 4:
        raise ValueError(f"{values.shape[2]} channels")
    notices = ("a colour profile, EXIF and further frames of the file are not read",)
    if values.dtype.kind == "f":
        pixels, remarks = integers_of_floats(values)
        return pixels, Metadata(), (*notices, *remarks)
    return (
        np.ascontiguousarray(values.astype(np.uint8 if values.dtype.itemsize == 1 else np.uint16)),
        Metadata(),
        notices,
    )


def _heif(file: BinaryIO, budget: Budget) -> tuple[ImageInt, Metadata, tuple[str, ...]]:
    import pillow_heif  # pyright: ignore

    file.seek(0)
    opened = pillow_heif.open_heif(file, convert_hdr_to_8bit=False)
    width, height = (int(value) for value in opened.size)
    budget.check(width, height, bytes_per_pixel=24)
    values = np.asarray(opened)
    values = values if values.ndim == 3 else values[..., None]
    info = opened.info
    depth = info.get("bit_depth")
    bits = depth if isinstance(depth, int) else 8
    pixels: ImageInt
    if values.dtype.itemsize == 2:
        pixels = np.ascontiguousarray(values.astype(np.uint16))
    else:
        pixels = np.ascontiguousarray(values.astype(np.uint8))
    profile, exif, xmp = info.get("icc_profile"), info.get("exif"), info.get("xmp")
    readable = readable_exif(exif) if isinstance(exif, bytes) else None
    metadata = Metadata(
        profile if isinstance(profile, bytes) and profile_fits(profile, pixels.shape[2]) else None,
        readable,
        xmp if isinstance(xmp, bytes) else None,
        resolution_of(readable),
    )
    notices = [f"its {bits} bit are given as 16"] if bits > 8 and pixels.dtype == np.uint8 else []
    if len(opened) > 1:
        notices.append("the main picture of the file is read, the others are left out")
    return pixels, without_orientation(metadata), tuple(notices)
