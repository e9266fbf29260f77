"""Cutting a picture into tiles with a margin (halo) and putting the results together, without seams.

A convolutional network's output pixel depends on the input within its receptive field only. A tile that carries that
margin on every side, except where the continued picture ends, therefore gives the very values of the whole picture; no
blending is needed. Networks that look at everything (``halo_px`` None) are run on the whole picture.

    >>> tiles = plan_tiles(100, 60, tile_px=64, halo_px=8, multiple_px=2, rim_px=6)
    >>> [(t.core.top, t.core.bottom, t.window.top, t.window.bottom) for t in tiles]
    [(0, 64, -6, 72), (64, 100, 56, 106)]
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from apisr.core.errors import InputError
from apisr.core.memory import total_memory
from apisr.engines.base import Engine, ModelTraits
from apisr.engines.pixels import NO_MARGINS, Margins, run_inside, run_pixels
from apisr.image import ImageF32, ImageInt

V = TypeVar("V", bound=np.generic)

#: Largest side of a tile's core for still pictures, unless asked for: with it the halo costs little.
DEFAULT_TILE_PX = 512
#: The rim of networks for which none was measured; the second is for those that look far or have windows.
RIM_PX, DEEP_RIM_PX = 8, 16
DEEP_HALO_PX = 32
_SMALLEST_TILE_PX = 64
#: Share of the machine's memory that a tile may take in the network.
_MEMORY_SHARE = 1 / 4


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

    def grown(self, margin: int, bounds: Rectangle) -> Rectangle:
        """The rectangle with a margin on every side, cut at some bounds."""
        return Rectangle(
            max(bounds.top, self.top - margin),
            min(bounds.bottom, self.bottom + margin),
            max(bounds.left, self.left - margin),
            min(bounds.right, self.right + margin),
        )

    def aligned(self, multiple: int, bounds: Rectangle) -> Rectangle:
        """The smallest rectangle around this one whose edges are multiples, cut at some bounds."""
        return Rectangle(
            self.top // multiple * multiple,
            min(bounds.bottom, -(-self.bottom // multiple) * multiple),
            self.left // multiple * multiple,
            min(bounds.right, -(-self.right // multiple) * multiple),
        )


@dataclass(frozen=True)
class Tile:
    """One piece of work: `core` is delivered, `window` goes through the network.

    The window is the core with its halo. At the picture's borders it ends :func:`rim_of` pixels outside the picture.
    """

    core: Rectangle
    window: Rectangle


def plan_tiles(
    height: int, width: int, *, tile_px: int, halo_px: int | None, multiple_px: int = 1, rim_px: int = 0
) -> list[Tile]:
    """Cut a picture into tiles, row by row from the top.

    Args:
        height: rows of the picture.
        width: columns of the picture.
        tile_px: side of a core, rounded up to a multiple of `multiple_px`; the last ones may be smaller.
        halo_px: margin of a window, see :class:`apisr.networks.traits.ModelTraits`; None gives one tile.
        multiple_px: origins of windows are multiples of this.
        rim_px: by how much windows may reach out of the picture, see :func:`rim_of`.
    """
    bounds = bounds_of(height, width, rim_px)
    if halo_px is None:
        return [Tile(Rectangle(0, height, 0, width), bounds)]
    step = -(-tile_px // multiple_px) * multiple_px
    tiles: list[Tile] = []
    for top in range(0, height, step):
        for left in range(0, width, step):
            core = Rectangle(top, min(top + step, height), left, min(left + step, width))
            tiles.append(Tile(core, core.grown(halo_px, bounds).aligned(multiple_px, bounds)))
    return tiles


def plan_model_tiles(height: int, width: int, traits: ModelTraits, tile_px: int | None = None) -> list[Tile]:
    """Cut a picture into the tiles that a model needs; see :func:`plan_tiles`.

    Args:
        height: rows of the picture.
        width: columns of the picture.
        traits: of the model.
        tile_px: side of a core; None for :func:`default_tile_px`.
    """
    return plan_tiles(
        height,
        width,
        tile_px=traits.core_px(tile_px or default_tile_px(traits)),
        halo_px=traits.halo_px,
        multiple_px=traits.multiple_px,
        rim_px=rim_of(traits),
    )


def rim_of(traits: ModelTraits) -> int:
    """Return by how many pixels a picture is continued on every side before the network.

    Networks fill what is outside with zeros, which darkens the rim and more so the corners (by up to 106 of 255 levels
    on a flat picture). The picture is therefore continued with its outermost pixels, and the result is cut. A network
    that takes one size only and looks at everything has no room for that.

    >>> rim_of(ModelTraits(2, 20, rim_px=4)), rim_of(ModelTraits(2, 20)), rim_of(ModelTraits(4, 32, 8))
    (4, 8, 16)
    """
    if traits.halo_px is None and traits.fixed_size is not None:
        return 0
    deep = traits.halo_px is None or traits.halo_px >= DEEP_HALO_PX or traits.multiple_px > 2
    unmeasured_px = DEEP_RIM_PX if deep else RIM_PX
    rim_px = unmeasured_px if traits.rim_px is None else traits.rim_px
    return -(-rim_px // traits.multiple_px) * traits.multiple_px


def bounds_of(height: int, width: int, rim_px: int) -> Rectangle:
    """Return the bounds of a picture that is continued by its rim."""
    return Rectangle(-rim_px, height + rim_px, -rim_px, width + rim_px)


def window_of(pixels: ImageInt, window: Rectangle) -> ImageInt:
    """Cut a window out of a picture ``(H, W, ...)``; outside of it the outermost pixels go on."""
    height, width = pixels.shape[:2]
    if window.top >= 0 and window.left >= 0 and window.bottom <= height and window.right <= width:
        return pixels[window.slices]
    inside = Rectangle(max(0, window.top), min(height, window.bottom), max(0, window.left), min(width, window.right))
    if inside.height > 0 and inside.width > 0:
        rows = inside.top - window.top, window.bottom - inside.bottom
        columns = inside.left - window.left, window.right - inside.right
        continued = cv2.copyMakeBorder(pixels[inside.slices], *rows, *columns, cv2.BORDER_REPLICATE)
        return cast("ImageInt", continued.reshape(window.height, window.width, *pixels.shape[2:]))
    lines = np.clip(np.arange(window.top, window.bottom), 0, height - 1)
    return pixels[lines[:, None], np.clip(np.arange(window.left, window.right), 0, width - 1)]


def padded_size(height: int, width: int, multiple_px: int) -> tuple[int, int]:
    """Round a size up to the network's multiple."""
    return -(-height // multiple_px) * multiple_px, -(-width // multiple_px) * multiple_px


def run_window(engine: Engine, values: ImageF32, margins: Margins = NO_MARGINS) -> ImageF32:
    """Run one window ``(h, w, 3)`` in [0, 1] and return ``(s*h, s*w, 3)``, less the margins, not clipped.

    A window whose size is not a multiple of what the network needs (it then ends at the picture's right or bottom
    border), or smaller than the one size it takes, is continued with its last row and column, and the result is cut.

    Raises:
        InputError: the network takes one size only and the window is larger.
    """
    fitted = _fitted(values, engine.traits)
    batch = np.ascontiguousarray(fitted.transpose(2, 0, 1)[None], dtype=np.float32)
    return run_inside(engine, batch, _continued(margins, values, fitted))[0].transpose(1, 2, 0)


def _continued(margins: Margins, values: NDArray[V], fitted: NDArray[V]) -> Margins:
    """The margins of a window that was continued to a size that the network takes."""
    top, bottom, left, right = margins
    height, width = (now - before for now, before in zip(fitted.shape[:2], values.shape[:2], strict=True))
    return top, bottom + height, left, right + width


def _margins_of(tile: Tile) -> Margins:
    """What of a window's output is not the tile's core."""
    core, window = tile.core, tile.window
    return core.top - window.top, window.bottom - core.bottom, core.left - window.left, window.right - core.right


def _fitted(values: NDArray[V], traits: ModelTraits) -> NDArray[V]:
    """Continue a window to a size that the network takes."""
    height, width = values.shape[:2]
    padded_height, padded_width = traits.fixed_size or padded_size(height, width, traits.multiple_px)
    if padded_height < height or padded_width < width:
        raise InputError(
            f"the model takes pictures of {padded_width}x{padded_height} only, got {width}x{height}. "
            "Export it with free sizes.",
            code="size-not-taken",
        )
    if (padded_height, padded_width) == (height, width):
        return values
    return np.pad(values, ((0, padded_height - height), (0, padded_width - width), (0, 0)), mode="edge")


def run_tile(engine: Engine, window_values: ImageF32, tile: Tile) -> ImageF32:
    """Run a tile's window and return the output of its core ``(s*h, s*w, 3)``."""
    return run_window(engine, window_values, _margins_of(tile))


def run_tile_pixels(engine: Engine, window: NDArray[V], tile: Tile) -> NDArray[V]:
    """Run a window ``(h, w, 3)``, whole numbers or floats, and return the tile's core ``(s*h, s*w, 3)`` in its type.

    Raises:
        InputError: the model takes pictures of another size only.
    """
    fitted = _fitted(window, engine.traits)
    return run_pixels(engine, np.ascontiguousarray(fitted), _continued(_margins_of(tile), window, fitted))


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
    fitting = math.isqrt(int(_MEMORY_SHARE * total_memory()) // traits.bytes_per_px) - 2 * halo
    return max(_SMALLEST_TILE_PX, min(DEFAULT_TILE_PX, fitting // traits.multiple_px * traits.multiple_px))
