"""The networks: one file each; see :mod:`apisr.networks.registry`. Nothing here loads torch."""

from apisr.networks.registry import (
    NETWORKS,
    Architecture,
    Hyper,
    architecture,
    build,
    check_hyper,
    detect,
    memory_per_px,
)
from apisr.networks.traits import ModelTraits

__all__ = [
    "NETWORKS",
    "Architecture",
    "Hyper",
    "ModelTraits",
    "architecture",
    "build",
    "check_hyper",
    "detect",
    "memory_per_px",
]
