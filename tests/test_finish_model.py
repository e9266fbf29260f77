"""scripts/finish_model.py: weights in 16 bits, flat areas as bright as the input, a card that says what it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from apisr.engines import open_engine  # noqa: E402
from apisr.networks import build  # noqa: E402
from apisr.weights import resolve_model  # noqa: E402
from apisr.weights.checkpoint import save_network  # noqa: E402

NETWORKS: dict[str, dict[str, Any]] = {
    "compact": {"features": 16, "depth": 2, "scale": 2},
    "lite": {"features": 16, "depth": 2, "scale": 4, "context_features": 8, "context_depth": 1, "activation": "prelu"},
    "rrdb": {"features": 16, "blocks": 1, "growth": 4, "scale": 4},
}


def flat_error(path: Path, scale: int) -> float:
    """How many levels the mean of flat areas is off, over nine colours and apart from the rim."""
    engine = open_engine(path, engine="onnx", device="cpu", precision="fp32", threads=1)
    errors: list[np.ndarray] = []
    for red in (0.1, 0.5, 0.9):
        for blue in (0.2, 0.5, 0.8):
            colour = np.array([red, 0.4, blue], np.float32).reshape(1, 3, 1, 1)
            output = engine.run(np.broadcast_to(colour, (1, 3, 64, 64)).copy())
            middle = slice(28 * scale, 36 * scale)
            errors.append((output[:, :, middle, middle] - colour).mean((0, 2, 3)))
    return float(255 * np.abs(np.mean(errors, axis=0)).max())


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_finished_model_keeps_flat_areas_and_halves_its_weights(
    kind: str, tmp_path: Path, script: Callable[[str], ModuleType]
) -> None:
    torch.manual_seed(3)
    hyper = NETWORKS[kind]
    network = build(kind, hyper).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if kind == "rrdb" and name.endswith(
                "weight"
            ):  # it has no way around: what it hands on must be of some size
                torch.nn.init.kaiming_normal_(parameter)
            elif name.endswith("bias"):
                parameter.add_(0.02 * torch.randn_like(parameter))
    start, output, card = tmp_path / "start.safetensors", tmp_path / "made.onnx", tmp_path / "card.json"
    save_network(network, start, kind, hyper, card={})
    card.write_text(json.dumps({"name": "made", "license": "BSD-3-Clause", "training": {"hours": 2.5}}))
    script("finish_model").main(start, output, card)
    if kind != "rrdb":  # which is not a picture's enlargement before it was trained
        assert flat_error(start, hyper["scale"]) > 1
        assert flat_error(output, hyper["scale"]) < 0.5
    model = resolve_model(output)
    written = json.loads(output.with_suffix(".json").read_text(encoding="utf-8"))
    assert (model.architecture, model.scale, written["training"]) == (kind, hyper["scale"], {"hours": 2.5})
    assert written["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    large = [parameter.numel() for parameter in network.parameters() if parameter.numel() >= 1024]
    assert output.stat().st_size < start.stat().st_size - 1.5 * sum(large) + 20_000


def test_the_mean_over_colours_is_the_colour(script: Callable[[str], ModuleType]) -> None:
    torch.manual_seed(4)
    network = build("rrdb", NETWORKS["rrdb"]).eval()
    before, after = script("finish_model").keep_brightness(network, scale=4)
    assert after < before
    again = script("finish_model").keep_brightness(network, scale=4)
    assert again[0] == pytest.approx(after, abs=1e-3)
    assert again[1] == pytest.approx(after, abs=1e-3)
