"""Exact reuse: restore drawings, not frames.

Anime is drawn on twos and threes and often only a mouth moves. The output is a persistent canvas: blocks of the input
that are bit-identical to the canvas's input are not computed again. What changed is grown by the network's receptive
field (only there can the output differ), looked up in a bounded store of earlier results (drawings come back), and the
rest is merged into few rectangles that go through the network.

The result equals computing everything, bit for bit. Where the engine's arithmetic does not depend on the size of what
it is given (measured, see ``shape_exact``), rectangles are free; elsewhere the frame is cut into windows of one fixed
shape, the same with and without reuse.

    >>> import numpy as np
    >>> from apisr.upscale.baselines import NearestEngine
    >>> upscaler = CanvasUpscaler(NearestEngine(2))
    >>> frame = np.zeros((64, 64, 3), np.uint8)
    >>> upscaler.process(frame).shape, upscaler.process(frame).shape
    ((128, 128, 3), (128, 128, 3))
    >>> upscaler.stats.computed_share
    0.5
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from apisr.engines import Engine
from apisr.image import ImageInt
from apisr.upscale.options import Reuse
from apisr.upscale.results import ReuseStats
from apisr.upscale.tiles import Rectangle, Tile, bounds_of, padded_size, plan_tiles, rim_of, run_tile_pixels, window_of

Box = tuple[int, int, int, int]
"""Top, bottom, left and right of a rectangle of blocks."""
BLOCK_PX = 16
"""Side of the blocks whose change is looked for."""
CELL_BLOCKS = 4
"""Side of a cell of the store, in blocks."""
STORE_BYTES = 512 * 2**20
"""Default bound of the store of earlier results."""
FIXED_CORE_PX = 192
"""Core of the fixed windows that are used where arithmetic depends on the shape."""
_MAX_WINDOW_PX = 1 << 20
_FIXED_COST_PX = 4096
"""What starting one more rectangle costs, in pixels of network work (measured: about 1 ms on a processor)."""


class CanvasUpscaler:
    """Upscales the frames of one video, in order.

    Args:
        engine: the network.
        reuse: ``exact`` computes only what changed; ``off`` computes every frame whole. Both give the same bits.
        store_bytes: bound of the memory for earlier results.
    """

    def __init__(self, engine: Engine, *, reuse: Reuse = "exact", store_bytes: int = STORE_BYTES) -> None:
        self.engine = engine
        self.stats = ReuseStats()
        self._reuse = reuse
        self._store = _CellStore(store_bytes)
        self._low: ImageInt | None = None
        self._high: ImageInt | None = None
        self._digests: NDArray[np.uint8] | None = None
        self._tiles: list[Tile] = []
        self._free = True

    def process(self, rgb: ImageInt) -> ImageInt:
        """Upscale the next frame.

        Args:
            rgb: ``(H, W, 3)`` uint8 or uint16, or float32 in [0, 1] (outputs are not clipped then).

        Returns:
            ``(s*H, s*W, 3)`` of the same dtype; treat it as read-only, it may be delivered again for a held frame.
        """
        height, width = rgb.shape[:2]
        self.stats.frames += 1
        self.stats.total_px += height * width
        if self._low is None or self._low.shape != rgb.shape or self._low.dtype != rgb.dtype:
            self._start(rgb)
        if self._reuse == "off" or self._low is None:
            return self._whole(rgb)
        return self._changed(rgb)

    def _start(self, rgb: ImageInt) -> None:
        height, width = rgb.shape[:2]
        traits = self.engine.traits
        self._low = self._high = self._digests = None
        self._store.clear()
        self._free = traits.halo_px is not None and traits.fixed_size is None and self.engine.shape_exact
        self._tiles = (
            plan_fixed_tiles(
                height,
                width,
                core_px=traits.core_px(FIXED_CORE_PX),
                halo_px=traits.halo_px,
                multiple_px=traits.multiple_px,
                rim_px=rim_of(traits),
            )
            if not self._free
            else []
        )

    def _whole(self, rgb: ImageInt) -> ImageInt:
        height, width = rgb.shape[:2]
        scale = self.engine.traits.scale
        high = np.empty((scale * height, scale * width, 3), rgb.dtype)
        if self._free:
            self._compute([Rectangle(0, height, 0, width)], rgb, high)
        else:
            for tile in self._tiles:
                self._run(tile, rgb, high)
        self.stats.changed_px += height * width
        if self._reuse == "exact":
            self._low, self._high = rgb, high
            self._digests = _block_digests(rgb)
            self._store.put_cells(self._all_cells(), self._keys(), high, scale)
        return high

    def _changed(self, rgb: ImageInt) -> ImageInt:
        assert self._low is not None
        assert self._high is not None
        assert self._digests is not None
        blocks = changed_blocks(self._low, rgb)
        if not blocks.any():
            self.stats.whole_frames += 1
            self._low = rgb
            return self._high
        height, width = rgb.shape[:2]
        _update_digests(self._digests, rgb, blocks)
        halo = self.engine.traits.halo_px
        reach = -(-halo // BLOCK_PX) if halo is not None else max(blocks.shape)
        affected = cv2.dilate(blocks.astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)).astype(bool)
        self.stats.changed_px += min(int(affected.sum()) * BLOCK_PX**2, height * width)
        high = self._high.copy()
        if self._free:
            self._from_store_or_network(rgb, high, affected)
        else:
            for tile in self._tiles:
                rows, columns = _blocks_of(tile.window)
                if blocks[rows, columns].any():
                    self._run(tile, rgb, high)
        if not affected.all() and np.array_equal(high, self._high):
            high = self._high
        self._low, self._high = rgb, high
        return high

    def _from_store_or_network(self, rgb: ImageInt, high: ImageInt, affected: NDArray[np.bool_]) -> None:
        height, width = rgb.shape[:2]
        scale = self.engine.traits.scale
        cells = [cell for cell in self._all_cells() if affected[cell].any()]
        keys = self._keys(cells)
        missing = np.zeros_like(affected)
        missed: list[int] = []
        for index, (cell, key) in enumerate(zip(cells, keys, strict=True)):
            found = self._store.get(key)
            rectangle = _cell_rectangle(cell, height, width).scaled(scale)
            if found is None:
                missing[cell] = affected[cell]
                missed.append(index)
            else:
                high[rectangle.slices] = found
        self._compute(merge_blocks(missing, height, width, halo_px=self.engine.traits.halo_px or 0), rgb, high)
        self._store.put_cells([cells[index] for index in missed], [keys[index] for index in missed], high, scale)

    def _compute(self, rectangles: list[Rectangle], rgb: ImageInt, high: ImageInt) -> None:
        height, width = rgb.shape[:2]
        traits = self.engine.traits
        halo = traits.halo_px or 0
        bounds = bounds_of(height, width, rim_of(traits))
        for rectangle in rectangles:
            for core in _parts(rectangle):
                self._run(Tile(core, core.grown(halo, bounds).aligned(traits.multiple_px, bounds)), rgb, high)

    def _run(self, tile: Tile, rgb: ImageInt, high: ImageInt) -> None:
        output = run_tile_pixels(self.engine, window_of(rgb, tile.window), tile)
        high[tile.core.scaled(self.engine.traits.scale).slices] = output
        self.stats.computed_px += tile.window.area_px

    def _all_cells(self) -> list[tuple[slice, slice]]:
        assert self._digests is not None
        rows, columns = self._digests.shape[:2]
        return [
            (slice(row, min(row + CELL_BLOCKS, rows)), slice(column, min(column + CELL_BLOCKS, columns)))
            for row in range(0, rows, CELL_BLOCKS)
            for column in range(0, columns, CELL_BLOCKS)
        ]

    def _keys(self, cells: list[tuple[slice, slice]] | None = None) -> list[bytes]:
        """Digest, for each cell, its place and everything that its output depends on."""
        assert self._digests is not None
        reach = -(-(self.engine.traits.halo_px or 0) // BLOCK_PX)
        keys: list[bytes] = []
        for rows, columns in self._all_cells() if cells is None else cells:
            around = self._digests[
                max(0, rows.start - reach) : rows.stop + reach, max(0, columns.start - reach) : columns.stop + reach
            ]
            place = f"{rows.start},{columns.start}".encode()
            keys.append(hashlib.blake2b(place + around.tobytes(), digest_size=16).digest())
        return keys


def changed_blocks(before: ImageInt, now: ImageInt) -> NDArray[np.bool_]:
    """Tell which blocks of :data:`BLOCK_PX` pixels differ in any bit; returns ``(ceil(H/16), ceil(W/16))``."""
    height, width = now.shape[:2]
    if before is now:
        return np.zeros((-(-height // BLOCK_PX), -(-width // BLOCK_PX)), bool)
    different = before.reshape(height, -1) != now.reshape(height, -1)
    row_starts = np.arange(0, height, BLOCK_PX)
    column_starts = np.arange(0, width * 3, BLOCK_PX * 3)
    return np.logical_or.reduceat(np.logical_or.reduceat(different, row_starts, axis=0), column_starts, axis=1)


def merge_blocks(blocks: NDArray[np.bool_], height: int, width: int, *, halo_px: int) -> list[Rectangle]:
    """Cover marked blocks by few rectangles so that little goes through the network, halos included.

    Starts from the bounding box of each connected group, splits boxes that are mostly empty, and merges pairs where one
    window costs less than two.

    Args:
        blocks: marked blocks ``(ceil(H/16), ceil(W/16))``.
        height: rows of the picture.
        width: columns of the picture.
        halo_px: margin that each rectangle will get.
    """
    if not blocks.any():
        return []

    bounds = bounds_of(height, width, 0)

    def cost(box: Box) -> int:
        rectangle = _pixels_of(box, height, width)
        return rectangle.grown(halo_px, bounds).area_px + _FIXED_COST_PX

    count, _, stats, _ = cv2.connectedComponentsWithStats(blocks.astype(np.uint8), connectivity=8)
    boxes: list[Box] = []
    for left, top, box_width, box_height, _ in stats[1:count].tolist():
        boxes += _split(blocks, (top, top + box_height, left, left + box_width), cost)
    merged = True
    while merged and len(boxes) > 1:
        merged = False
        for i in range(len(boxes)):
            gains = [
                (cost(boxes[i]) + cost(boxes[j]) - cost(_union(boxes[i], boxes[j])), j)
                for j in range(i + 1, len(boxes))
            ]
            gain, j = max(gains, default=(0, 0))
            if gain > 0:
                boxes[i] = _union(boxes[i], boxes.pop(j))
                merged = True
                break
    if sum(cost(box) for box in boxes) >= height * width:
        return [Rectangle(0, height, 0, width)]
    return [_pixels_of(box, height, width) for box in boxes]


def plan_fixed_tiles(
    height: int, width: int, *, core_px: int, halo_px: int | None, multiple_px: int, rim_px: int = 0
) -> list[Tile]:
    """Cut a frame into tiles whose windows all have one shape (windows at the borders are moved inwards, not cut).

    A frame smaller than a window is one tile. Windows may reach out of the frame by `rim_px`.
    """
    if halo_px is None:
        return plan_tiles(height, width, tile_px=core_px, halo_px=None, rim_px=rim_px)
    halo = -(-halo_px // multiple_px) * multiple_px
    core = -(-core_px // multiple_px) * multiple_px
    window = core + 2 * halo
    bounds = bounds_of(height, width, rim_px)
    padded_height, padded_width = padded_size(bounds.height, bounds.width, multiple_px)
    window_height, window_width = min(window, padded_height), min(window, padded_width)
    tiles: list[Tile] = []
    for tile in plan_tiles(height, width, tile_px=core, halo_px=halo, multiple_px=multiple_px):
        top = max(bounds.top, min(tile.core.top - halo, bounds.top + padded_height - window_height))
        left = max(bounds.left, min(tile.core.left - halo, bounds.left + padded_width - window_width))
        bottom, right = min(top + window_height, bounds.bottom), min(left + window_width, bounds.right)
        tiles.append(Tile(tile.core, Rectangle(top, bottom, left, right)))
    return tiles


class _CellStore:
    """Results of cells by the digest of what they depend on; the least recently used go first."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self.used_bytes = 0
        self._cells: OrderedDict[bytes, ImageInt] = OrderedDict()

    def clear(self) -> None:
        self._cells.clear()
        self.used_bytes = 0

    def get(self, key: bytes) -> ImageInt | None:
        found = self._cells.get(key)
        if found is not None:
            self._cells.move_to_end(key)
        return found

    def put_cells(self, cells: list[tuple[slice, slice]], keys: list[bytes], high: ImageInt, scale: int) -> None:
        height, width = high.shape[0] // scale, high.shape[1] // scale
        for cell, key in zip(cells, keys, strict=True):
            if key in self._cells:
                continue
            value = high[_cell_rectangle(cell, height, width).scaled(scale).slices].copy()
            self._cells[key] = value
            self.used_bytes += value.nbytes
        while self.used_bytes > self._limit and self._cells:
            _, dropped = self._cells.popitem(last=False)
            self.used_bytes -= dropped.nbytes


def _block_digests(rgb: ImageInt) -> NDArray[np.uint8]:
    rows, columns = -(-rgb.shape[0] // BLOCK_PX), -(-rgb.shape[1] // BLOCK_PX)
    digests = np.empty((rows, columns, 16), np.uint8)
    _update_digests(digests, rgb, np.ones((rows, columns), bool))
    return digests


def _update_digests(digests: NDArray[np.uint8], rgb: ImageInt, blocks: NDArray[np.bool_]) -> None:
    for row in np.flatnonzero(blocks.any(axis=1)).tolist():
        band = rgb[row * BLOCK_PX : (row + 1) * BLOCK_PX]
        for column in np.flatnonzero(blocks[row]).tolist():
            content = band[:, column * BLOCK_PX : (column + 1) * BLOCK_PX].tobytes()
            digests[row, column] = np.frombuffer(hashlib.blake2b(content, digest_size=16).digest(), np.uint8)


def _blocks_of(rectangle: Rectangle) -> tuple[slice, slice]:
    return (
        slice(max(0, rectangle.top // BLOCK_PX), -(-rectangle.bottom // BLOCK_PX)),
        slice(max(0, rectangle.left // BLOCK_PX), -(-rectangle.right // BLOCK_PX)),
    )


def _cell_rectangle(cell: tuple[slice, slice], height: int, width: int) -> Rectangle:
    return _pixels_of((cell[0].start, cell[0].stop, cell[1].start, cell[1].stop), height, width)


def _pixels_of(box: Box, height: int, width: int) -> Rectangle:
    top, bottom, left, right = box
    return Rectangle(top * BLOCK_PX, min(bottom * BLOCK_PX, height), left * BLOCK_PX, min(right * BLOCK_PX, width))


def _union(a: Box, b: Box) -> Box:
    return min(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), max(a[3], b[3])


def _split(blocks: NDArray[np.bool_], box: Box, cost: Callable[[Box], int]) -> list[Box]:
    """Cut a box in two where that saves most, again and again."""
    top, bottom, left, right = box
    inside = blocks[top:bottom, left:right]
    if inside.all():
        return [box]
    best, best_cost = None, cost(box)
    if not inside.any():
        return []
    for cut in range(1, bottom - top):
        halves = [_tight(inside[:cut], top, left), _tight(inside[cut:], top + cut, left)]
        total = sum(cost(half) for half in halves if half)
        if total < best_cost:
            best, best_cost = halves, total
    for cut in range(1, right - left):
        halves = [_tight(inside[:, :cut], top, left), _tight(inside[:, cut:], top, left + cut)]
        total = sum(cost(half) for half in halves if half)
        if total < best_cost:
            best, best_cost = halves, total
    if best is None:
        return [box]
    return [part for half in best if half for part in _split(blocks, half, cost)]


def _tight(inside: NDArray[np.bool_], top: int, left: int) -> Box | None:
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        return None
    return top + int(rows[0]), top + int(rows[-1]) + 1, left + int(columns[0]), left + int(columns[-1]) + 1


def _parts(rectangle: Rectangle) -> list[Rectangle]:
    """Cut a rectangle so that no window needs much memory."""
    count = -(-rectangle.area_px // _MAX_WINDOW_PX)
    if count == 1:
        return [rectangle]
    rows = math.ceil(rectangle.height / count / BLOCK_PX) * BLOCK_PX
    return [
        Rectangle(top, min(top + rows, rectangle.bottom), rectangle.left, rectangle.right)
        for top in range(rectangle.top, rectangle.bottom, rows)
    ]
