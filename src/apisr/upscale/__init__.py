"""Upscaling: pictures and videos, files and arrays, any size, any engine.

Files: :mod:`apisr.upscale.jobs`, which ``apisr upscale`` and :func:`apisr.upscale` call. Arrays:
:mod:`apisr.upscale.picture`, which :class:`apisr.model.LoadedModel` calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apisr.engines import Engine
    from apisr.image import ImageInt

__all__ = ["upscale_pixels"]


def upscale_pixels(pixels: ImageInt, engine: Engine, *, tile_px: int | None = None) -> ImageInt:
    """Upscale one array with a loaded engine; see :func:`apisr.upscale.picture.upscale_pixels`."""
    from apisr.upscale import picture

    return picture.upscale_pixels(pixels, engine, tile_px=tile_px)
