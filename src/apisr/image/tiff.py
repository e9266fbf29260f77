"""TIFF files: all pages, 1 to 64 bits and floats, BigTIFF, associated alpha.

tifffile reads the structure and the deep pages, Pillow (libtiff) all others: palettes, CMYK, JPEG, fax. Depths of an
odd number of bits, LZW, Lab and CMYK with alpha are taken from the strips.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tifffile
from PIL import TiffImagePlugin

from apisr.core.errors import InputError
from apisr.image.colour import cmyk_to_rgb, lab_to_rgb, profile_fits
from apisr.image.convert import straight_alpha, to_eight_bit, upright
from apisr.image.decoding import MAX_METADATA_BYTES, Budget
from apisr.image.metadata import TEXT_TAGS, described, orientation_of, without_orientation
from apisr.image.pillow import pixels_of
from apisr.image.pnm import integers_of_floats
from apisr.image.stderr import LIBTIFF, captured_stderr
from apisr.image.tiff_strips import LZW, UNPACKED, unpacked
from apisr.image.types import Frame, ImageInt, Metadata, PictureInfo, TextEntry

_REDUCED, _MASK = 1, 4
_ORIENTATION, _XMP, _ICC, _EXTRA, _EXIF, _GPS, _IPTC = 274, 700, 34675, 338, 34665, 34853, 33723
_ASSOCIATED, _STRAIGHT = 1, 2
_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _PALETTE, _CMYK, _CIE_LAB, _ICC_LAB = 0, 1, 2, 3, 5, 8, 9
_LAB = (_CIE_LAB, _ICC_LAB, 10)
#: Samples of a pixel without alpha, where the pixels are taken from the strips.
_COLOURS = {_MIN_IS_WHITE: 1, _MIN_IS_BLACK: 1, _RGB: 3, _CMYK: 4, _CIE_LAB: 3, _ICC_LAB: 3}
_PHOTOMETRICS = {
    _MIN_IS_WHITE: "gray",
    _MIN_IS_BLACK: "gray",
    _RGB: "RGB",
    _PALETTE: "a palette",
    4: "a mask",
    _CMYK: "CMYK",
    6: "YCbCr",
    _CIE_LAB: "CIELab",
    _ICC_LAB: "ICC Lab",
    10: "ITU Lab",
    32803: "raw camera data (CFA)",
    32844: "LogL",
    32845: "LogLuv",
    34892: "raw camera data (linear)",
}
_KINDS = {"u": "", "i": " with a sign", "f": " floating point", "c": " complex", "": " of no known kind"}
_JPEG = (6, 7)
#: Compressions that libtiff, as Pillow brings it, does not know: JPEG 2000, JPEG XR, PNG, LERC, WebP, JPEG XL.
_BY_IMAGECODECS = (33003, 33004, 33005, 34712, 22610, 34934, 34933, 34887, 50001, 50002, 52546)


_STRUCTURE = re.compile(
    r"\s*(?:\{.*\"shape\"\s*:\s*\[|shape\s*=\s*\(|ImageJ=|(?:<\?xml.{,4096}?)?<(?:\w+:)?OME\b)",
    re.DOTALL,
)
_STRUCTURE_LEFT_OUT = "its description says how this very file is laid out (tifffile, ImageJ, OME) and is left out"


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
        """Whether the samples are taken from the strips: whole numbers or floats, in one of these colour spaces."""
        colours = _COLOURS.get(self.photometric)
        if colours is None or self.samples < colours or self.compression not in (*UNPACKED, *_BY_IMAGECODECS):
            return False
        usual = self.bits in (1, 2, 4, 8) and self.photometric != _ICC_LAB
        usual = usual or (self.photometric == _CMYK and self.bits == 16)
        if usual and not self.extra and self.compression in UNPACKED:
            return False  # Pillow's
        if self.sample_kind == "f":
            return self.bits in (16, 32, 64) and colours + (self.photometric in _LAB) < 4
        return self.sample_kind == "u" and (2 < self.bits <= 32 or self.bits == 64)

    @property
    def kind(self) -> str:
        """What is in it, for people."""
        colours = _PHOTOMETRICS.get(self.photometric, f"colours of kind {self.photometric}")
        with_alpha = " with alpha" if self.samples - 1 == _COLOURS.get(self.photometric) else ""
        try:
            packed = tifffile.COMPRESSION(self.compression).name
        except ValueError:
            packed = f"compression {self.compression}"
        return f"{colours}{with_alpha}, {self.bits} bit{_KINDS.get(self.sample_kind, '')}, {packed}"


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
        pixels, remarks = self._decoded(first)
        self._first: ImageInt | None = pixels
        self._notices += remarks
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
        """Decode a page.

        Raises:
            ValueError: it is damaged; libtiff sometimes says so and goes on.
        """
        if page.direct and page.compression != LZW:
            return self._direct(page)
        failure: Exception | None = None
        taken: tuple[ImageInt, list[str]] | None = None
        with captured_stderr(LIBTIFF) as lines:
            try:
                taken = self._by_libtiff(page)
            except OSError as error:
                failure = error
        if lines:
            raise ValueError(lines[0]) from failure
        if taken is None:
            raise ValueError("it cannot be decoded") if failure is None else failure
        return taken

    def _by_libtiff(self, page: _Page) -> tuple[ImageInt, list[str]]:
        if page.direct:
            return self._direct(page)
        pixels = self._by_pillow(page)
        return pixels, [f"its {page.bits} bit were read as 8"] if page.bits > 8 and pixels.dtype == np.uint8 else []

    def _by_pillow(self, page: _Page) -> ImageInt:
        """Let Pillow decode a page; it turns the pixels upright by itself."""
        self._file.seek(0)
        if page.compression in _JPEG and page.bits != 8:
            raise self._refused(page)
        try:
            image = TiffImagePlugin.TiffImageFile(self._file, "")
            if page.index:
                image.seek(page.index)
        except SyntaxError as error:
            if "unknown pixel mode" not in str(error):
                raise
            raise self._refused(page) from error
        if image.size != (page.width, page.height) and image.size != (page.height, page.width):
            raise ValueError("its directory contradicts itself")
        twelve = page.bits == 12 and image.mode == "I;16"
        if not twelve and (image.mode in ("I", "F") or image.mode.startswith("I;")):
            raise self._refused(page)
        image.load()
        if twelve:
            return (np.asarray(image, np.uint32)[..., None] * 65535 // 4095).astype(np.uint16)
        return pixels_of(image)

    def _refused(self, page: _Page) -> InputError:
        return InputError(
            f"cannot read '{self._path}': it is a TIFF in {page.kind}, which is not read. "
            "Convert it to RGB of 8 or 16 bit.",
            code="unsupported-picture",
        )

    def _direct(self, page: _Page) -> tuple[ImageInt, list[str]]:
        remarks: list[str] = []
        pixels = self._from_strips(page, remarks)
        return upright(pixels, page.orientation), remarks

    def _from_strips(self, page: _Page, remarks: list[str]) -> ImageInt:
        source = self._tiff.pages[page.index].aspage()
        if not all(source.databytecounts):  # tifffile would fill what is missing with zeros
            raise ValueError("strips are missing")
        if page.compression == LZW or page.bits not in (8, 16, 32, 64):
            values = unpacked(source, self._file)
        else:
            values = np.asarray(source.asarray())
            if values.ndim == 3 and int(source.planarconfig or 1) == 2:
                values = np.moveaxis(values, 0, 2)
        values = values if values.ndim == 3 else values[..., None]
        if values.shape[:2] != (page.height, page.width):
            raise ValueError(f"its pixels are {values.shape}, its header says {page.width}x{page.height}")
        colours = _COLOURS[page.photometric]
        alpha = colours in range(values.shape[2]) and page.extra[:1] in ((_ASSOCIATED,), (_STRAIGHT,), ())
        if values.shape[2] > colours + alpha:
            remarks.append("further channels of the file are left out")
        pixels = _as_integers(np.ascontiguousarray(values[..., : colours + alpha]), page.bits, remarks)
        if page.photometric == _MIN_IS_WHITE:
            pixels[..., 0] = np.iinfo(pixels.dtype).max - pixels[..., 0]
        if page.photometric in _LAB:
            return lab_to_rgb(pixels, signed=page.photometric == _CIE_LAB)
        if page.photometric == _CMYK:
            if page.bits > 8:
                remarks.append(f"its {page.bits} bit were read as 8")
            profile = source.tags.get(_ICC)
            pixels = cmyk_to_rgb(to_eight_bit(pixels), None if profile is None else profile.value)
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

        notices: list[str] = []
        text: list[TextEntry] = []
        for keyword, code in TEXT_TAGS.items():
            tag = tags.get(code)
            if tag is None or not isinstance(tag.value, str) or not tag.value:
                continue
            if keyword == "Description" and describes_structure(tag.value):
                notices.append(_STRUCTURE_LEFT_OUT)
            else:
                text.append(TextEntry(keyword, tag.value))
        dpi = None
        unit = tags.get(296)
        if unit is not None and int(unit.value) in (2, 3):
            factor = 1.0 if int(unit.value) == 2 else 2.54
            across, down = (value * factor for value in source.get_resolution())
            dpi = (across, down) if across > 0 and down > 0 else None
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
            tags = TiffImagePlugin.TiffImageFile(self._file, "").getexif()
            if describes_structure(str(tags.get(TEXT_TAGS["Description"], ""))):
                del tags[TEXT_TAGS["Description"]]
            return described(tags)
        except Exception:  # noqa: BLE001 - Pillow's parser of EXIF raises almost anything on damaged blocks
            return None


def describes_structure(text: str) -> bool:
    r"""Whether a description says how a file is laid out (shape, channels), which readers then expect of its pixels.

    So do tifffile, ImageJ and OME-XML.

    >>> describes_structure('{"shape": [4, 48, 64]}'), describes_structure("ImageJ=1.53t\\nimages=4")
    (True, True)
    >>> describes_structure("The shape of things to come")
    False
    """
    return _STRUCTURE.match(text) is not None


def _iptc(tag: tifffile.TiffTag | None, order: str) -> bytes | None:
    """Return the record of IPTC, which many programs store as numbers of 32 bits."""
    if tag is None or tag.count > MAX_METADATA_BYTES:
        return None
    value = tag.value
    if isinstance(value, tuple) and all(isinstance(number, int) for number in value):
        value = struct.pack(f"{order}{len(value)}I", *value) if int(tag.dtype) == 4 else bytes(value)
    return value.rstrip(b"\0") if isinstance(value, bytes) and value else None


def _as_integers(values: np.ndarray, bits: int, remarks: list[str]) -> ImageInt:
    if values.dtype.kind == "f":
        pixels, notices = integers_of_floats(values)
        remarks += notices
        return pixels
    if bits > 16:
        remarks.append(f"its {bits} bit were reduced to 16")
        return (values >> (bits - 16)).astype(np.uint16)
    if bits in (8, 16):
        return np.ascontiguousarray(values.astype(np.uint8 if bits == 8 else np.uint16))
    most, peak = (1 << bits) - 1, 255 if bits < 8 else 65535
    scaled = (values.astype(np.uint32) * peak + most // 2) // most
    return scaled.astype(np.uint8 if bits < 8 else np.uint16)
