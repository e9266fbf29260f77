"""The pseudo-GT of a picture: its lines enhanced (paper section 3.3), kept in a folder if one is given."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal, cast

import cv2
import numpy as np

from apisr.core.files import atomic_path
from apisr.image import ImageU8
from apisr.train.config import Enhance


def pseudo_gt(high: ImageU8, preset: Enhance, cache: Path | None) -> ImageU8 | None:
    """Return the pseudo-GT of a picture, or None for the preset ``none``.

    Args:
        high: ``(H, W, 3)`` uint8.
        preset: of the enhancement.
        cache: folder that keeps the result under a name made of what it depends on.
    """
    if preset == "none":
        return None
    return _enhanced(high, preset) if cache is None else kept_pseudo_gt(high, preset, cached_path(high, preset, cache))


def cached_path(high: ImageU8, preset: Enhance, cache: Path) -> Path:
    """Return where the pseudo-GT of a picture is kept: the name is made of what it depends on."""
    digest = hashlib.sha256(high.tobytes() + f"{high.shape} {preset}".encode()).hexdigest()[:24]
    return cache / f"{digest}.npy"


def kept_pseudo_gt(high: ImageU8, preset: Enhance, path: Path) -> ImageU8:
    """Return a pseudo-GT from its file, which is made where it is missing; arguments as of :func:`pseudo_gt`.

    Raises:
        ValueError: the preset is ``none``.
    """
    if preset == "none":
        raise ValueError("the preset 'none' has no pseudo-GT")
    if path.is_file():
        return cast("ImageU8", np.load(path, mmap_mode="r"))
    made = _enhanced(high, preset)
    with atomic_path(path, overwrite=True) as partial, partial.open("wb") as file:
        np.save(file, made)
    return made


def _enhanced(high: ImageU8, preset: Literal["paper", "reference"]) -> ImageU8:
    from apisr.enhance import enhance

    result = enhance(np.array(high).astype(np.float32) / np.float32(255), preset=preset)
    return cast("ImageU8", np.asarray(cv2.addWeighted(result, 255.0, result, 0.0, 0.0, dtype=cv2.CV_8U)))
