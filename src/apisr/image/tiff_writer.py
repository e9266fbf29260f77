"""TIFF in bands: strips of deflate with a predictor, one directory a page, BigTIFF where 4 GB would not do.

The layout is that of TIFF 6.0 with Adobe's supplements; everything is little-endian.
"""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

import numpy as np

from apisr.core.errors import RunError
from apisr.image.metadata import TEXT_TAGS, tiff_directory, tiff_tags
from apisr.image.stream import FrameWriter
from apisr.image.types import ImageInt, PictureInfo

_STRIP_BYTES = 1 << 20
_EXIF_IFD, _GPS_IFD = 34665, 34853
_CLASSIC_BYTES = 2**32 - 2**25
_LEVEL = 5
_BYTE, _ASCII, _SHORT, _LONG, _RATIONAL, _UNDEFINED, _LONG8 = 1, 2, 3, 4, 5, 7, 16
_SIZES = {_BYTE: 1, _ASCII: 1, _SHORT: 2, _LONG: 4, _RATIONAL: 8, _UNDEFINED: 1, _LONG8: 8}


class TiffWriter(FrameWriter):
    """A TIFF file of one or more pages; see :class:`apisr.image.stream.FrameWriter`."""

    def __init__(self, file: BinaryIO, info: PictureInfo) -> None:
        super().__init__(file, info)
        self._big = False
        self._link_at = 0

    def begin(self) -> None:
        """Write the header before the first page."""
        height, width, channels = self.shape
        self._row_bytes = width * channels * self.dtype.itemsize
        self._rows_per_strip = max(1, min(height, _STRIP_BYTES // self._row_bytes))
        self._strip: list[ImageInt] = []
        self._gathered = 0
        self._strips: list[tuple[int, int]] = []
        if self.frames_written == 0:
            self._big = height * self._row_bytes * max(1, self.info.frame_count) > _CLASSIC_BYTES
            self.file.write(b"II+\0\x08\0\0\0" + bytes(8) if self._big else b"II*\0" + bytes(4))
            self._link_at = 8 if self._big else 4

    def take(self, rows: ImageInt) -> None:
        """Gather rows and write the strips that are full."""
        while len(rows):
            part = rows[: self._rows_per_strip - self._gathered]
            self._strip.append(part.copy())
            self._gathered += len(part)
            rows = rows[len(part) :]
            if self._gathered == self._rows_per_strip:
                self._write_strip()

    def end(self) -> None:
        """Write the last strip and the directory of the page."""
        if self._gathered:
            self._write_strip()
        self._write_directory()

    def close(self) -> None:
        """Nothing comes after the last page."""

    def _write_strip(self) -> None:
        rows = np.concatenate(self._strip).astype(self.dtype.newbyteorder("<"), copy=False)
        differences = rows.copy()
        differences[:, 1:] -= rows[:, :-1]
        self._strip, self._gathered = [], 0
        packed = zlib.compress(differences.tobytes(), _LEVEL)
        offset = self._aligned()
        if not self._big and offset + len(packed) > 2**32 - 2**20:
            raise RunError("the pages of this TIFF are larger than 4 GB together.", code="file-too-large")
        self.file.write(packed)
        self._strips.append((offset, len(packed)))

    def _aligned(self) -> int:
        position = self.file.tell()
        if position % 2:
            self.file.write(b"\0")
        return position + position % 2

    def _write_directory(self) -> None:
        entries = sorted(self._entries())
        count, place = ("<Q", "<Q") if self._big else ("<H", "<I")
        inline = 8 if self._big else 4
        packed: list[bytes] = []
        for tag, kind, values in entries:
            content = values if len(values) > inline else values.ljust(inline, b"\0")
            if len(values) > inline:
                offset = self._aligned()
                self.file.write(content)
                content = struct.pack(place, offset)
            head = struct.pack("<HHQ" if self._big else "<HHI", tag, kind, len(values) // _SIZES[kind])
            packed.append(head + content)
        directory_at = self._aligned()
        self.file.write(struct.pack(count, len(entries)) + b"".join(packed))
        link_at = self.file.tell()
        self.file.write(bytes(inline))
        self.file.seek(self._link_at)
        self.file.write(struct.pack(place, directory_at))
        self.file.seek(0, 2)
        self._link_at = link_at

    def _entries(self) -> list[tuple[int, int, bytes]]:
        height, width, channels = self.shape
        offset_kind, offset_code = (_LONG8, "Q") if self._big else (_LONG, "I")

        def numbers(code: str, *values: int) -> bytes:
            return struct.pack(f"<{len(values)}{code}", *values)

        entries = [
            (254, _LONG, numbers("I", 2 if self.info.kind == "pages" else 0)),
            (256, _LONG, numbers("I", width)),
            (257, _LONG, numbers("I", height)),
            (258, _SHORT, numbers("H", *[8 * self.dtype.itemsize] * channels)),
            (259, _SHORT, numbers("H", 8)),
            (262, _SHORT, numbers("H", 2 if channels >= 3 else 1)),
            (273, offset_kind, numbers(offset_code, *(offset for offset, _ in self._strips))),
            (277, _SHORT, numbers("H", channels)),
            (278, _LONG, numbers("I", self._rows_per_strip)),
            (279, offset_kind, numbers(offset_code, *(size for _, size in self._strips))),
            (284, _SHORT, numbers("H", 1)),
            (317, _SHORT, numbers("H", 2)),
            (339, _SHORT, numbers("H", *[1] * channels)),
        ]
        if channels in (2, 4):
            entries.append((338, _SHORT, numbers("H", 2)))
        return entries + self._metadata_entries()

    def _metadata_entries(self) -> list[tuple[int, int, bytes]]:
        metadata = self.info.metadata
        entries: list[tuple[int, int, bytes]] = []
        if metadata.dpi:
            across, down = (struct.pack("<II", round(value * 1000), 1000) for value in metadata.dpi)
            entries += [(282, _RATIONAL, across), (283, _RATIONAL, down), (296, _SHORT, struct.pack("<H", 2))]
        if metadata.icc_profile:
            entries.append((34675, _UNDEFINED, metadata.icc_profile))
        if self.frames_written > 1:
            return entries
        if metadata.xmp:
            entries.append((700, _BYTE, metadata.xmp))
        texts = tiff_tags(metadata.exif) if metadata.exif else {}
        texts |= {
            TEXT_TAGS[entry.keyword]: entry.text.encode() for entry in metadata.text if entry.keyword in TEXT_TAGS
        }
        if metadata.iptc:
            entries.append((33723, _UNDEFINED, metadata.iptc))
        entries += self._exif_entries()
        entries += [(tag, _ASCII, text.replace(b"\0", b" ") + b"\0") for tag, text in texts.items()]
        return entries

    def _exif_entries(self) -> list[tuple[int, int, bytes]]:
        """Write the directories of EXIF and return the entries that lead to them."""
        exif = self.info.metadata.exif
        entries: list[tuple[int, int, bytes]] = []
        if exif is None or self._big:
            return entries
        for tag in (_EXIF_IFD, _GPS_IFD):
            offset = self._aligned()
            content = tiff_directory(exif, tag, offset)
            if content is not None:
                self.file.write(content)
                entries.append((tag, _LONG, struct.pack("<I", offset)))
        return entries
