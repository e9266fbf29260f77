"""Strips and tiles of TIFF that tifffile does not unpack by itself: LZW codes, and samples of 3 to 31 bits.

Samples of such a depth follow one another as bits, the highest first, and each row begins with a whole byte (TIFF 6.0,
section 3 and 23). Only those of 24 bits have an order of bytes, that of the file.

    >>> _samples(np.array([[0b00000100, 0b00100000, 0b11000000]], np.uint8), bits=6, count=3, order="<").tolist()
    [[1, 2, 3]]
"""

from __future__ import annotations

import io
import lzma
import struct
import zlib
from typing import BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from apisr.image.pack_bits import unpack_bits

NONE, LZW, PACK_BITS = 1, 5, 32773
_DEFLATE, _LZMA = (8, 32946), 34925
#: Compressions whose strips are unpacked here.
UNPACKED = (NONE, LZW, PACK_BITS, *_DEFLATE, _LZMA)
#: Rows whose bits are taken apart at once: eight bytes stand for one.
_ROWS_AT_ONCE = 64
_WHOLE_BYTES = (8, 16, 32, 64)


def unpacked(page: tifffile.TiffPage, file: BinaryIO) -> NDArray[np.generic]:
    """Decode a page ``(H, W, samples)``; samples of odd depths become uint8, uint16 or uint32, not scaled.

    Raises:
        ValueError: strips are missing or damaged.
    """
    bits = int(page.bitspersample)
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
    dtype = page.dtype if page.dtype is not None else np.dtype(np.uint8)
    whole = np.zeros((planes, page.imagelength, page.imagewidth, samples), dtype.newbyteorder(order))
    row_bytes = -(-chunk_columns * samples * bits // 8)
    for index in range(down * across * planes):
        plane, place = divmod(index, down * across)
        top, left = place // across * chunk_rows, place % across * chunk_columns
        rows = chunk_rows if page.is_tiled else min(chunk_rows, page.imagelength - top)
        file.seek(page.dataoffsets[index])
        part = _bytes_of(page, file.read(page.databytecounts[index]), rows, row_bytes)
        if bits in _WHOLE_BYTES:
            values = _unpredicted(part, int(page.predictor), chunk_columns, samples, whole.dtype)
        else:
            values = _samples(part, bits=bits, count=chunk_columns * samples, order=order)
            values = values.reshape(rows, chunk_columns, samples)
        target = whole[plane, top : top + rows, left : left + chunk_columns]
        target[...] = values[: target.shape[0], : target.shape[1]]
    return whole[0] if planes == 1 else np.moveaxis(whole[..., 0], 0, 2)


def _bytes_of(page: tifffile.TiffPage, codes: bytes, rows: int, row_bytes: int) -> NDArray[np.uint8]:
    """Return the bytes of one strip or tile ``(rows, row_bytes)``."""
    compression = int(page.compression)
    if int(page.fillorder) == 2:
        codes = np.packbits(np.unpackbits(np.frombuffer(codes, np.uint8), bitorder="little")).tobytes()
    size = rows * row_bytes
    if compression == LZW:
        return _lzw(codes, rows, row_bytes)
    if compression in _DEFLATE:
        codes = zlib.decompressobj().decompress(codes, size)
    elif compression == _LZMA:
        codes = lzma.LZMADecompressor().decompress(codes, size)
    elif compression == PACK_BITS:
        codes = unpack_bits(codes, size)
    if len(codes) < size:
        raise ValueError("a strip is too short")
    return np.frombuffer(codes[:size], np.uint8).reshape(rows, row_bytes)


def _samples(part: NDArray[np.uint8], *, bits: int, count: int, order: str) -> NDArray[np.uint32]:
    """Take rows of bytes apart into `count` samples each."""
    if bits == 24:
        triples = part[:, : 3 * count].reshape(len(part), count, 3).astype(np.uint32)
        low, middle, high = (0, 1, 2) if order == "<" else (2, 1, 0)
        values = triples[..., low] | triples[..., middle] << 8 | triples[..., high] << 16
        return values.astype(np.uint32)
    result = np.empty((len(part), count), np.uint32)
    for top in range(0, len(part), _ROWS_AT_ONCE):
        rows = np.unpackbits(part[top : top + _ROWS_AT_ONCE], axis=1)[:, : bits * count]
        every = rows.reshape(len(rows), count, bits)
        values = np.zeros((len(rows), count), np.uint32)
        for place in range(bits):
            values = values << 1 | every[..., place]
        result[top : top + len(rows)] = values
    return result


def _unpredicted(part: NDArray[np.uint8], predictor: int, columns: int, samples: int, dtype: np.dtype) -> np.ndarray:
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


def _lzw(codes: bytes, rows: int, row_bytes: int) -> NDArray[np.uint8]:
    """Unpack the codes of one strip: as the only strip of a small gray TIFF, whose pixels are its bytes."""
    entries = [
        (256, 4, row_bytes),
        (257, 4, rows),
        (258, 3, 8),
        (259, 3, LZW),
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
    return np.asarray(image, np.uint8).reshape(rows, row_bytes)
