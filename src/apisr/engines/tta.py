"""Test-time augmentation: the mean of what a network makes of the flips and quarter turns of every piece.

A network was trained on drawings in every position, yet makes something slightly different of each; the mean has less
of what is accidental. It is a little closer to the truth and costs eight times the work.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from apisr.engines.base import Engine
from apisr.engines.pixels import Margins, cut, on_all_sides, run_inside
from apisr.engines.wrapper import EngineWrapper

#: Flips and quarter turns of a square.
VIEWS = 8


class TtaEngine(EngineWrapper):
    """Wraps an engine and gives the mean of all views; tiles, reuse and everything else work as with that one.

    Windows begin and end at multiples of what the network needs, so that a turned one lies on the same grid, and the
    halo is that of the side that looks farthest: the result does not depend on how a picture is cut.

    Args:
        engine: runs the network. If it takes oblong windows of one size only, they are flipped and not turned: four
            views instead of eight.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        fixed = engine.traits.fixed_size
        self._views = range(VIEWS) if fixed is None or fixed[0] == fixed[1] else range(0, VIEWS, 2)
        self.name = f"{engine.name}, mean of {len(self._views)} flips"

    def run_inside(self, batch: NDArray[np.float32], margins: Margins) -> NDArray[np.float32]:
        """See :func:`apisr.engines.pixels.run_inside`; what all sides have of the margins is left away before."""
        least = min(margins)
        first, *others = self._views
        total = self._view(batch, first, least).copy()
        for view in others:
            total += self._view(batch, view, least)
        total /= len(self._views)
        top, bottom, left, right = (px - least for px in margins)
        return cut(total, (top, bottom, left, right), self.traits.scale, rows_axis=2)

    def _view(self, batch: NDArray[np.float32], view: int, margin: int) -> NDArray[np.float32]:
        turned = np.ascontiguousarray(_turned(batch, view))
        return _turned_back(run_inside(self.engine, turned, on_all_sides(margin)), view)


def _turned(batch: NDArray[np.float32], view: int) -> NDArray[np.float32]:
    """Views 4 to 7 are mirrored; then come ``view % 4`` quarter turns."""
    return np.rot90(batch[..., ::-1] if view >= 4 else batch, view % 4, axes=(-2, -1))


def _turned_back(batch: NDArray[np.float32], view: int) -> NDArray[np.float32]:
    turned = np.rot90(batch, -(view % 4), axes=(-2, -1))
    return turned[..., ::-1] if view >= 4 else turned
