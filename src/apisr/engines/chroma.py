"""Colours cleaned along luma before a network (:mod:`apisr.image.chroma`), in tiles and whole with the same bits."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from apisr.engines.base import Engine
from apisr.engines.pixels import NO_MARGINS, Margins, run_inside, run_pixels
from apisr.engines.wrapper import EngineWrapper
from apisr.image import ImageU8
from apisr.image.chroma import REACH_PX, clean_colours, clean_colours_float


class ChromaEngine(EngineWrapper):
    """Wraps an engine and cleans the colours of what goes in.

    Args:
        engine: runs the network.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        halo = engine.traits.halo_px
        self.traits = replace(engine.traits, halo_px=None if halo is None else halo + REACH_PX)
        #: What of a window only the filter needs, so that a network's window keeps its place on its grid.
        self._outer_px = self.traits.aligned_halo_px - engine.traits.aligned_halo_px

    @property
    def name(self) -> str:
        """As the wrapped engine, which may have fallen back to another device."""
        return self.engine.name

    def run_inside(self, batch: NDArray[np.float32], margins: Margins) -> NDArray[np.float32]:
        """See :func:`apisr.engines.pixels.run_inside`."""
        cleaned = np.stack([clean_colours_float(picture) for picture in batch])
        window, rest = self._network_window(cleaned.shape[2:], margins)
        return run_inside(self.engine, np.ascontiguousarray(cleaned[:, :, window[0], window[1]]), rest)

    def run_pixels(self, pixels: ImageU8) -> ImageU8:
        """See :func:`apisr.engines.pixels.run_pixels`."""
        return self.run_pixels_inside(pixels, NO_MARGINS)

    def run_pixels_inside(self, pixels: ImageU8, margins: Margins) -> ImageU8:
        """See :func:`apisr.engines.pixels.run_pixels`."""
        window, rest = self._network_window(pixels.shape[:2], margins)
        return run_pixels(self.engine, np.ascontiguousarray(clean_colours(pixels)[window]), rest)

    def _network_window(self, sides: tuple[int, ...], margins: Margins) -> tuple[tuple[slice, slice], Margins]:
        """Rows and columns that the network gets, and the margins that are left to it."""
        if self.traits.fixed_size is not None:
            return (slice(None), slice(None)), margins
        top, bottom, left, right = (self._outer_px if px >= self.traits.aligned_halo_px else 0 for px in margins)
        window = (slice(top, sides[0] - bottom), slice(left, sides[1] - right))
        outer = (top, bottom, left, right)
        rest = cast("Margins", tuple(px - cut for px, cut in zip(margins, outer, strict=True)))
        return window, rest
