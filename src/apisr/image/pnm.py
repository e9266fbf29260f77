r"""The PNM family: PBM, PGM, PPM, PAM and PFM, of any maximum up to 65535 and in text or binary.

>>> picture = decode_pnm(b"P2 3 1 # a comment\n 4\n 0 2 4")[0]
>>> picture.ravel().tolist()
[0, 128, 255]
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from apisr.image.types import ImageInt

_FIELD = re.compile(rb"(?:[ \t\r\n\x0b\x0c]|#[^\r\n]*)*([^ \t\r\n#]+)")
_CHANNELS = {b"P1": 1, b"P2": 1, b"P3": 3, b"P4": 1, b"P5": 1, b"P6": 3, b"Pf": 1, b"PF": 3}


def decode_pnm(
    data: bytes, *, check: Callable[[int, int], None] = lambda width, height: None
) -> tuple[ImageInt, tuple[str, ...]]:
    """Decode the first picture of a file.

    Args:
        data: the file.
        check: called with width and height before anything is allocated.

    Returns:
        ``(H, W, C)`` uint8, or uint16 where the file has more than 255 levels, and notices.

    Raises:
        ValueError: the file is damaged or cut off.
    """
    kind = data[:2]
    if kind == b"P7":
        return _pam(data, check), ()
    fields, position = _header(data, 3 if kind in (b"P1", b"P4") else 4)
    width, height = int(fields[1]), int(fields[2])
    check(width, height)
    if kind in (b"Pf", b"PF"):
        return _floats(data[position:], width, height, _CHANNELS[kind], float(fields[3]))
    maximum = 1 if kind in (b"P1", b"P4") else int(fields[3])
    count = width * height * _CHANNELS[kind]
    if kind == b"P4":
        packed = _taken(data, position, height * ((width + 7) // 8), 1)
        values = 1 - np.unpackbits(packed.reshape(height, -1), axis=1)[:, :width]
    elif kind == b"P1":
        digits = re.sub(rb"#[^\r\n]*|[^01]", b"", data[position:])[:count]
        values = 1 - _exactly(np.frombuffer(digits, np.uint8) - ord("0"), count)
    elif kind in (b"P2", b"P3"):
        words = re.sub(rb"#[^\r\n]*", b"", data[position:]).split(maxsplit=count)[:count]
        values = _exactly(np.array([int(word) for word in words], np.int64), count)
    else:
        values = _taken(data, position, count, 2 if maximum > 255 else 1)
    return _scaled(values.reshape(height, width, _CHANNELS[kind]), maximum), ()


def _header(data: bytes, count: int) -> tuple[list[bytes], int]:
    fields: list[bytes] = []
    position = 0
    for _ in range(count):
        found = _FIELD.match(data, position)
        if found is None:
            raise ValueError("it ends in its header")
        fields.append(found.group(1))
        position = found.end()
    return fields, position + 1


def _pam(data: bytes, check: Callable[[int, int], None]) -> ImageInt:
    head, mark, _ = data[:4096].partition(b"ENDHDR\n")
    if not mark:
        raise ValueError("its header has no end")
    rows = [line.split(maxsplit=1) for line in head.splitlines()[1:] if line.strip() and not line.startswith(b"#")]
    fields = {row[0]: row[1] for row in rows if len(row) == 2}
    width, height, depth, maximum = (int(fields[name]) for name in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL"))
    check(width, height)
    if not 1 <= depth <= 4:
        raise ValueError(f"{depth} channels")
    values = _taken(data, len(head) + len(mark), width * height * depth, 2 if maximum > 255 else 1)
    return _scaled(values.reshape(height, width, depth), maximum)


def _taken(data: bytes, position: int, count: int, size: int) -> np.ndarray:
    if len(data) - position < count * size:
        raise ValueError(f"{max(0, len(data) - position)} of {count * size} bytes are there")
    return np.frombuffer(data, ">u2" if size == 2 else np.uint8, count, position)


def _exactly(values: np.ndarray, count: int) -> np.ndarray:
    if len(values) != count:
        raise ValueError(f"{len(values)} of {count} values are there")
    return values


def _scaled(values: np.ndarray, maximum: int) -> ImageInt:
    if not 1 <= maximum <= 65535:
        raise ValueError(f"a maximum of {maximum}")
    peak, dtype = (65535, np.uint16) if maximum > 255 else (255, np.uint8)
    if maximum == peak:
        return np.ascontiguousarray(values.astype(dtype))
    scaled = (np.clip(values.astype(np.int64), 0, maximum) * peak * 2 + maximum) // (2 * maximum)
    return np.ascontiguousarray(scaled.astype(dtype))


def _floats(body: bytes, width: int, height: int, channels: int, scale: float) -> tuple[ImageInt, tuple[str, ...]]:
    count = width * height * channels
    if len(body) < 4 * count:
        raise ValueError(f"{len(body)} of {4 * count} bytes are there")
    values = np.frombuffer(body, "<f4" if scale < 0 else ">f4", count).reshape(height, width, channels)[::-1]
    return integers_of_floats(values)


def integers_of_floats(values: np.ndarray) -> tuple[ImageInt, tuple[str, ...]]:
    """Return a picture of floats, meant to be in [0, 1], as uint16 of the same shape, and notices on what that lost."""
    known = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=1.0, neginf=0.0)
    notices = ["its floating-point values were rounded to 16 bit"]
    if known.size and (known.min() < 0 or known.max() > 1):
        notices.append("values below 0 or above 1 were cut off")
    return np.ascontiguousarray(np.floor(np.clip(known, 0, 1) * 65535 + 0.5).astype(np.uint16)), tuple(notices)
