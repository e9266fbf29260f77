"""Whole pixels through an engine: 8-bit pictures in and out, without float copies where the engine can convert itself.

An engine may have a method ``run_pixels`` beside ``run``: it maps ``(H, W, 3)`` uint8 to ``(s*H, s*W, 3)`` uint8,
rounded half up. The conversion is then part of the network (OpenVINO) or happens on the graphics card (torch), to which
a quarter of the bytes travels. Engines without it get floats from here.

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


def run_pixels(engine: Engine, pixels: NDArray[T]) -> NDArray[T]:
    """Run one picture of whole numbers, or of floats in [0, 1].

    Args:
        engine: the network.
        pixels: ``(H, W, 3)`` uint8, uint16 or float32; H and W are multiples of ``traits.multiple_px``.

    Returns:
        ``(s*H, s*W, 3)`` of the same dtype; whole numbers are clipped and rounded half up, floats are as they come.
    """
    if pixels.dtype == np.float32:
        return cast("NDArray[T]", engine.run(to_tensor(cast("ImageF32", pixels)))[0].transpose(1, 2, 0))
    whole = cast("ImageInt", pixels)
    own = cast("Callable[[ImageU8], ImageU8] | None", getattr(engine, "run_pixels", None))
    if own is not None and whole.dtype == np.uint8:
        return cast("NDArray[T]", own(cast("ImageU8", whole)))
    output = from_float(engine.run(to_tensor(to_float(whole)))[0].transpose(1, 2, 0), whole.dtype)
    return cast("NDArray[T]", output)
