"""Model files: what exists, finding one by name or path, and reading and writing them.

This package imports neither torch nor onnxruntime until a file needs them.

    >>> from apisr.weights import resolve_model
    >>> resolve_model("apisr-x2-fast").scale
    2
"""

from apisr.weights.choose import choose_model
from apisr.weights.model import ONNX_SUFFIXES, TORCH_SUFFIXES, Model, default_model, list_models
from apisr.weights.resolve import resolve_model

__all__ = [
    "ONNX_SUFFIXES",
    "TORCH_SUFFIXES",
    "Model",
    "choose_model",
    "default_model",
    "list_models",
    "resolve_model",
]
