"""Writers that take pictures in bands of rows, so that a large output is never whole in memory.

All have one interface: :meth:`FrameWriter.start_frame`, rows from top to bottom, the next frame, :meth:`finish`. PNG
and TIFF are written here directly, because no library of the light installation writes them in bands with 16 bits, a
colour profile and texts together; GIF is put together from frames that Pillow packs.
"""

from __future__ import annotations

import struct
import zlib
from abc import ABC, abstractmethod
from fractions import Fraction
from typing import BinaryIO

import numpy as np

from apisr.core.memory import check_memory
from apisr.image.convert import to_eight_bit
from apisr.image.gif import packed_frame
from apisr.image.metadata import comment_of
from apisr.image.types import ImageInt, ImageU8, IntegerType, PictureInfo, TextEntry

_PNG_COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}
_IDAT_BYTES = 1 << 20
_INCHES_PER_METRE = 39.37007874015748


class FrameWriter(ABC):
    """A picture file being written.

    Args:
        file: opened for writing, at its start.
        info: what is to be written; its metadata goes into the file.
    """

    def __init__(self, file: BinaryIO, info: PictureInfo) -> None:
        self.file = file
        self.info = info
        self.shape = (0, 0, 0)
        self.dtype: IntegerType = np.dtype(np.uint8)
        self.duration_ms = 0.0
        self.frames_written = 0
        self._rows_left = 0

    def start_frame(
        self,
        height: int,
        width: int,
        channels: int,
        dtype: IntegerType,
        *,
        duration_ms: float = 0.0,
    ) -> None:
        """Begin the next frame or page.

        Args:
            height: in pixels.
            width: in pixels.
            channels: 1 to 4.
            dtype: uint8 or uint16.
            duration_ms: how long an animation shows it.

        Raises:
            ValueError: the frame before is not complete, or a still has its frame already.
        """
        self._check_complete()
        if self.frames_written and self.info.kind == "still":
            raise ValueError("a still has one frame")
        self.shape, self.dtype, self.duration_ms = (height, width, channels), np.dtype(dtype), duration_ms
        self._rows_left = height
        self.begin()

    def write(self, rows: ImageInt) -> None:
        """Append rows ``(h, W, C)`` of the frame that was begun.

        Raises:
            ValueError: rows of another width, number of channels or dtype, or more rows than the frame has.
        """
        if rows.shape[1:] != self.shape[1:] or rows.dtype != self.dtype:
            raise ValueError(f"rows of {rows.shape[1:]} {rows.dtype} for a frame of {self.shape[1:]} {self.dtype}")
        self._rows_left -= rows.shape[0]
        if self._rows_left < 0:
            raise ValueError(f"more than the {self.shape[0]} rows of the frame were written")
        self.take(rows)
        if self._rows_left == 0:
            self.frames_written += 1
            self.end()

    def finish(self) -> None:
        """Complete the file.

        Raises:
            ValueError: no frame was written, or the last one is not complete.
        """
        self._check_complete()
        if self.frames_written == 0:
            raise ValueError("no frame was written")
        self.close()

    def abandon(self) -> None:  # noqa: B027 - most have nothing to end
        """Give up: end threads and the like."""

    @abstractmethod
    def begin(self) -> None:
        """Write what comes before the rows of a frame."""

    @abstractmethod
    def take(self, rows: ImageInt) -> None:
        """Write rows."""

    @abstractmethod
    def end(self) -> None:
        """Write what comes after the rows of a frame."""

    @abstractmethod
    def close(self) -> None:
        """Write what comes after all frames."""

    def _check_complete(self) -> None:
        if self._rows_left:
            raise ValueError(f"{self._rows_left} of {self.shape[0]} rows of the frame are missing")


class WholeFrameWriter(FrameWriter):
    """A writer that needs each frame whole."""

    def begin(self) -> None:
        """Make room for the frame."""
        height, width, channels = self.shape
        check_memory(
            height * width * (channels * self.dtype.itemsize + 8),
            what=f"the output ({width}x{height} pixels)",
            advice="Choose .png or .tif, which are written in bands.",
        )
        self._frame: ImageInt = np.empty(self.shape, self.dtype)
        self._filled = 0

    def take(self, rows: ImageInt) -> None:
        """Keep the rows."""
        self._frame[self._filled : self._filled + len(rows)] = rows
        self._filled += len(rows)

    def end(self) -> None:
        """Write the frame."""
        self.write_frame(self._frame)
        self._frame = self._frame[:0]

    @abstractmethod
    def write_frame(self, pixels: ImageInt) -> None:
        """Write one whole frame."""


class PngWriter(FrameWriter):
    """PNG, and APNG where there is more than one frame (the whole canvas each time)."""

    level = 4

    def begin(self) -> None:
        """Write the header before the first frame, the control chunk of an animation before each."""
        height, width, channels = self.shape
        self._compress = zlib.compressobj(self.level, zlib.DEFLATED, 15, 9)
        self._pending = bytearray()
        self._above: ImageU8 | None = None
        animated = self.info.kind == "animation"
        self._first = self.frames_written == 0
        if self._first:
            self._sequence = 0
            self.file.write(b"\x89PNG\r\n\x1a\n")
            depth = 8 * self.dtype.itemsize
            self._chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, _PNG_COLOUR_TYPE[channels], 0, 0, 0))
            self._write_metadata()
            if animated:
                self._control_at = self.file.tell()
                self._chunk(b"acTL", struct.pack(">II", self.info.frame_count, self.info.plays))
        if animated:
            delay = _delay(self.duration_ms)
            self._chunk(b"fcTL", struct.pack(">IIIIIHHBB", self._next(), width, height, 0, 0, *delay, 0, 0))

    def take(self, rows: ImageInt) -> None:
        """Filter and pack rows."""
        big_endian = rows.astype(self.dtype.newbyteorder(">"), copy=False)
        raw = np.ascontiguousarray(big_endian).view(np.uint8).reshape(rows.shape[0], -1)
        self._pending += self._compress.compress(self._filtered(raw, self.shape[2] * self.dtype.itemsize).data)
        while len(self._pending) >= _IDAT_BYTES:
            self._data(bytes(self._pending[:_IDAT_BYTES]))
            del self._pending[:_IDAT_BYTES]

    def end(self) -> None:
        """Write what is left of the frame."""
        self._pending += self._compress.flush()
        self._data(bytes(self._pending))

    def close(self) -> None:
        """Write the end, and the number of frames if it was not the one expected."""
        self._chunk(b"IEND", b"")
        if self.info.kind == "animation" and self.frames_written != self.info.frame_count:
            self.file.seek(self._control_at)
            self._chunk(b"acTL", struct.pack(">II", self.frames_written, self.info.plays))
            self.file.seek(0, 2)

    def _write_metadata(self) -> None:
        metadata = self.info.metadata
        if metadata.cicp:
            self._chunk(b"cICP", metadata.cicp)
        if metadata.icc_profile:
            self._chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc_profile))
        if metadata.gamma:
            self._chunk(b"gAMA", struct.pack(">I", round(metadata.gamma * 100_000)))
        if metadata.chromaticities:
            self._chunk(b"cHRM", struct.pack(">8I", *(round(value * 100_000) for value in metadata.chromaticities)))
        if metadata.dpi:
            per_metre = [round(value * _INCHES_PER_METRE) for value in metadata.dpi]
            self._chunk(b"pHYs", struct.pack(">IIB", *per_metre, 1))
        if metadata.exif:
            self._chunk(b"eXIf", metadata.exif.removeprefix(b"Exif\0\0"))
        if metadata.xmp:
            self._chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp)
        for entry in metadata.text:
            self._chunk(*_text_chunk(entry))

    def _filtered(self, raw: ImageU8, pixel_bytes: int) -> ImageU8:
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

    def _data(self, content: bytes) -> None:
        if self._first:
            self._chunk(b"IDAT", content)
        else:
            self._chunk(b"fdAT", struct.pack(">I", self._next()) + content)

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence - 1

    def _chunk(self, kind: bytes, content: bytes) -> None:
        self.file.write(
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )


class GifWriter(WholeFrameWriter):
    """GIF: opaque frames as the rectangle that changed, others whole."""

    def begin(self) -> None:
        """Write the header before the first frame."""
        super().begin()
        if self.frames_written:
            return
        self._before: ImageU8 | None = None
        self._due_ms = self._shown_ms = 0.0
        self.file.write(b"GIF89a" + struct.pack("<HHBBB", self.shape[1], self.shape[0], 0x70, 0, 0))
        comment = comment_of(self.info.metadata)
        if comment:
            self.file.write(b"!\xfe" + _sub_blocks(comment))
        if self.info.kind == "animation" and self.info.loop is not None:
            self.file.write(b"!\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<HB", min(self.info.loop, 65535), 0))

    def write_frame(self, pixels: ImageInt) -> None:
        """Pack one frame."""
        eight = to_eight_bit(pixels)
        if eight.shape[2] <= 2:
            eight = eight[..., [0, 0, 0, 1] if eight.shape[2] == 2 else [0, 0, 0]]
        clear = eight.shape[2] == 4
        top, left, bottom, right = 0, 0, *eight.shape[:2]
        if not clear and self._before is not None:
            top, left, bottom, right = _changed(self._before, eight)
        self._before = eight
        part = np.ascontiguousarray(eight[top:bottom, left:right])
        disposal = (2 if clear else 1) if self.info.kind == "animation" else 0
        self._due_ms += self.duration_ms
        delay_ms = 10.0 * round(
            (self._due_ms - self._shown_ms) / 10
        )  # what rounding leaves over goes to the next frame
        self._shown_ms += delay_ms
        self.file.write(packed_frame(part, left, top, delay_ms=min(delay_ms, 655_350.0), disposal=disposal))

    def close(self) -> None:
        """Write the end."""
        self.file.write(b";")


def _text_chunk(entry: TextEntry) -> tuple[bytes, bytes]:
    keyword = entry.keyword.encode("latin-1", errors="replace")[:79]
    if not entry.language and not entry.translated and "\0" not in entry.text:
        try:
            return b"tEXt", keyword + b"\0" + entry.text.encode("latin-1")
        except UnicodeEncodeError:
            pass
    language, translated = entry.language.encode("latin-1", errors="replace"), entry.translated.encode()
    return b"iTXt", b"\0".join([keyword, b"\0\0" + language, translated, entry.text.encode()])


def _sub_blocks(content: bytes) -> bytes:
    parts = [content[at : at + 255] for at in range(0, len(content), 255)]
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


def _changed(before: ImageU8, after: ImageU8) -> tuple[int, int, int, int]:
    """Return the rectangle (top, left, bottom, right) outside which two frames are equal; one pixel at least."""
    differs = (before != after).any(axis=2)
    rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
    if not len(rows):
        return 0, 0, 1, 1
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _delay(duration_ms: float) -> tuple[int, int]:
    """Return how long a frame is shown as seconds in a fraction of 16-bit numbers, exact where there is one.

    >>> _delay(1000 / 30), _delay(40.0), _delay(90_000.0)
    ((1, 30), (1, 25), (65535, 1000))
    """
    if duration_ms >= 65_535:
        return 65_535, 1000
    exact = Fraction(duration_ms / 1000).limit_denominator(1001 if duration_ms < 65_000 else 1)
    return exact.numerator, exact.denominator
