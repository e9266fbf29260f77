"""Cutting a picture into tiles with a margin (halo) and putting the results together, without seams.

A convolutional network's output pixel depends on the input within its receptive field only. A tile that carries that
margin on every side, except where the picture itself ends, therefore gives the very values of the whole picture; no
blending is needed. Networks that look at everything (``halo_px`` None) are run on the whole picture.

    >>> tiles = plan_tiles(100, 60, tile_px=64, halo_px=8, multiple_px=2)
    >>> [(t.core.top, t.core.bottom, t.window.top, t.window.bottom) for t in tiles]
    [(0, 64, 0, 72), (64, 100, 56, 100)]
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apisr.core.errors import InputError
from apisr.engines.base import Engine, ModelTraits
from apisr.image import Floats

#: Largest side of a tile's core for still pictures, unless asked for: with it the halo costs little.
DEFAULT_TILE_PX = 512
_SMALLEST_TILE_PX = 64
#: Share of the machine's memory that a tile may take in the network, and the memory where the system does not tell it.
_MEMORY_SHARE, _ASSUMED_MEMORY_BYTES = 1 / 4, 8 * 2**30


@dataclass(frozen=True, order=True)
class Rectangle:
    """A half-open rectangle of pixels: rows [top, bottom), columns [left, right)."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def area_px(self) -> int:
        """Pixels."""
        return self.height * self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of an array ``(H, W, ...)``."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def scaled(self, factor: int) -> Rectangle:
        """The same rectangle on a grid `factor` times as fine."""
        return Rectangle(self.top * factor, self.bottom * factor, self.left * factor, self.right * factor)

    def grown(self, margin: int, height: int, width: int) -> Rectangle:
        """The rectangle with a margin on every side, cut at the picture's borders."""
        return Rectangle(
            max(0, self.top - margin),
            min(height, self.bottom + margin),
            max(0, self.left - margin),
            min(width, self.right + margin),
        )

    def aligned(self, multiple: int, height: int, width: int) -> Rectangle:
        """The smallest rectangle around this one whose edges are multiples, cut at the picture's borders."""
        return Rectangle(
            self.top // multiple * multiple,
            min(height, -(-self.bottom // multiple) * multiple),
            self.left // multiple * multiple,
            min(width, -(-self.right // multiple) * multiple),
        )


@dataclass(frozen=True)
class Tile:
    """One piece of work: `core` is delivered, `window` (core and halo) goes through the network."""

    core: Rectangle
    window: Rectangle


def plan_tiles(height: int, width: int, *, tile_px: int, halo_px: int | None, multiple_px: int = 1) -> list[Tile]:
    """Cut a picture into tiles, row by row from the top.

    Args:
        height: rows of the picture.
        width: columns of the picture.
        tile_px: side of a core, rounded up to a multiple of `multiple_px`; the last ones may be smaller.
        halo_px: margin of a window, see :class:`apisr.networks.traits.ModelTraits`; None gives one tile.
        multiple_px: origins of windows are multiples of this.
    """
    if halo_px is None:
        whole = Rectangle(0, height, 0, width)
        return [Tile(whole, whole)]
    step = -(-tile_px // multiple_px) * multiple_px
    tiles: list[Tile] = []
    for top in range(0, height, step):
        for left in range(0, width, step):
            core = Rectangle(top, min(top + step, height), left, min(left + step, width))
            tiles.append(Tile(core, core.grown(halo_px, height, width).aligned(multiple_px, height, width)))
    return tiles


def padded_size(height: int, width: int, multiple_px: int) -> tuple[int, int]:
    """Round a size up to the network's multiple."""
    return -(-height // multiple_px) * multiple_px, -(-width // multiple_px) * multiple_px


def run_window(engine: Engine, values: Floats) -> Floats:
    """Run one window ``(h, w, 3)`` in [0, 1] and return ``(s*h, s*w, 3)``, not clipped.

    A window whose size is not a multiple of what the network needs (it then ends at the picture's right or bottom
    border), or smaller than the one size it takes, is continued with its last row and column, and the result is cut.

    Raises:
        InputError: the network takes one size only and the window is larger.
    """
    height, width = values.shape[:2]
    padded_height, padded_width = engine.traits.fixed_size or padded_size(height, width, engine.traits.multiple_px)
    if padded_height < height or padded_width < width:
        raise InputError(
            f"the model takes pictures of {padded_width}x{padded_height} only, got {width}x{height}. "
            "Export it with free sizes."
        )
    if (padded_height, padded_width) != (height, width):
        values = np.pad(values, ((0, padded_height - height), (0, padded_width - width), (0, 0)), mode="edge")
    batch = np.ascontiguousarray(values.transpose(2, 0, 1)[None], dtype=np.float32)
    output = engine.run(batch)[0]
    scale = engine.traits.scale
    return output[:, : scale * height, : scale * width].transpose(1, 2, 0)


def run_tile(engine: Engine, window_values: Floats, tile: Tile) -> Floats:
    """Run a tile's window and return the output of its core ``(s*h, s*w, 3)``."""
    scale = engine.traits.scale
    output = run_window(engine, window_values)
    top, left = tile.core.top - tile.window.top, tile.core.left - tile.window.left
    return output[scale * top : scale * (top + tile.core.height), scale * left : scale * (left + tile.core.width)]


def rows_of(tiles: list[Tile]) -> Iterator[list[Tile]]:
    """Group the tiles of :func:`plan_tiles` by row."""
    row: list[Tile] = []
    for tile in tiles:
        if row and tile.core.top != row[0].core.top:
            yield row
            row = []
        row.append(tile)
    if row:
        yield row


def default_tile_px(traits: ModelTraits) -> int:
    """Return the side of a tile's core where none is asked for: with its halo it needs a quarter of the memory at most.

    >>> default_tile_px(ModelTraits(2, 20))
    512
    """
    halo = traits.halo_px or 0
    fitting = math.isqrt(int(_MEMORY_SHARE * machine_memory_bytes()) // traits.bytes_per_px) - 2 * halo
    return max(_SMALLEST_TILE_PX, min(DEFAULT_TILE_PX, fitting // traits.multiple_px * traits.multiple_px))


def machine_memory_bytes() -> int:
    """Memory of the machine, or of the container that this process is confined to."""
    try:
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        return _ASSUMED_MEMORY_BYTES
    try:
        return min(found, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    except (OSError, ValueError):  # no container, or "max"
        return found
