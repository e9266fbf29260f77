"""Writing large pictures a band of rows at a time, so that the whole output is never in memory.

PNG is written here directly (filter rows, one zlib stream, chunks) because no library of the light core writes it in
bands with 16 bits, a colour profile and EXIF together; TIFF bands are handed to tifffile.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self, cast

import numpy as np
from numpy.typing import NDArray

from apisr.image import Metadata, Pixels

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}
_IDAT_BYTES = 1 << 20
_INCHES_PER_METRE = 39.37007874015748


class BandWriter(Protocol):
    """Takes bands of rows from top to bottom; used as a context manager."""

    def write(self, rows: Pixels) -> None:
        """Append rows ``(h, W, C)`` of the dtype given at the start."""
        ...

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file, or drop it on an error."""
        ...


class PngWriter:
    """A PNG file written in bands.

    Args:
        path: file to create (write to a partial name and rename; see :func:`apisr.core.files.atomic_path`).
        shape: (height, width, channels) of the whole picture; channels 1 to 4.
        dtype: uint8 or uint16.
        metadata: colour profile, EXIF, resolution.
        level: zlib level, 0 to 9.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: Any, metadata: Metadata, *, level: int = 4) -> None:
        self.height, self.width, self.channels = shape
        self.dtype = np.dtype(dtype)
        self._path = path
        self._metadata = metadata
        self._compress = zlib.compressobj(level, zlib.DEFLATED, 15, 9)
        self._pending = bytearray()
        self._above: NDArray[np.uint8] | None = None
        self._rows = 0
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        self._file = self._path.open("wb")
        self._file.write(_PNG_SIGNATURE)
        depth = 8 * self.dtype.itemsize
        self._chunk(
            b"IHDR", struct.pack(">IIBBBBB", self.width, self.height, depth, _PNG_COLOUR_TYPE[self.channels], 0, 0, 0)
        )
        if self._metadata.icc_profile:
            self._chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(self._metadata.icc_profile))
        if self._metadata.dpi:
            per_metre = [round(value * _INCHES_PER_METRE) for value in self._metadata.dpi]
            self._chunk(b"pHYs", struct.pack(">IIB", *per_metre, 1))
        if self._metadata.exif:
            self._chunk(b"eXIf", self._metadata.exif.removeprefix(b"Exif\0\0"))
        if self._metadata.xmp:
            self._chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + self._metadata.xmp)
        return self

    def write(self, rows: Pixels) -> None:
        """Append rows ``(h, W, C)``."""
        big_endian = rows.astype(self.dtype.newbyteorder(">"), copy=False)
        raw = np.ascontiguousarray(big_endian).view(np.uint8).reshape(rows.shape[0], -1)
        filtered = self._filtered(raw, self.channels * self.dtype.itemsize)
        self._pending += self._compress.compress(filtered.data)
        self._rows += rows.shape[0]
        while len(self._pending) >= _IDAT_BYTES:
            self._chunk(b"IDAT", bytes(self._pending[:_IDAT_BYTES]))
            del self._pending[:_IDAT_BYTES]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        file = cast("BinaryIO", self._file)
        try:
            if error is None:
                if self._rows != self.height:
                    raise ValueError(f"{self._rows} of {self.height} rows were written")
                self._pending += self._compress.flush()
                self._chunk(b"IDAT", bytes(self._pending))
                self._chunk(b"IEND", b"")
        finally:
            file.close()

    def _filtered(self, raw: NDArray[np.uint8], pixel_bytes: int) -> NDArray[np.uint8]:
        """Filter rows with Up (2) or Sub (1), whichever has the smaller sum of absolute differences, row by row."""
        above = np.concatenate([np.zeros_like(raw[:1]) if self._above is None else self._above, raw[:-1]])
        self._above = raw[-1:].copy()
        up = raw - above
        sub = raw.copy()
        sub[:, pixel_bytes:] -= raw[:, :-pixel_bytes]
        cost_up = np.abs(up.view(np.int8)).sum(axis=1, dtype=np.int64)
        cost_sub = np.abs(sub.view(np.int8)).sum(axis=1, dtype=np.int64)
        use_up = cost_up <= cost_sub
        filtered = np.empty((raw.shape[0], raw.shape[1] + 1), np.uint8)
        filtered[:, 0] = np.where(use_up, 2, 1)
        filtered[:, 1:] = np.where(use_up[:, None], up, sub)
        return filtered

    def _chunk(self, kind: bytes, content: bytes) -> None:
        file = cast("BinaryIO", self._file)
        file.write(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content)))


class TiffWriter:
    """A TIFF file (deflate) written in bands through tifffile; the arguments are those of :class:`PngWriter`."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: Any, metadata: Metadata) -> None:
        self.height, self.width, self.channels = shape
        self.dtype = np.dtype(dtype)
        self._path = path
        self._metadata = metadata
        self._bands: list[Pixels] = []
        self._rows = 0

    def __enter__(self) -> Self:
        import tifffile

        self._file = tifffile.TiffWriter(
            self._path, bigtiff=self.height * self.width * self.channels * self.dtype.itemsize > 2**32 - 2**25
        )
        self._raw_path = self._path.with_name(f"{self._path.name}.rows")
        self._raw = self._raw_path.open("wb+")
        return self

    def write(self, rows: Pixels) -> None:
        """Append rows ``(h, W, C)``."""
        self._raw.write(np.ascontiguousarray(rows, dtype=self.dtype).data)
        self._rows += rows.shape[0]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                if self._rows != self.height:
                    raise ValueError(f"{self._rows} of {self.height} rows were written")
                self._finish()
        finally:
            self._file.close()
            self._raw.close()
            self._raw_path.unlink(missing_ok=True)

    def _finish(self) -> None:
        self._raw.seek(0)
        rows_per_strip = max(1, (1 << 20) // (self.width * self.channels * self.dtype.itemsize))
        strips = self._strips(rows_per_strip)
        extra = {2: ["unassalpha"], 4: ["unassalpha"]}.get(self.channels)
        shape = (self.height, self.width, self.channels) if self.channels > 1 else (self.height, self.width)
        tags: list[tuple[int, str, int, bytes, bool]] = []
        if self._metadata.xmp:
            tags.append((700, "B", len(self._metadata.xmp), self._metadata.xmp, True))
        self._file.write(
            strips,
            shape=shape,
            dtype=self.dtype,
            photometric="rgb" if self.channels >= 3 else "minisblack",
            planarconfig="contig" if self.channels > 1 else None,
            extrasamples=extra,
            compression="zlib",
            predictor=True,
            rowsperstrip=rows_per_strip,
            iccprofile=self._metadata.icc_profile,
            resolution=self._metadata.dpi,
            resolutionunit="INCH" if self._metadata.dpi else None,
            extratags=tags,
            metadata=None,
            software="apisr",
        )

    def _strips(self, rows_per_strip: int) -> Any:
        row_bytes = self.width * self.channels * self.dtype.itemsize
        for first in range(0, self.height, rows_per_strip):
            rows = min(rows_per_strip, self.height - first)
            data = self._raw.read(rows * row_bytes)
            yield np.frombuffer(data, self.dtype).reshape(rows, self.width, self.channels)
