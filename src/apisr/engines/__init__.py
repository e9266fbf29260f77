"""Engines: what runs a network on which device; see :mod:`apisr.engines.registry`.

>>> from apisr.engines import open_engine
>>> open_engine("apisr-x2-fast", engine="onnx").traits.scale
2
"""

from apisr.engines.base import Engine, ModelTraits, Precision, PrecisionChoice
from apisr.engines.registry import ENGINES, PRECISIONS, engine_kind, open_engine

__all__ = [
    "ENGINES",
    "PRECISIONS",
    "Engine",
    "ModelTraits",
    "Precision",
    "PrecisionChoice",
    "engine_kind",
    "open_engine",
]
