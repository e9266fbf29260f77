"""ASF (WMV): whether all media objects (frames, pieces of sound) are there, by their numbers. It is read only.

A file is a header and a row of packets of one size. A packet holds payloads, each a piece of a media object with its
number; the numbers of a stream go up by one.
"""

from __future__ import annotations

from pathlib import Path

_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_OBJECT_BYTES, _HEADER_BYTES, _DATA_BYTES = 24, 30, 50
#: Where the properties hold the size of the file and of a packet.
_FILE_SIZE_AT, _PACKET_SIZE_AT = 40, 92
#: Bytes of a field by the two bits that state its type.
_WIDTHS = (0, 1, 2, 4)


def declared_end(path: Path) -> int | None:
    """Return the offset at which the header says that the file ends, None if it does not say."""
    properties, _ = _header(path)
    return int.from_bytes(properties[_FILE_SIZE_AT : _FILE_SIZE_AT + 8], "little") or None


def broken_numbers(path: Path) -> int:
    """Return at how many places the numbers of the media objects of a stream do not go on."""
    properties, at = _header(path)
    size = int.from_bytes(properties[_PACKET_SIZE_AT : _PACKET_SIZE_AT + 4], "little")
    if not size or not at:
        return 0
    last: dict[int, int] = {}
    breaks = 0
    with path.open("rb") as file:
        file.seek(at)
        if file.read(16) != _DATA:
            return 0
        file.seek(at + _DATA_BYTES)
        while len(packet := file.read(size)) == size:
            for stream, number, bits in _payloads(packet):
                if stream in last:
                    breaks += (number - last[stream]) % (1 << bits) > 1
                last[stream] = number
    return breaks


def _header(path: Path) -> tuple[bytes, int]:
    """Return the properties of the file and where its header ends; nothing for other files."""
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
        end = int.from_bytes(head[16:24], "little")
        if not head.startswith(_HEADER) or end > path.stat().st_size:
            return b"", 0
        inside = file.read(max(0, end - _HEADER_BYTES))
    at = 0
    while at + _OBJECT_BYTES <= len(inside):
        length = int.from_bytes(inside[at + 16 : at + 24], "little")
        if inside.startswith(_PROPERTIES, at):
            return inside[at : at + length], end
        at += max(length, _OBJECT_BYTES)
    return b"", end


class _Fields:
    """Reads numbers whose widths the packet states."""

    def __init__(self, packet: bytes, at: int) -> None:
        self.packet, self.at = packet, at

    def take(self, width: int) -> int:
        self.at += width
        return int.from_bytes(self.packet[self.at - width : self.at], "little")

    def typed(self, kind: int) -> int:
        return self.take(_WIDTHS[kind & 3])


def _payloads(packet: bytes) -> list[tuple[int, int, int]]:
    """Return (stream, number of the media object, bits of that number) of the payloads of a packet."""
    fields = _Fields(packet, 0)
    if packet[0] & 0x80:
        fields.take(1 + (packet[0] & 0x0F))
    kinds, properties = fields.take(1), fields.take(1)
    for kind in (kinds >> 5, kinds >> 1, kinds >> 3):  # length of the packet, sequence, padding
        fields.typed(kind)
    fields.take(6)  # send time and duration
    count, width = 1, 0
    if kinds & 1:
        flags = fields.take(1)
        count, width = flags & 0x3F, flags >> 6
    bits = 8 * _WIDTHS[properties >> 4 & 3]
    found: list[tuple[int, int, int]] = []
    for _ in range(count):
        stream, number = fields.take(1) & 0x7F, fields.typed(properties >> 4)
        fields.typed(properties >> 2)
        replicated = fields.typed(properties)
        if fields.at >= len(packet) or not bits or replicated == 1:  # pieces of several objects have no number each
            break
        found.append((stream, number, bits))
        fields.take(replicated)
        if count > 1 or kinds & 1:
            fields.take(fields.typed(width))
    return found
