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

from apisr.upscale.options import EngineName

if TYPE_CHECKING:
    from apisr.image import Pixels
    from apisr.upscale.engine import Engine
    from apisr.weights import Model

__all__ = ["EngineName", "choose_model", "load_engine", "upscale", "upscale_pixels"]


def upscale(
    pixels: Pixels,
    *,
    scale: float = 2,
    model: str | Path | None = None,
    strength: float | None = None,
    device: str = "auto",
    tile_px: int | None = None,
    tta: bool = False,
) -> Pixels:
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
    from apisr.image import from_float, resize, to_float
    from apisr.upscale.sizes import SizeRequest

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
    engine = load_engine(choose_model(model, scale=scale, strength=strength), device=device, tta=tta)
    output = upscale_pixels(array, engine, tile_px=tile_px)
    wanted = SizeRequest(factor=scale).of_picture(array.shape[0], array.shape[1], scale=engine.traits.scale)
    if output.shape[:2] != wanted:
        output = from_float(resize(to_float(output), wanted[0], wanted[1]), array.dtype)
    return output[..., 0] if gray else output


def upscale_pixels(pixels: Pixels, engine: Engine, *, tile_px: int | None = None) -> Pixels:
    """Upscale one array with a loaded engine; see :func:`apisr.upscale.picture.upscale_pixels`."""
    from apisr.upscale import picture

    return picture.upscale_pixels(pixels, engine, tile_px=tile_px)


def choose_model(model: str | Path | None, *, scale: float | None = None, strength: float | None = None) -> Model:
    """Find the model for a request: the one named, else the shipped one for the next whole scale (2 or 4).

    With a strength it is the one between that model and its vivid twin (:mod:`apisr.weights.strength`).

    Raises:
        ModelError: unknown, damaged, or no model fits.
        InputError: the factor is out of range, or a strength is given and the model has no vivid twin.
    """
    chosen = _chosen_model(model, scale=scale)
    if strength is None:
        return chosen
    from apisr.weights.strength import between

    return between(chosen, strength)


def _chosen_model(model: str | Path | None, *, scale: float | None) -> Model:
    from apisr.core.errors import InputError
    from apisr.weights import default_model, resolve_model

    if scale is not None and not 0.1 <= scale <= 16:
        raise InputError(f"expected a scale from 0.1 to 16, got {scale:g}. The models' own scales are 2 and 4.")
    base = 4 if scale is not None and scale > 2 else 2
    if model is None:
        return resolve_model(default_model(base))
    try:
        return resolve_model(model)
    except InputError:
        if Path(model).suffix:
            raise
        return resolve_model(model, scale=base)


def load_engine(
    model: Model | str | Path,
    *,
    engine: EngineName = "auto",
    device: str = "auto",
    threads: int | None = None,
    tta: bool = False,
) -> Engine:
    """Load a model into the engine that fits it: onnxruntime for ``.onnx``, torch for everything else.

    Args:
        model: from :func:`choose_model`, or a name or file.
        engine: force one; ``auto`` decides by the file.
        device: ``auto``, ``cpu``, ``cuda``, ... (of the engine).
        threads: processor threads; by default all that this process may use.
        tta: the mean over eight flips and turns (:mod:`apisr.upscale.ensemble`).

    Raises:
        ModelError: the file cannot be run by that engine.
        MissingExtra: torch is needed and not installed.
    """
    if isinstance(model, (str, Path)):
        model = choose_model(model)
    loaded = _loaded_engine(model, engine=engine, device=device, threads=threads)
    if not tta:
        return loaded
    from apisr.upscale.ensemble import FlipEnsemble

    return FlipEnsemble(loaded)


def _loaded_engine(model: Model, *, engine: EngineName, device: str, threads: int | None) -> Engine:
    if engine == "onnx" or (engine == "auto" and model.format == "onnx"):
        from apisr.core.errors import ModelError
        from apisr.upscale.onnx_engine import OnnxEngine

        if model.format != "onnx":
            raise ModelError(f"'{model.path}' is no ONNX file. Use --engine torch, or convert it with apisr export.")
        return OnnxEngine(model, device=device, threads=threads)
    from apisr.upscale.torch_engine import TorchEngine

    return TorchEngine(model, device=device, threads=threads)


class _CallableModule(types.ModuleType):
    """Lets ``apisr.upscale`` be both the package of this name and the function of the public interface."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return upscale(*args, **options)


sys.modules[__name__].__class__ = _CallableModule
