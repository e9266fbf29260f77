"""Make the tiny networks in tests/data/models (random weights): python tests/make_tiny_models.py [NAME...]."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from apisr.networks import architecture
from apisr.weights.export import export_onnx

FOLDER = Path(__file__).parent / "data" / "models"


MODELS = {
    "tiny-x2": ("compact", {"features": 8, "depth": 2, "scale": 2, "unshuffle": 2, "activation": "relu"}),
    "tiny-x4": ("compact", {"features": 8, "depth": 2, "scale": 4, "unshuffle": 1, "activation": "leakyrelu"}),
    "tiny-x4-unshuffled": ("compact", {"features": 8, "depth": 2, "scale": 4, "unshuffle": 2, "activation": "relu"}),
    "tiny-lite": ("lite", {"features": 8, "depth": 2, "scale": 2, "context_features": 8, "context_depth": 0}),
}


def make(names: Sequence[str]) -> None:
    for name in names or list(MODELS):
        kind, hyper = MODELS[name]
        torch.manual_seed(5)
        network = architecture(kind)
        module = network.build(hyper)
        if kind == "lite":  # as trained: the context branch takes part
            torch.nn.init.normal_(module.context[-1].weight, std=0.3)
        card = {"name": name, "architecture": kind, "hyper": hyper, "license": "Apache-2.0"}
        export_onnx(module, FOLDER / f"{name}.onnx", traits=network.traits(hyper), card=card, overwrite=True)


if __name__ == "__main__":
    make(sys.argv[1:])
