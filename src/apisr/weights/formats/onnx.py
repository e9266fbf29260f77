r"""ONNX files read without the package ``onnx``: metadata, weights, the places where weights lie, and a checksum.

An ONNX file is one protobuf message. Its metadata stand in field 14, its graph in field 7, and the weights of a graph
(initialisers) in field 5 there. Skipping over the other fields needs neither the package nor the memory for them.

The format has no checksum: an engine runs a file with changed weights. Files of ours state in their metadata the
SHA-256 of all their bytes but the 64 digits themselves (:data:`SHA256`).

>>> list(fields(b"\x0a\x02hi", 0, 4))
[(1, 2, 4)]
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from apisr.core.errors import ModelError

#: Bytes of a file: read at once, or mapped.
Buffer = bytes | mmap.mmap

#: Fields of the messages.
GRAPH, METADATA, INITIALISER = 7, 14, 5
_DIMS, _TYPE, _FLOATS, _NAME, _RAW = 1, 2, 4, 8, 9
_DTYPES = {1: np.dtype("<f4"), 10: np.dtype("<f2")}
#: Entry of the metadata of files of ours.
SHA256 = "apisr.sha256"
#: Ending of the name of an array that is stored in 16 bits and cast when the file is loaded.
HALF = ".half"
#: Largest metadata entry and number of dimensions that are read.
_MAX_ENTRY_BYTES, _MAX_DIMS = 4 << 20, 8


@dataclass(frozen=True)
class Initialiser:
    """A weight of floating-point values that stand in the file as bytes.

    Attributes:
        name: of the array.
        dtype: float32 or float16, little-endian.
        shape: of the array.
        start: first byte in the file.
        end: after the last byte.
        description: everything that the file says of it but its values.
    """

    name: str
    dtype: np.dtype[np.floating]
    shape: tuple[int, ...]
    start: int
    end: int
    description: bytes


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata entries of an ONNX file without loading it.

    Raises:
        ModelError: the file is not an ONNX model (code ``not-an-onnx-file``).
    """
    data = _mapped(path)
    try:
        found = [data[start:end].decode("utf-8", errors="replace") for place in _entries(data) for start, end in place]
        graphs = any(number == GRAPH for number, _, _ in fields(data, 0, len(data)))
    except ValueError as error:
        raise not_onnx(path, str(error)) from error
    if not graphs:
        raise not_onnx(path, "no graph in it")
    return dict(zip(found[::2], found[1::2], strict=True))


def check_sha256(path: Path) -> None:
    """Check that the bytes of a file have the SHA-256 that it states; a file that states none is taken as it is.

    Raises:
        ModelError: they do not (code ``model-damaged``), or it is not an ONNX model (code ``not-an-onnx-file``).
    """
    data = _mapped(path)
    try:
        place = _sha256_place(data)
    except ValueError as error:
        raise not_onnx(path, str(error)) from error
    if place is not None and data[slice(*place)] != _sha256(data, place):
        raise ModelError(
            f"the model '{path}' is damaged, or another program changed it: its bytes do not have the SHA-256 that it "
            f"states. Export it again (or, where the change is meant, take '{SHA256}' out of its metadata).",
            code="model-damaged",
        )


def with_sha256(content: bytes) -> bytes:
    """Return the bytes of an ONNX file with an entry of their SHA-256: written anew, or put before the other entries.

    (A file that is cut off behind the entry still has it.) No other byte is changed.

    Raises:
        ValueError: the file is damaged.
    """
    place = _sha256_place(content)
    if place is None:
        at = 0
        for number, _, end in fields(content, 0, len(content)):
            if number == METADATA:
                break
            at = end
        entry = _field(METADATA, _field(1, SHA256.encode()) + _field(2, b"0" * 64))
        content = content[:at] + entry + content[at:]
        place = (at + len(entry) - 64, at + len(entry))
    return content[: place[0]] + _sha256(content, place) + content[place[1] :]


def read_arrays(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return all float weights of an ONNX file as float32; those stored in 16 bits (``NAME.half``) have their own name.

    Raises:
        ModelError: the file is not an ONNX model (code ``not-an-onnx-file``).
    """
    data = _mapped(path)
    try:
        found = [value for value in initialisers(data) if value is not None]
        return {value.name.removesuffix(HALF): _array(data, value) for value in found}
    except ValueError as error:
        raise not_onnx(path, str(error)) from error


def initialisers(data: Buffer) -> Iterator[Initialiser | None]:
    """Yield the weights of all graphs at the top of a file, None for one that is not of floats stored as bytes.

    Raises:
        ValueError: the file is damaged.
    """
    for number, start, end in fields(data, 0, len(data)):
        if number == GRAPH:
            for inner, first, last in fields(data, start, end):
                if inner == INITIALISER:
                    yield initialiser(data, first, last)


def initialiser(data: Buffer, start: int, end: int) -> Initialiser | None:
    """Read what stands in a tensor's message; None if it is not of floats stored as bytes.

    Raises:
        ValueError: the message is damaged.
    """
    kind, name, place, description = 0, "", None, b""
    shape: list[int] = []
    for number, first, last in fields(data, start, end):
        if number in (_RAW, _FLOATS):
            place = (first, last)
            description += (last - first).to_bytes(8, "little")
            continue
        if number == _TYPE:
            kind, _ = varint(data, first)
        elif number == _NAME:
            name = data[first:last].decode("utf-8", errors="replace")
        elif number == _DIMS:
            shape += _numbers(data, first, last)
        description += bytes([number]) + data[first:last]
    if place is None or kind not in _DTYPES:
        return None
    if len(shape) > _MAX_DIMS:
        raise ValueError(f"an array has {len(shape)} dimensions")
    return Initialiser(name, _DTYPES[kind], tuple(shape), *place, description)


def fields(data: Buffer, place: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the fields of a protobuf message: number, and where the content lies.

    Raises:
        ValueError: the message is damaged.
    """
    while place < end:
        tag, place = varint(data, place)
        wire = tag & 7
        if wire == 2:
            length, place = varint(data, place)
        elif wire == 0:
            length = varint(data, place)[1] - place
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"unknown wire type {wire}")
        if place + length > end:
            raise ValueError("a field is longer than the file")
        yield min(tag >> 3, 255), place, place + length
        place += length


def varint(data: Buffer, place: int) -> tuple[int, int]:
    """Return a number of variable length and the place after it.

    Raises:
        ValueError: it is cut off or too long.
    """
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            raise ValueError("the file ends too early")
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number is too long")


def not_onnx(path: Path | str, reason: str) -> ModelError:
    """Return the error for a file that is not an ONNX model."""
    return ModelError(
        f"cannot read the model '{path}': not an ONNX file, or damaged ({' '.join(reason.split())}).",
        code="not-an-onnx-file",
    )


def _entries(data: Buffer) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield where the key and the value of each metadata entry lie; ValueError if the file is damaged."""
    for number, start, end in fields(data, 0, len(data)):
        if number == METADATA:
            if end - start > _MAX_ENTRY_BYTES:
                raise ValueError("a metadata entry is larger than any card")
            parts = {inner: (first, last) for inner, first, last in fields(data, start, end)}
            yield parts.get(1, (start, start)), parts.get(2, (start, start))


def _field(number: int, content: bytes) -> bytes:
    """A field of fewer than 128 bytes."""
    return bytes([number << 3 | 2, len(content)]) + content


def _sha256_place(data: Buffer) -> tuple[int, int] | None:
    """Where the digits stand; None if the file has no such entry."""
    key = SHA256.encode()
    return next((value for name, value in _entries(data) if data[slice(*name)] == key), None)


def _sha256(data: Buffer, place: tuple[int, int]) -> bytes:
    """The digits of the SHA-256 over all bytes but those at `place`."""
    view = memoryview(data)
    digest = hashlib.sha256(view[: place[0]])
    digest.update(view[place[1] :])
    return digest.hexdigest().encode()


def _mapped(path: Path) -> Buffer:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise not_onnx(path, str(error)) from error


def _numbers(data: Buffer, start: int, end: int) -> list[int]:
    """Numbers that stand one after the other (a shape, packed or not)."""
    found: list[int] = []
    while start < end:
        value, start = varint(data, start)
        found.append(value)
    return found


def _array(data: Buffer, value: Initialiser) -> NDArray[np.float32]:
    flat = np.frombuffer(data[value.start : value.end], value.dtype).astype(np.float32)
    return flat.reshape(value.shape)
