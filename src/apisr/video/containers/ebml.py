"""The elements of which Matroska files are made (RFC 8794): numbers, sizes, contents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO


@dataclass(frozen=True)
class Element:
    """One element of a file.

    Attributes:
        number: which element it is.
        head: offset of its first byte.
        start: offset of its content.
        size: bytes of its content, None if the file does not say.
    """

    number: int
    head: int
    start: int
    size: int | None

    @property
    def end(self) -> int:
        """Offset after its content (its start, where the size is unknown)."""
        return self.start + (self.size or 0)


def elements(file: BinaryIO, start: int, end: int) -> Iterator[Element]:
    """Yield the elements between two offsets; one of unknown size is the last."""
    at = start
    while at + 2 <= end:
        file.seek(at)
        head = file.read(12)
        if not head or not head[0]:
            return
        width = 9 - head[0].bit_length()
        if width > 4 or len(head) <= width or not head[width]:
            return
        number = int.from_bytes(head[:width], "big")
        length = 9 - head[width].bit_length()
        raw = int.from_bytes(head[width : width + length], "big")
        value = raw & ((1 << (7 * length)) - 1)
        content = at + width + length
        if value == (1 << (7 * length)) - 1:
            yield Element(number, at, content, None)
            return
        yield Element(number, at, content, value)
        at = content + value


def children(file: BinaryIO, parent: Element, limit: int | None = None) -> Iterator[Element]:
    """Yield the elements inside another one; of one of unknown size, those before `limit`."""
    end = parent.end if parent.size is not None else (limit or parent.start)
    return elements(file, parent.start, end if limit is None else min(end, limit))


def unsigned(file: BinaryIO, element: Element) -> int:
    """Return the content of an element as a whole number."""
    file.seek(element.start)
    return int.from_bytes(file.read(min(8, element.size or 0)), "big")


def content(file: BinaryIO, element: Element) -> bytes:
    """Return the content of an element."""
    file.seek(element.start)
    return file.read(element.size or 0)


def whole(file: BinaryIO, element: Element | None) -> bytes:
    """Return an element with its head, byte for byte; nothing of None."""
    if element is None:
        return b""
    file.seek(element.head)
    return file.read(element.end - element.head)


def encoded(number: int, payload: bytes, *, size_bytes: int = 8) -> bytes:
    """Return an element as it stands in a file, its size written in `size_bytes` bytes."""
    size = (len(payload) | 1 << (7 * size_bytes)).to_bytes(size_bytes, "big")
    return number.to_bytes((number.bit_length() + 7) // 8, "big") + size + payload
