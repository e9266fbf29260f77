"""Upscaling: pictures and videos, files and arrays, any size, any engine.

The module itself can be called on arrays, so that ``apisr.upscale(...)`` works whether or not this package has been
imported before:

    >>> import numpy as np, apisr
    >>> apisr.upscale(np.zeros((10, 12, 3), np.uint8), scale=2).shape
    (20, 24, 3)
"""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apisr.engines import Engine
    from apisr.image import ImageInt

__all__ = ["upscale", "upscale_pixels"]


def upscale(
    pixels: ImageInt,
    *,
    scale: float = 2,
    model: str | Path | None = None,
    strength: float | None = None,
    device: str = "auto",
    tile_px: int | None = None,
    tta: bool = False,
) -> ImageInt:
    """Upscale one picture held as an array.

    Args:
        pixels: ``(H, W, C)`` uint8 or uint16, or ``(H, W)`` gray; C is 1 gray, 2 gray + alpha, 3 RGB, 4 RGB + alpha.
        scale: factor; 2 and 4 are the models' own, others are resampled from those.
        model: name of a model (``apisr models``) or a model file; by default the one that ships for the scale.
        strength: 0 (faithful) to 1 (vivid) where the model has a vivid twin; None takes the model as it is.
        device: ``auto``, ``cpu``, ``cuda``, ...
        tile_px: side of the pieces that go through the network at once.
        tta: give the mean over eight flips and turns: a little closer to the truth, eight times the work.

    Returns:
        ``(round(scale*H), round(scale*W), C)`` of the same dtype (without C if it was given without).

    Raises:
        InputError: not such an array, no model for the scale, or a strength where the model has no vivid twin.
    """
    import numpy as np

    from apisr.core.errors import InputError
    from apisr.engines import open_engine
    from apisr.image import from_float, resize, to_float
    from apisr.upscale.sizes import SizeRequest
    from apisr.weights import choose_model

    array = np.asarray(pixels)
    if array.dtype.name not in ("uint8", "uint16") or array.ndim not in (2, 3) or 0 in array.shape:
        raise InputError(
            "expected an array (height, width, channels) of uint8 or uint16, "
            f"got shape {array.shape} of {array.dtype}. "
            "Convert it first, for example with numpy.asarray(picture)."
        )
    gray = array.ndim == 2
    array = array[..., None] if gray else array
    if array.shape[2] > 4:
        raise InputError(f"expected 1 to 4 channels last, got shape {array.shape}. Move the channels to the end.")
    engine = open_engine(choose_model(model, scale=scale, strength=strength), device=device, tta=tta)
    output = upscale_pixels(array, engine, tile_px=tile_px)
    wanted = SizeRequest(factor=scale).of_picture(array.shape[0], array.shape[1], scale=engine.traits.scale)
    if output.shape[:2] != wanted:
        output = from_float(resize(to_float(output), wanted[0], wanted[1]), array.dtype)
    return output[..., 0] if gray else output


def upscale_pixels(pixels: ImageInt, engine: Engine, *, tile_px: int | None = None) -> ImageInt:
    """Upscale one array with a loaded engine; see :func:`apisr.upscale.picture.upscale_pixels`."""
    from apisr.upscale import picture

    return picture.upscale_pixels(pixels, engine, tile_px=tile_px)


class _CallableModule(types.ModuleType):
    """Lets ``apisr.upscale`` be both the package of this name and the function of the public interface."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return upscale(*args, **options)


sys.modules[__name__].__class__ = _CallableModule
