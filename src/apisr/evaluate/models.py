"""Who makes the outputs: nobody (they are given), plain resampling, or a network.

>>> import numpy as np
>>> open_model("lanczos", scale=2).enlarge(np.zeros((4, 6, 3), np.uint8)).shape
(8, 12, 3)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from apisr.core.errors import InputError
from apisr.evaluate.report import ModelInfo
from apisr.image import Resampling, from_float, resize, to_float
from apisr.image.types import ImageU8

#: Names of `--model` that are not networks: the yardsticks of every table.
BASELINES: tuple[Resampling, ...] = ("lanczos", "bicubic", "nearest")


@dataclass(frozen=True)
class Enlarger:
    """Something that enlarges: who it is, and the function from uint8 RGB ``(H, W, 3)`` to ``(sH, sW, 3)``."""

    info: ModelInfo
    enlarge: Callable[[ImageU8], ImageU8]


def open_model(model: str | Path, *, scale: int | None = None, device: str = "auto", tta: bool = False) -> Enlarger:
    """Load what `--model` names.

    Args:
        model: ``lanczos``, ``bicubic``, ``nearest``, a name of ``apisr models``, or a model file.
        scale: the factor; resampling needs it.
        device: for networks.
        tta: for networks, see :func:`apisr.engines.open_engine`.

    Raises:
        InputError: unknown, damaged, or of another scale.
    """
    if model in BASELINES:
        return _baseline(cast("Resampling", model), scale)
    from apisr.engines import open_engine
    from apisr.upscale import upscale_pixels
    from apisr.weights import resolve_model

    resolved = resolve_model(model, scale=scale)
    engine = open_engine(resolved, device=device, tta=tta)
    card = resolved.card
    license_name = card.get("license")
    info = ModelInfo(
        name=resolved.name,
        scale=engine.traits.scale,
        engine=engine.name,
        sha256=resolved.sha256 or None,
        license=str(license_name) if license_name is not None else None,
    )
    return Enlarger(info, lambda picture: cast("ImageU8", upscale_pixels(picture, engine)))


def _baseline(method: Resampling, scale: int | None) -> Enlarger:
    if scale is None:
        raise InputError(
            f"'{method}' can enlarge by any factor: say which with --scale, or give --reference.", code="needs-scale"
        )

    def enlarge(picture: ImageU8) -> ImageU8:
        height, width = picture.shape[:2]
        return from_float(resize(to_float(picture), height * scale, width * scale, method=method), np.uint8)

    return Enlarger(ModelInfo(name=method, scale=scale, engine="resampling (Pillow's kernels, float)"), enlarge)
