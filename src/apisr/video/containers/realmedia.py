"""RealMedia: whether all packets are there that its header counts. It is read only."""

from __future__ import annotations

import struct
from pathlib import Path

_MARK = b".RMF"
_CHUNK = struct.Struct(">4sIH")
_DATA = struct.Struct(">II")
_PACKET = struct.Struct(">HH")
_LEAST_PACKET = 12


def missing_packets(path: Path) -> tuple[int, int]:
    """Return how many packets of the first data chunk cannot be reached, and how many it declares (0: unknown)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) != _MARK:
            return 0, 0
        at = 0
        while at + _CHUNK.size <= size:
            file.seek(at)
            name, length, _ = _CHUNK.unpack(file.read(_CHUNK.size))
            if name == b"DATA":
                declared = _DATA.unpack(file.read(_DATA.size))[0]
                at += _CHUNK.size + _DATA.size
                found = 0
                while found < declared and at + _PACKET.size <= size:
                    file.seek(at)
                    version, step = _PACKET.unpack(file.read(_PACKET.size))
                    if version > 1 or step < _LEAST_PACKET or at + step > size:
                        break
                    at += step
                    found += 1
                return declared - found, declared
            if length < _CHUNK.size:
                break
            at += length
    return 0, 0
