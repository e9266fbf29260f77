"""Blocks of Matroska that are shown before zero, whose times libav does not pass on.

A block states its time from that of its cluster, with a sign, and the time of a cluster has none. Recordings that were
shifted therefore begin with clusters at zero and blocks below it. libav gives packets without times for them; here the
times are read from the file, and each packet finds its own by its place in the file.

    >>> list(timed(iter([]), {}))
    []
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from av.container import InputContainer

from apisr.video.containers.matroska import early_blocks
from apisr.video.libav import AnyPacket

P = TypeVar("P", bound=AnyPacket)


def early_times(container: InputContainer) -> dict[int, int]:
    """Return the times of the packets before zero by their places in the file; empty for other formats."""
    if "matroska" not in container.format.name:
        return {}
    return early_blocks(Path(container.name))


def timed(packets: Iterator[P], early: dict[int, int]) -> Iterator[P]:
    """Give packets before zero their times; several in one block follow one another.

    Args:
        packets: as libav gives them, in the order of the file.
        early: of :func:`early_times`.
    """
    if not early:
        return packets
    return _timed(packets, early)


def _timed(packets: Iterator[P], early: dict[int, int]) -> Iterator[P]:
    following: dict[int, int] = {}
    for packet in packets:
        if packet.pos in early and packet.size:
            packet.pts = following.get(packet.pos, early[packet.pos])
            packet.dts = None if packet.dts is None else packet.pts
            following[packet.pos] = packet.pts + (packet.duration or 0)
        yield packet
