"""Make the tiny networks in tests/data/models (random weights, a few kilobytes): python tests/make_tiny_models.py."""

from __future__ import annotations

from pathlib import Path

import torch

from apisr.networks import architecture
from apisr.weights.export import export_onnx

FOLDER = Path(__file__).parent / "data" / "models"


def make() -> None:
    compact = architecture("compact")
    for name, hyper in {
        "tiny-x2": {"features": 8, "depth": 2, "scale": 2, "unshuffle": 2, "activation": "relu"},
        "tiny-x4": {"features": 8, "depth": 2, "scale": 4, "unshuffle": 1, "activation": "leakyrelu"},
        "tiny-x4-unshuffled": {"features": 8, "depth": 2, "scale": 4, "unshuffle": 2, "activation": "relu"},
    }.items():
        torch.manual_seed(5)
        card = {"name": name, "architecture": "compact", "hyper": hyper, "license": "Apache-2.0"}
        export_onnx(
            compact.build(hyper), FOLDER / f"{name}.onnx", traits=compact.traits(hyper), card=card, overwrite=True
        )


if __name__ == "__main__":
    make()
