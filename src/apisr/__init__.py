"""apisr: restore and upscale anime, from video to score.

The public functions are loaded on first use, so that ``import apisr`` stays light
(neither torch nor onnxruntime nor av is imported):

    >>> import apisr
    >>> big = apisr.upscale(picture, scale=2)            # doctest: +SKIP

The method is that of "APISR: Anime Production Inspired Real-World Anime
Super-Resolution" (CVPR 2024).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from apisr.core.errors import ApisrError as ApisrError
    from apisr.upscale import upscale as upscale

_LAZY = {
    "ApisrError": "apisr.core.errors",
    "upscale": "apisr.upscale",
}

__all__ = ["ApisrError", "__version__", "upscale"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'apisr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
