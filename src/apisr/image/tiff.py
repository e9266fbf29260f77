"""TIFF files: all pages, 8 to 32 bits and floats, BigTIFF, associated alpha.

tifffile reads the structure and the deep pages, Pillow (libtiff) all others: palettes, CMYK, JPEG, fax.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tifffile
from PIL import TiffImagePlugin

from apisr.image.colour import profile_fits
from apisr.image.convert import straight_alpha, upright
from apisr.image.decoding import MAX_METADATA_BYTES, Budget
from apisr.image.metadata import TEXT_TAGS, described, orientation_of, without_orientation
from apisr.image.pillow import pixels_of
from apisr.image.pnm import integers_of_floats
from apisr.image.types import Frame, ImageInt, Metadata, PictureInfo, TextEntry

_REDUCED, _MASK = 1, 4
_ORIENTATION, _XMP, _ICC, _EXTRA, _EXIF, _GPS, _IPTC = 274, 700, 34675, 338, 34665, 34853, 33723
_ASSOCIATED, _STRAIGHT = 1, 2
_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _CMYK, _LAB = 0, 1, 2, 5, (8, 9, 10)
#: Compressions that tifffile unpacks without further libraries: none, deflate (both numbers), packbits, LZMA.
_PLAIN = {1, 8, 32946, 32773, 34925}
_LZW = 5


@dataclass(frozen=True)
class _Page:
    """What the directory of one page says."""

    index: int
    width: int
    height: int
    bits: int
    samples: int
    sample_kind: str
    photometric: int
    compression: int
    extra: tuple[int, ...]
    orientation: int

    @property
    def direct(self) -> bool:
        """Whether tifffile's own arrays are the pixels: whole numbers or floats, gray or RGB."""
        return (
            self.sample_kind in "uf"
            and self.bits in (8, 16, 32, 64)
            and self.photometric in (_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB)
            and self.compression in (*_PLAIN, _LZW)
            and self.samples >= (3 if self.photometric == _RGB else 1)
        )


class TiffDecoder:
    """An open TIFF file; see :class:`apisr.image.decoding.Decoder`."""

    def __init__(self, path: Path, file: BinaryIO, budget: Budget) -> None:
        self._path, self._file = path, file
        self._tiff = tifffile.TiffFile(file)
        pages = [self._page(index) for index in range(len(self._tiff.pages)) if self._is_picture(index)]
        self._pages = pages or [self._page(0)]
        for page in self._pages:
            depth = max(1, page.bits // 8)
            budget.check(page.width, page.height, bytes_per_pixel=4 + 3 * min(page.samples, 64) * max(depth, 2))
        first = self._pages[0]
        metadata, self._notices = self._metadata(first)
        left_out = len(self._tiff.pages) - len(self._pages)
        if left_out:
            self._notices.append(f"{left_out} thumbnails, masks or smaller copies in the file are left out")
        pixels, said = self._decoded(first)
        self._first: ImageInt | None = pixels
        self._notices += said
        if metadata.icc_profile is not None and not profile_fits(metadata.icc_profile, pixels.shape[2]):
            metadata = replace(metadata, icc_profile=None)
            if first.photometric not in (_CMYK, *_LAB):  # those were converted through it
                self._notices.append("its colour profile is damaged or not for these pixels and is left out")
        metadata = without_orientation(metadata)
        height, width, channels = pixels.shape
        self.info = PictureInfo(
            width,
            height,
            channels,
            pixels.dtype,
            len(self._pages),
            "pages" if len(self._pages) > 1 else "still",
            format="TIFF",
            lossless=first.compression not in (6, 7, 50001, 34892),
            metadata=metadata,
            notices=tuple(self._notices),
        )

    def frames(self) -> Generator[Frame]:
        """Decode the pages from the first on."""
        for number, page in enumerate(self._pages):
            if number == 0 and self._first is not None:
                pixels, self._first = self._first, None
            else:
                pixels, _ = self._decoded(page)
            yield Frame(pixels)

    def _is_picture(self, index: int) -> bool:
        tag = self._tiff.pages[index].aspage().tags.get(254)
        kind = int(tag.value) if tag is not None and isinstance(tag.value, int) else 0
        return not kind & (_REDUCED | _MASK)

    def _page(self, index: int) -> _Page:
        page = self._tiff.pages[index].aspage()
        extra = page.tags.get(_EXTRA)
        values = extra.value if extra is not None else ()
        turned = page.tags.get(_ORIENTATION)
        return _Page(
            index,
            int(page.imagewidth),
            int(page.imagelength),
            int(page.bitspersample),
            int(page.samplesperpixel),
            page.dtype.kind if page.dtype is not None else "",
            int(page.photometric),
            int(page.compression),
            tuple(int(value) for value in (values if isinstance(values, tuple) else (values,))),
            int(turned.value) if turned is not None and isinstance(turned.value, int) else self._xmp_orientation(page),
        )

    def _xmp_orientation(self, page: tifffile.TiffPage) -> int:
        tag = page.tags.get(_XMP)
        known = tag is not None and isinstance(tag.value, bytes) and tag.count <= MAX_METADATA_BYTES
        return orientation_of(None, tag.value if known and tag is not None else None)

    def _decoded(self, page: _Page) -> tuple[ImageInt, list[str]]:
        said: list[str] = []
        if page.bits <= 8 and not page.extra:
            pixels = self._by_pillow(page)
        elif page.direct:
            return upright(self._direct(page, said), page.orientation), said
        else:
            pixels = self._by_pillow(page)
            if page.bits > 8:
                said.append(f"its {page.bits} bit were read as 8")
        return pixels, said

    def _by_pillow(self, page: _Page) -> ImageInt:
        """Let Pillow decode a page; it turns the pixels upright by itself."""
        self._file.seek(0)
        image = TiffImagePlugin.TiffImageFile(self._file, "")
        if page.index:
            image.seek(page.index)
        if image.size != (page.width, page.height) and image.size != (page.height, page.width):
            raise ValueError("its directory contradicts itself")
        twelve = page.bits == 12 and image.mode == "I;16"
        if not twelve and (image.mode in ("I", "F") or image.mode.startswith("I;")):
            raise ValueError(f"{page.bits} bit of kind '{page.sample_kind}'")
        image.load()
        if twelve:
            return (np.asarray(image, np.uint32)[..., None] * 65535 // 4095).astype(np.uint16)
        return pixels_of(image)

    def _direct(self, page: _Page, said: list[str]) -> ImageInt:
        source = self._tiff.pages[page.index].aspage()
        if not all(source.databytecounts):  # tifffile would fill what is missing with zeros
            raise ValueError("strips are missing")
        values = _unpack_lzw(source, self._file) if page.compression == _LZW else np.asarray(source.asarray())
        if values.ndim == 3 and int(source.planarconfig or 1) == 2:
            values = np.moveaxis(values, 0, 2)
        values = values if values.ndim == 3 else values[..., None]
        if values.shape[:2] != (page.height, page.width):
            raise ValueError(f"its pixels are {values.shape}, its header says {page.width}x{page.height}")
        colours = 3 if page.photometric == _RGB else 1
        alpha = colours in range(values.shape[2]) and page.extra[:1] in ((_ASSOCIATED,), (_STRAIGHT,), ())
        if values.shape[2] > colours + alpha:
            said.append("further channels of the file are left out")
        pixels = _as_integers(np.ascontiguousarray(values[..., : colours + alpha]), said)
        if page.photometric == _MIN_IS_WHITE:
            pixels[..., 0] = np.iinfo(pixels.dtype).max - pixels[..., 0]
        return straight_alpha(pixels) if alpha and page.extra[:1] == (_ASSOCIATED,) else pixels

    def _metadata(self, page: _Page) -> tuple[Metadata, list[str]]:
        source = self._tiff.pages[page.index].aspage()
        tags = source.tags

        def content(code: int) -> bytes | None:
            tag = tags.get(code)
            if tag is None or tag.count > MAX_METADATA_BYTES:
                return None
            value = tag.value
            return value if isinstance(value, bytes) else bytes(value) if isinstance(value, tuple) else None

        text: list[TextEntry] = []
        for keyword, code in TEXT_TAGS.items():
            tag = tags.get(code)
            if tag is not None and isinstance(tag.value, str) and tag.value:
                text.append(TextEntry(keyword, tag.value))
        dpi = None
        unit = tags.get(296)
        if unit is not None and int(unit.value) in (2, 3):
            factor = 1.0 if int(unit.value) == 2 else 2.54
            across, down = (value * factor for value in source.get_resolution())
            dpi = (across, down) if across > 0 and down > 0 else None
        notices: list[str] = []
        exif = None
        if tags.get(_EXIF) is not None or tags.get(_GPS) is not None:
            exif = self._exif()
            if exif is None:
                notices.append("its EXIF is damaged and left out")
        iptc = _iptc(tags.get(_IPTC), source.parent.byteorder)
        return Metadata(content(_ICC), exif, content(_XMP), dpi, tuple(text), iptc=iptc), notices

    def _exif(self) -> bytes | None:
        self._file.seek(0)
        try:
            return described(TiffImagePlugin.TiffImageFile(self._file, "").getexif())
        except Exception:  # noqa: BLE001 - Pillow's parser of EXIF raises almost anything on damaged blocks
            return None


def _iptc(tag: tifffile.TiffTag | None, order: str) -> bytes | None:
    """Return the record of IPTC, which many programs store as numbers of 32 bits."""
    if tag is None or tag.count > MAX_METADATA_BYTES:
        return None
    value = tag.value
    if isinstance(value, tuple) and all(isinstance(number, int) for number in value):
        value = struct.pack(f"{order}{len(value)}I", *value) if int(tag.dtype) == 4 else bytes(value)
    return value.rstrip(b"\0") if isinstance(value, bytes) and value else None


def _as_integers(values: np.ndarray, said: list[str]) -> ImageInt:
    if values.dtype.kind == "f":
        pixels, notices = integers_of_floats(values)
        said += notices
        return pixels
    if values.dtype.itemsize > 2:
        said.append(f"its {8 * values.dtype.itemsize} bit were reduced to 16")
        return (values >> (8 * values.dtype.itemsize - 16)).astype(np.uint16)
    return np.ascontiguousarray(values.astype(np.uint8 if values.dtype.itemsize == 1 else np.uint16))


def _unpack_lzw(page: tifffile.TiffPage, file: BinaryIO) -> np.ndarray:
    """Decode a page of LZW, whose codes libtiff unpacks (tifffile needs imagecodecs for that)."""
    size = page.dtype.itemsize if page.dtype is not None else 1
    chunk_rows, chunk_columns = (
        (page.tilelength, page.tilewidth)
        if page.is_tiled
        else (
            page.rowsperstrip,
            page.imagewidth,
        )
    )
    planes = page.samplesperpixel if int(page.planarconfig or 1) == 2 else 1
    samples = page.samplesperpixel // planes
    down, across = -(-page.imagelength // chunk_rows), -(-page.imagewidth // chunk_columns)
    if len(page.dataoffsets) < down * across * planes:
        raise ValueError("strips are missing")
    order = page.parent.byteorder
    kind = page.dtype.kind if page.dtype is not None else "u"
    whole = np.zeros((planes, page.imagelength, page.imagewidth, samples), f"{order}{kind}{size}")
    for index in range(down * across * planes):
        plane, place = divmod(index, down * across)
        top, left = place // across * chunk_rows, place % across * chunk_columns
        rows = chunk_rows if page.is_tiled else min(chunk_rows, page.imagelength - top)
        file.seek(page.dataoffsets[index])
        codes = file.read(page.databytecounts[index])
        raw = _lzw(codes, rows, chunk_columns * samples * size)
        part = raw.reshape(rows, -1)
        values = _unpredicted(part, int(page.predictor), chunk_columns, samples, whole.dtype)
        target = whole[plane, top : top + rows, left : left + chunk_columns]
        target[...] = values[: target.shape[0], : target.shape[1]]
    return whole[0] if planes == 1 else whole[..., 0]


def _unpredicted(part: np.ndarray, predictor: int, columns: int, samples: int, dtype: np.dtype) -> np.ndarray:
    rows = part.shape[0]
    if predictor == 3:
        sums = np.cumsum(part.reshape(rows, -1, samples), axis=1, dtype=np.uint8).reshape(rows, dtype.itemsize, -1)
        big = np.ascontiguousarray(sums.transpose(0, 2, 1)).view(dtype.newbyteorder(">"))
        return big.reshape(rows, columns, samples)
    values = np.ascontiguousarray(part).view(dtype).reshape(rows, columns, samples)
    if predictor == 2:
        whole = values.astype(dtype.newbyteorder("="))
        unsigned = whole.view(f"u{dtype.itemsize}")
        return np.cumsum(unsigned, axis=1, dtype=unsigned.dtype).view(whole.dtype)
    return values


def _lzw(codes: bytes, rows: int, row_bytes: int) -> np.ndarray:
    """Unpack the codes of one strip: as the only strip of a small gray TIFF, whose pixels are its bytes."""
    entries = [
        (256, 4, row_bytes),
        (257, 4, rows),
        (258, 3, 8),
        (259, 3, _LZW),
        (262, 3, 1),
        (273, 4, 8 + 2 + 12 * 9 + 4),
        (277, 3, 1),
        (278, 4, rows),
        (279, 4, len(codes)),
    ]
    directory = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    file = b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4) + codes
    image = TiffImagePlugin.TiffImageFile(io.BytesIO(file), "")
    image.load()
    return np.asarray(image, np.uint8)
