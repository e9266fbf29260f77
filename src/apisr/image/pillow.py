"""The formats that Pillow decodes: JPEG, WebP, AVIF, BMP, TGA, PSD, ICO, QOI, JPEG 2000.

The plugins are opened directly and not through ``Image.open``: its limit of pixels is a global of the library, which
would need a lock; here the budget is asked between the header and the decoding.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    IcoImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PsdImagePlugin,
    QoiImagePlugin,
    TgaImagePlugin,
    WebPImagePlugin,
)

from apisr.core.errors import InputError
from apisr.image import jpeg, psd, webp
from apisr.image.colour import profile_fits, to_rgb
from apisr.image.convert import is_turned, upright
from apisr.image.decoding import Budget
from apisr.image.metadata import is_resolution, orientation_of, readable_exif, resolution_of, without_orientation
from apisr.image.types import Frame, ImageInt, ImageU8, IntegerType, Metadata, PictureInfo, TextEntry

_OPENERS: dict[str, Callable[[BinaryIO, str], ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "DIB": BmpImagePlugin.DibImageFile,
    "TGA": TgaImagePlugin.TgaImageFile,
    "PSD": PsdImagePlugin.PsdImageFile,
    "ICO": IcoImagePlugin.IcoImageFile,
    "QOI": QoiImagePlugin.QoiImageFile,
    "JPEG 2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
}
#: More pixels than any file of the format has in a byte: a bit for a block of 8x8, runs of 255 pixels, ...
_PIXELS_PER_BYTE = {"JPEG": 1024, "BMP": 1024, "TGA": 512, "QOI": 256, "PSD": 1024}
_PSD_HEAD_BYTES = 26
_LOSSY = {"JPEG", "AVIF", "JPEG 2000"}
#: How libav lays out the deep pictures that are read through it.
_DEEP_LAYOUTS = {"rgb48le", "rgba64le", "gray16le"}


class PillowDecoder:
    """An open file of one of these formats; see :class:`apisr.image.decoding.Decoder`.

    Args:
        path: the file, for messages.
        file: the same, open.
        budget: refuses what is too large.
        format_name: which of the formats.
        header_only: read no more of a JPEG than its header tells, and do not look for damage behind it.
    """

    def __init__(
        self, path: Path, file: BinaryIO, budget: Budget, format_name: str, *, header_only: bool = False
    ) -> None:
        self._name = format_name
        self._data = file.read() if format_name in ("WEBP", "AVIF") else b""
        if format_name == "WEBP":
            budget.check(*webp.canvas_size(self._data), bytes_per_pixel=24)
            if webp.is_transparent_animation(self._data):
                self._data = webp.with_alpha_flag(self._data)
        self._file = io.BytesIO(self._data) if self._data else file
        head = file.read(_PSD_HEAD_BYTES) if format_name == "PSD" else b""
        if psd.is_deep(head):
            self._data = head + file.read()
            self._file = io.BytesIO(psd.as_eight_bit(self._data))
        image = self._open(path)
        _check_length(path, image, format_name, file)
        progressive = format_name == "JPEG" and bool(image.info.get("progressive"))
        budget.check(*image.size, bytes_per_pixel=14 + 8 * progressive)
        count = int(getattr(image, "n_frames", 1)) if format_name in ("WEBP", "AVIF") else 1
        metadata, notices = _metadata(image)
        notices += _kind_notices(image, format_name)
        self._orientation = orientation_of(metadata.exif, metadata.xmp)
        metadata = without_orientation(metadata)
        self._deep = _deep_avif(self._data) if format_name == "AVIF" and count == 1 else None
        self._first: Frame | None = None
        header_only = header_only and format_name == "JPEG"
        if header_only:
            (height, width, channels), dtype, opaque = (
                _shape_of_header(image, self._orientation),
                np.dtype(np.uint8),
                True,
            )
        else:
            (height, width, channels), dtype, opaque = self._looked_through(image, count)
        if format_name == "JPEG" and not header_only:
            file.seek(0)
            notices += [jpeg.NOTICE] if jpeg.is_damaged(file.read()) else []
        cicp = _avif_cicp(self._data) if format_name == "AVIF" else None
        metadata = replace(metadata, cicp=cicp)
        self._drop_alpha = count > 1 and opaque
        if format_name == "AVIF" and _avif_bits(self._data) > 8 and dtype == np.uint8:
            notices.append(f"its {_avif_bits(self._data)} bit were read as 8")
        if metadata.icc_profile is not None and not profile_fits(metadata.icc_profile, channels):
            if image.mode not in ("CMYK", "LAB"):
                notices.append("its colour profile is damaged or not for these pixels and is left out")
            metadata = replace(metadata, icc_profile=None)
        self.info = PictureInfo(
            width,
            height,
            3 if self._drop_alpha else channels,
            dtype,
            count,
            "animation" if count > 1 else "still",
            image.info.get("loop") if count > 1 else None,
            format_name,
            format_name not in _LOSSY and not (format_name == "WEBP" and webp.is_lossy(self._data)),
            metadata,
            tuple(notices),
        )

    def _looked_through(self, image: ImageFile.ImageFile, count: int) -> tuple[tuple[int, ...], IntegerType, bool]:
        """Decode what tells shape, dtype and whether all is opaque; a still is kept."""
        dtype: IntegerType = np.dtype(np.uint8)
        shape: tuple[int, ...] = (0, 0, 0)
        opaque = True
        for frame in self._decoded(image, count):
            self._first = frame if count == 1 else None
            shape, dtype = frame.pixels.shape, frame.pixels.dtype
            opaque = opaque and (shape[2] != 4 or bool((frame.pixels[..., 3] == 255).all()))
            if count > 1 and (shape[2] != 4 or not opaque):
                break
        return shape, dtype, opaque

    def frames(self) -> Generator[Frame]:
        """Decode the frames from the first on."""
        if self._first is not None:
            first, self._first = self._first, None
            yield first
            return
        self._file.seek(0)
        for frame in self._decoded(self._open(Path()), self.info.frame_count):
            pixels = np.ascontiguousarray(frame.pixels[..., :3]) if self._drop_alpha else frame.pixels
            yield replace(frame, pixels=pixels)

    def _open(self, path: Path) -> ImageFile.ImageFile:
        name = self._name
        self._file.seek(0)
        if name == "BMP" and self._file.read(2) != b"BM":
            name = "DIB"
        self._file.seek(0)
        try:
            return _OPENERS[name](self._file, "")
        except SyntaxError as error:
            if name != "PSD" or not isinstance(error.__cause__, KeyError):  # Pillow has no mode for it
                raise
            self._file.seek(0)
            raise InputError(
                f"cannot read '{path}': it is a Photoshop file in {psd.kind(self._file.read(_PSD_HEAD_BYTES))}, which "
                "is not read. Save it with 8 or 16 bit a channel in RGB.",
                code="unsupported-picture",
            ) from error

    def _decoded(self, image: ImageFile.ImageFile, count: int) -> Generator[Frame]:
        if count == 1:
            pixels = self._deep
            self._deep = None
            if pixels is None and isinstance(image, Jpeg2KImagePlugin.Jpeg2KImageFile):
                pixels = _deep_jpeg2000(image)
            if pixels is None and self._name == "PSD" and self._data:
                pixels = psd.deep_pixels(self._data)
            if pixels is None:
                image.load()
                pixels = _deep_gray(image) if image.mode.startswith("I;16") else pixels_of(image)
            yield Frame(upright(pixels, self._orientation))
            return
        for index in range(count):
            image.seek(index)
            image.load()
            pixels = np.asarray(image if image.mode in ("RGB", "RGBA") else image.convert("RGBA"), np.uint8)
            yield Frame(upright(pixels, self._orientation), float(image.info.get("duration") or 0))


def pixels_of(image: Image.Image) -> ImageU8:
    """Return the pixels of a decoded picture of 8 bits or fewer as gray, gray + alpha, RGB or RGB + alpha.

    Palettes are expanded; CMYK, Lab and the like are converted to RGB.

    Raises:
        ValueError: 32-bit values.
    """
    mode = image.mode
    if mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif mode in ("RGB", "L", "1") and "transparency" in image.info:
        image = image.convert("RGBA")
    elif mode == "1":
        image = image.convert("L")
    elif mode in ("CMYK", "LAB", "YCbCr", "HSV"):
        image = to_rgb(image)
    elif mode in ("PA", "La", "RGBa", "RGBX"):
        image = image.convert({"RGBX": "RGB", "La": "LA"}.get(mode, "RGBA"))
    elif mode not in ("L", "LA", "RGB", "RGBA"):
        raise ValueError(f"pixels of kind '{mode}'")
    array = np.asarray(image, np.uint8)
    return np.ascontiguousarray(array if array.ndim == 3 else array[..., None])


def _shape_of_header(image: ImageFile.ImageFile, orientation: int) -> tuple[int, int, int]:
    """Height, width and channels that a JPEG file has when it is decoded."""
    width, height = image.size
    return *((width, height) if is_turned(orientation) else (height, width)), 1 if image.mode == "L" else 3


def _deep_gray(image: Image.Image) -> ImageInt:
    return np.asarray(image).astype(np.uint16)[..., None]


def _metadata(image: ImageFile.ImageFile) -> tuple[Metadata, list[str]]:
    info = image.info
    notices: list[str] = []
    exif = info.get("exif")
    readable = readable_exif(exif) if isinstance(exif, bytes) else None
    if isinstance(exif, bytes) and len(exif) > 14 and readable is None:
        notices.append("its EXIF is damaged and left out")
    xmp, profile, comment, dpi = (info.get(name) for name in ("xmp", "icc_profile", "comment", "dpi"))
    text: tuple[TextEntry, ...] = ()
    if isinstance(comment, bytes) and comment.strip(b"\0 "):
        text = (TextEntry("Comment", comment.rstrip(b"\0").decode(errors="replace")),)
    resolution = resolution_of(readable)
    ours = image.format != "JPEG" or info.get("jfif_unit") in (1, 2)  # of a JPEG without, Pillow makes one up
    if ours and isinstance(dpi, tuple) and len(dpi) == 2 and is_resolution(*map(float, dpi)):
        resolution = (float(dpi[0]), float(dpi[1]))
    return (
        Metadata(
            profile if isinstance(profile, bytes) and profile else None,
            readable,
            xmp if isinstance(xmp, bytes) else None,
            resolution,
            text,
            iptc=_iptc(info.get("photoshop")),
        ),
        notices,
    )


def _iptc(resources: object) -> bytes | None:
    """Return the record of IPTC among the resources of Photoshop."""
    record = cast("dict[int, object]", resources).get(0x0404) if isinstance(resources, dict) else None
    return record if isinstance(record, bytes) and record else None


def _kind_notices(image: ImageFile.ImageFile, format_name: str) -> list[str]:
    """Say what else is in the file and not read."""
    if format_name == "JPEG" and "mpoffset" in image.info:
        return ["further pictures of the file (a stereo pair, a preview, a gain map) are left out"]
    if isinstance(image, PsdImagePlugin.PsdImageFile) and getattr(image, "n_frames", 1) > 1:
        return ["the flattened picture is read, layers are left out"]
    if isinstance(image, IcoImagePlugin.IcoImageFile) and len(image.info.get("sizes", ())) > 1:
        return ["the largest picture of the icon is read, the others are left out"]
    return []


def _deep_jpeg2000(image: ImageFile.ImageFile) -> ImageInt | None:
    """Decode JPEG 2000 of more than 8 bits as 16 bit; None where it has no more (Pillow wraps white round to black)."""
    bits = _jpeg2000_bits(image)
    if bits <= 8 or image.fp is None:
        return None
    import av
    from av.error import FFmpegError

    image.fp.seek(0)
    try:
        with av.open(io.BytesIO(image.fp.read()), mode="r", format="j2k_pipe") as container:
            frame = next(container.decode(video=0))
            array = frame.to_ndarray() if frame.format.name in _DEEP_LAYOUTS else None
    except (FFmpegError, StopIteration, ValueError) as error:
        raise ValueError("its JPEG 2000 of more than 8 bits cannot be decoded") from error
    if array is None:
        raise ValueError(f"JPEG 2000 of {bits} bits in the layout {frame.format.name}")
    wide = array.reshape(frame.height, frame.width, -1).astype(np.uint32)
    highest = (1 << bits) - 1
    return (wide * 65535 // (highest << (16 - bits))).astype(np.uint16)


def _jpeg2000_bits(image: ImageFile.ImageFile) -> int:
    """Return how many bits a JPEG 2000 file says (in its marker SIZ) that it holds; 8 where it does not say."""
    if image.fp is None:
        return 8
    image.fp.seek(0)
    head = image.fp.read(1 << 16)
    at = head.find(b"\xff\x4f\xff\x51")
    return (head[at + 42] & 0x7F) + 1 if 0 <= at < len(head) - 42 else 8


def _check_length(path: Path, image: ImageFile.ImageFile, format_name: str, file: BinaryIO) -> None:
    """Refuse a file that is too short for the size that its header says, before anything is allocated."""
    if format_name not in _PIXELS_PER_BYTE:
        return
    position = file.tell()
    length = file.seek(0, io.SEEK_END)
    file.seek(position)
    if image.width * image.height > length * _PIXELS_PER_BYTE[format_name]:
        raise InputError(
            f"cannot read '{path}': {image.width}x{image.height} pixels do not come out of {length} bytes. "
            "The picture is damaged or cut off.",
            code="damaged-picture",
        )


def _avif_bits(data: bytes) -> int:
    """Return the depth of an AVIF file as its configuration record says (8, 10 or 12)."""
    at = data.find(b"av1C", 0, 1 << 16)
    flags = data[at + 6] if at >= 0 and at + 6 < len(data) else 0
    return (12 if flags & 0x20 else 10) if flags & 0x40 else 8


def _avif_cicp(data: bytes) -> bytes | None:
    """Return primaries, transfer, matrix (RGB) and range as in PNG's cICP; None for what viewers assume anyway."""
    at = data.find(b"colrnclx", 0, 1 << 16)
    if at < 0 or at + 14 > len(data):
        return None
    primaries, transfer = struct.unpack(">HH", data[at + 8 : at + 12])
    usual = primaries in (1, 2, 5, 6) and transfer in (1, 2, 6, 13)
    return None if usual or max(primaries, transfer) > 255 else bytes((primaries, transfer, 0, 1))


def _deep_avif(data: bytes) -> ImageInt | None:
    """Decode a still AVIF of 10 or 12 bits without alpha as 16 bit; None for every other kind (Pillow gives 8)."""
    if _avif_bits(data) == 8:
        return None
    import av
    from av.error import FFmpegError

    if b"irot" in data[: 1 << 16] or b"imir" in data[: 1 << 16]:
        return None
    try:
        with av.open(io.BytesIO(data), mode="r", format="mov") as container:
            if len(container.streams.video) != 1:
                return None
            frame = next(container.decode(video=0))
            wide = frame.reformat(format="rgb48le").to_ndarray()
    except (FFmpegError, StopIteration, ValueError):
        return None
    return np.ascontiguousarray(wide.astype(np.uint16))
