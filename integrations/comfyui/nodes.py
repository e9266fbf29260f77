"""Two nodes over :func:`apisr.load`: by a factor, and to a number of lines.

An IMAGE of ComfyUI is a float tensor ``(N, H, W, C)`` in [0, 1]. The pictures of a batch are taken for the frames of a
video, in order: what did not change since the frame before is not computed again, and the result is the same.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import apisr
from apisr.weights import list_models

if TYPE_CHECKING:
    from collections.abc import Callable

AUTOMATIC = "auto"
FOLDER = "upscale_models"


class _Node:
    CATEGORY = "image/upscaling"
    FUNCTION = "upscale"
    RETURN_TYPES = ("IMAGE",)
    DESCRIPTION = "Restore and upscale anime. Batches are taken for frames in order: what stands still costs nothing."


class Upscale(_Node):
    """Enlarge pictures by a factor."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        """Return what the node takes."""
        factor = {"default": 2.0, "min": 0.1, "max": 16.0, "step": 0.1}
        return {"required": _IMAGE | {"scale": ("FLOAT", factor)} | _choices()}

    def upscale(self, image: torch.Tensor, scale: float, model: str, strength: float) -> tuple[torch.Tensor]:
        """Return the enlarged pictures."""
        opened = _load(model, float(scale), strength or None)
        return (upscaled(image, opened, scale=scale),)


class UpscaleToHeight(_Node):
    """Enlarge pictures to a number of lines; the width follows and is even."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        """Return what the node takes."""
        lines = {"default": 2160, "min": 1, "max": 16384}
        return {"required": _IMAGE | {"height": ("INT", lines)} | _choices()}

    def upscale(self, image: torch.Tensor, height: int, model: str, strength: float) -> tuple[torch.Tensor]:
        """Return the enlarged pictures."""
        opened = _load(model, min(max(height / image.shape[1], 0.1), 16.0), strength or None)
        return (upscaled(image, opened, height=height),)


_IMAGE: dict[str, Any] = {"image": ("IMAGE",)}


def upscaled(image: torch.Tensor, model: apisr.LoadedModel, **size: float) -> torch.Tensor:
    """Upscale a batch.

    Args:
        image: ``(N, H, W, C)`` float in [0, 1] with 3 channels, or 4 with straight alpha.
        model: the network.
        **size: ``scale`` or ``height``, as :meth:`apisr.LoadedModel.sequence` takes them.

    Returns:
        The larger batch, float32 in [0, 1], on the processor.
    """
    colours, alphas = model.sequence(**size), model.sequence(**size)
    advance = _progress(len(image))
    pictures: list[torch.Tensor] = []
    for picture in image:
        values = np.ascontiguousarray(picture.detach().cpu().numpy(), dtype=np.float32)
        larger = colours(np.ascontiguousarray(values[..., :3]))
        if values.shape[2] == 4:
            alpha = alphas(np.repeat(values[..., 3:], 3, axis=2)).mean(axis=2, keepdims=True)
            larger = np.concatenate([larger, alpha], axis=2)
        pictures.append(torch.from_numpy(larger.clip(0, 1)))
        advance()
    return torch.stack(pictures)


def _choices() -> dict[str, Any]:
    names = [AUTOMATIC, *(model.name for model in list_models()), *_files()]
    vividness = {"default": 0.0, "min": 0.0, "max": 1.0, "step": 0.05}
    return {"model": (names,), "strength": ("FLOAT", vividness)}


@functools.lru_cache(maxsize=2)
def _load(name: str, factor: float, strength: float | None) -> apisr.LoadedModel:
    files = _files()
    model = None if name == AUTOMATIC else files.get(name, name)
    return apisr.load(model, scale=factor, strength=strength)


def _files() -> dict[str, Path]:
    """Return the model files in ComfyUI's folder for upscalers."""
    try:
        import folder_paths
    except ImportError:  # outside of ComfyUI
        return {}
    found = ((name, folder_paths.get_full_path(FOLDER, name)) for name in folder_paths.get_filename_list(FOLDER))
    return {name: Path(path) for name, path in found if path is not None}


def _progress(pictures: int) -> Callable[[], None]:
    """Return what moves ComfyUI's bar by one picture, and stops where the user asked for that."""
    try:
        from comfy.model_management import throw_exception_if_processing_interrupted
        from comfy.utils import ProgressBar
    except ImportError:  # outside of ComfyUI
        return lambda: None
    bar = ProgressBar(pictures)

    def advance() -> None:
        bar.update(1)
        throw_exception_if_processing_interrupted()

    return advance
