"""Whole pixels through an engine: 8-bit pictures in and out, without float copies where the engine can convert itself.

An engine may have a method ``run_pixels`` beside ``run``: it maps ``(H, W, 3)`` uint8 to ``(s*H, s*W, 3)`` uint8,
rounded half up. The conversion is then part of the network (OpenVINO) or happens on the graphics card (torch), to which
a quarter of the bytes travels. Engines without it get floats from here.

Of a window with a halo only the middle is needed. An engine may have ``run_inside`` and ``run_pixels_inside``, which
take margins and give the same bits as what would be cut from the output of the whole; they compute less.

>>> import numpy as np
>>> from apisr.engines import open_engine
>>> run_pixels(open_engine("apisr-x2-fast", engine="onnx"), np.zeros((16, 20, 3), np.uint8)).shape
(32, 40, 3)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from apisr.engines.base import Engine
from apisr.image import ImageF32, ImageInt, ImageU8, from_float, to_float, to_tensor

T = TypeVar("T", bound=np.generic)

Margins = tuple[int, int, int, int]
"""What is not needed of an output at the top, the bottom, the left and the right, in pixels of the input."""
NO_MARGINS: Margins = (0, 0, 0, 0)


def run_pixels(engine: Engine, pixels: NDArray[T], margins: Margins = NO_MARGINS) -> NDArray[T]:
    """Run one picture of whole numbers, or of floats in [0, 1].

    Args:
        engine: the network.
        pixels: ``(H, W, 3)`` uint8, uint16 or float32; H and W are multiples of ``traits.multiple_px``.
        margins: what is cut from the output.

    Returns:
        ``(s*H, s*W, 3)``, less the margins, of the same dtype; whole numbers are clipped and rounded half up, floats
        are as they come.
    """
    if pixels.dtype == np.float32:
        return cast(
            "NDArray[T]", run_inside(engine, to_tensor(cast("ImageF32", pixels)), margins)[0].transpose(1, 2, 0)
        )
    whole = cast("ImageInt", pixels)
    if whole.dtype == np.uint8:
        bytes_in = cast("ImageU8", whole)
        inside = cast("Callable[[ImageU8, Margins], ImageU8] | None", getattr(engine, "run_pixels_inside", None))
        if inside is not None and any(margins):
            return cast("NDArray[T]", inside(bytes_in, margins))
        own = cast("Callable[[ImageU8], ImageU8] | None", getattr(engine, "run_pixels", None))
        if own is not None:
            return cast("NDArray[T]", cut(own(bytes_in), margins, engine.traits.scale, rows_axis=0))
    output = from_float(run_inside(engine, to_tensor(to_float(whole)), margins)[0].transpose(1, 2, 0), whole.dtype)
    return cast("NDArray[T]", output)


def run_inside(engine: Engine, batch: NDArray[np.float32], margins: Margins = NO_MARGINS) -> NDArray[np.float32]:
    """Run a batch ``(N, 3, H, W)`` as :meth:`apisr.engines.base.Engine.run` does, and cut margins from the output."""
    inside = getattr(engine, "run_inside", None)
    if inside is not None and any(margins):
        return cast("Callable[[NDArray[np.float32], Margins], NDArray[np.float32]]", inside)(batch, margins)
    return cut(engine.run(batch), margins, engine.traits.scale, rows_axis=2)


def on_all_sides(px: int) -> Margins:
    """Return margins of one width."""
    return px, px, px, px


def cut(output: NDArray[T], margins: Margins, scale: int, *, rows_axis: int) -> NDArray[T]:
    """Cut margins, in pixels of the input, from an output.

    Args:
        output: rows and columns are two axes that follow each other.
        margins: of the input.
        scale: of the network.
        rows_axis: where the rows stand.
    """
    top, bottom, left, right = (scale * px for px in margins)
    height, width = output.shape[rows_axis : rows_axis + 2]
    index = (slice(None),) * rows_axis + (slice(top, height - bottom), slice(left, width - right))
    return output[index]
