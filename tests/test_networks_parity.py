"""Every network computes what the released one computes (origin of the arrays: tests/data/networks/README.md)."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from apisr.networks import NETWORKS, architecture, detect  # noqa: E402
from apisr.networks.features import IMAGENET_MEAN, IMAGENET_STD, RESNET_LAYERS, VGG19_LAYERS  # noqa: E402

UPSCALERS = {
    "grl_tiny2_x4": "grl",
    "grl_tiny_x4": "grl",
    "rrdb6_x4": "rrdb",
    "rrdb6_x2": "rrdb",
    "dat_small_x4": "dat",
    "cunet_x2": "cunet",
}


def parameter_of(name: str, shape: Sequence[int]) -> torch.Tensor:
    r = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    if name.endswith("running_var"):
        value = 1 + 0.1 * np.abs(r)
    elif name.endswith("running_mean"):
        value = 0.1 * r
    elif len(shape) >= 2:
        value = r / np.sqrt(np.prod(shape[1:]))
    else:
        value = 1 + 0.1 * r if name.endswith("weight") else 0.1 * r
    return torch.from_numpy(np.asarray(value, dtype=np.float32))


def state_of(keys: Mapping[str, Sequence[int]]) -> dict[str, torch.Tensor]:
    return {name: parameter_of(name, shape) for name, shape in keys.items() if not name.endswith("num_batches_tracked")}


def picture_of(shape: Sequence[int], seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random(tuple(shape), dtype=np.float32))


def relative_error(found: torch.Tensor, expected: np.ndarray) -> float:
    return float(np.abs(found.detach().numpy() - expected).max() / np.abs(expected).max())


@pytest.fixture(scope="module")
def described(data: Path) -> dict[str, Any]:
    return json.loads((data / "networks" / "networks.json").read_text())


@pytest.fixture(scope="module")
def outputs(data: Path) -> Mapping[str, np.ndarray]:
    return np.load(data / "networks" / "networks.npz")


@pytest.fixture(scope="module")
def losses(data: Path) -> Mapping[str, np.ndarray]:
    return np.load(data / "networks" / "losses.npz")


@pytest.mark.parametrize("name", UPSCALERS)
def test_upscaler(name: str, described: dict[str, Any], outputs: Mapping[str, np.ndarray]) -> None:
    state = state_of(described[name]["keys"])
    found = detect(state)
    assert found is not None
    network, hyper = found
    assert network.name == UPSCALERS[name]
    module = network.build(hyper).eval()
    left = module.load_state_dict(state, strict=False)
    assert not left.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in left.missing_keys)
    assert sum(parameter.numel() for parameter in module.parameters()) == described[name]["parameters"]
    x = picture_of(outputs[f"{name}.shape"])
    with torch.inference_mode():
        assert relative_error(module(x), outputs[f"{name}.y0"]) < 1e-4
    # With gradients other code paths are taken (no bundles, no caches): the same values.
    if "grl" in name:
        assert relative_error(module(x), outputs[f"{name}.y0"]) < 1e-4


# 200 power iterations do not quite forget where they began (singular values of random matrices lie close together), and
# the arrays' start is not known. Of a few starts, one must lead to the same singular vectors for each output.
STARTS = (1, 123, 2024)


@pytest.mark.parametrize("name", ["patch_multiscale", "unet_sn"])
def test_discriminator(name: str, described: dict[str, Any], outputs: Mapping[str, np.ndarray]) -> None:
    state = state_of(described[name]["keys"])
    found = detect(state)
    assert found is not None
    assert found[0].name == name
    best: list[float] = []
    for seed in STARTS:
        torch.manual_seed(seed)
        module = found[0].build(found[1])
        assert set(module.state_dict()) == {*described[name]["keys"], *described[name]["other_keys"]}
        assert sum(parameter.numel() for parameter in module.parameters()) == described[name]["parameters"]
        module.load_state_dict(state, strict=False)
        iterate(module)
        with torch.no_grad():
            scores = module.eval()(picture_of(outputs[f"{name}.shape"]))
        errors = [
            relative_error(score, outputs[f"{name}.y{number}"])
            for number, score in enumerate(scores if isinstance(scores, list) else [scores])
        ]
        assert max(errors) < 5e-3  # whatever the start
        best = errors if not best else [min(pair) for pair in zip(best, errors, strict=True)]
    assert max(best) < 1e-4


def iterate(module: torch.nn.Module) -> None:
    """Do the 200 power iterations of spectral norm that the arrays were made with."""
    with torch.no_grad():
        for part in module.modules():
            if hasattr(part, "weight_orig"):
                weight, left, right = part.weight_orig.flatten(1), part.weight_u, part.weight_v
                for _ in range(200):
                    right = torch.nn.functional.normalize(weight.T @ left, dim=0)
                    left = torch.nn.functional.normalize(weight @ right, dim=0)
                part.weight_u.copy_(left)
                part.weight_v.copy_(right)


def test_resnet50(described: dict[str, Any], losses: Mapping[str, np.ndarray], data: Path) -> None:
    keys = json.loads((data / "networks" / "losses.json").read_text())["danbooru.keys"]
    state = state_of(keys)
    found = detect({**state, "1.8.weight": torch.zeros(1)})  # the published file also has a head
    assert found is not None
    assert found[0].name == "resnet50"
    module = found[0].build({})
    assert set(module.state_dict()) == set(keys)
    module.load_state_dict(state, strict=False)
    features = module(picture_of((1, 3, 96, 96), seed=2))
    for layer in RESNET_LAYERS:
        assert relative_error(features[layer].mean((2, 3)), losses[f"danbooru.mean.{layer}"]) < 1e-4


def test_vgg19(losses: Mapping[str, np.ndarray]) -> None:
    network = architecture("vgg")
    module = network.build({"depth": 19})
    state = state_of({name: tuple(value.shape) for name, value in module.state_dict().items()})
    assert detect({**state, "classifier.0.weight": torch.zeros(1)}) == (network, {"depth": 19})
    module.load_state_dict(state)
    features = module(picture_of((1, 3, 96, 96), seed=2))
    for layer in VGG19_LAYERS:
        assert relative_error(features[layer].mean((2, 3)), losses[f"vgg19.mean.{layer}"]) < 1e-4


def test_feature_networks_pass_gradients_and_never_learn() -> None:
    for name in ("resnet50", "vgg"):
        module = architecture(name).build({}).train()
        assert not module.training
        assert not any(parameter.requires_grad for parameter in module.parameters())
        x = torch.rand(1, 3, 32, 32, requires_grad=True)
        sum(value.abs().mean() for value in module(x).values()).backward()
        assert x.grad is not None
        assert float(x.grad.abs().sum()) > 0


def test_icnet(losses: Mapping[str, np.ndarray], data: Path) -> None:
    described = json.loads((data / "networks" / "losses.json").read_text())
    state = state_of(described["icnet.keys"])
    found = detect(state)
    assert found is not None
    assert found[0].name == "icnet"
    module = found[0].build({}).eval()
    assert set(module.state_dict()) == set(described["icnet.keys"])
    assert sum(parameter.numel() for parameter in module.parameters()) == described["icnet.parameters"]
    module.load_state_dict(state, strict=False)
    x = picture_of((1, 3, 512, 512), seed=3)
    x = (x - torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)) / torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    with torch.inference_mode():
        score, where = module(x)
    assert abs(float(score) - float(losses["icnet.score"])) < 1e-5
    assert relative_error(where, losses["icnet.map"]) < 1e-4


def test_every_registered_network_builds_and_recognises_itself() -> None:
    for name in NETWORKS:
        network = architecture(name)
        assert network.name == name
        with torch.device("meta"):
            state = network.build({}).state_dict()
        found = detect(state)
        assert found is not None, name
        assert found[0].name == name
        assert network.flops_per_pixel(found[1]) > 0
