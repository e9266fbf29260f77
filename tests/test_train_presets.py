"""The presets of shipped models: a few steps of each recipe on tiny shards, from the weights that it starts from."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from error_codes import raises_code
from safetensors.torch import save_file

from apisr.image import write_picture
from apisr.networks import architecture
from apisr.train.config import PRESETS, load_config
from apisr.train.data.prepare import ShardRequest, prepare_shards
from apisr.train.init.weights import find_weights
from apisr.train.losses.proxy_features import PROXY_LAYERS, Graph, Node, save_proxy
from apisr.train.trainer import train
from apisr.weights import list_models, resolve_model
from apisr.weights.checkpoint import load_network
from apisr.weights.releases import CATALOGUE

SECOND_STAGES = (
    "apisr-x4-max",
    "apisr-x4-max-vivid",
    "apisr-x2-vivid-judges",
    "apisr-x2-fast-vivid-judges",
    "apisr-x4-vivid",
    "apisr-x4-vivid-judges",
)


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two drawings of one size."""
    folder = tmp_path_factory.mktemp("drawings")
    for number in range(2):
        random = np.random.default_rng(number)
        picture = np.full((128, 160, 3), 220, np.uint8)
        for _ in range(12):
            first, second = (tuple(int(value) for value in random.integers(0, 160, 2)) for _ in range(2))
            cv2.line(picture, first, second, random.integers(0, 200, 3).tolist(), 2, cv2.LINE_AA)
        write_picture(folder / f"{number}.png", picture)
    return folder


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small feature network with the layers of InceptionV3 that the presets name."""
    random = np.random.default_rng(0)
    nodes: list[Node] = []
    for place, layer in enumerate(PROXY_LAYERS["proxy-inception"]):
        kernel = random.normal(0, 0.3, (4, 4 if place else 3, 3, 3)).astype(np.float32)
        before = nodes[-1].name if nodes else "input"
        nodes.append(Node(layer, "conv", (before,), (kernel,), stride=2, padding=(1, 1)))
    path = tmp_path_factory.mktemp("features") / "inception.safetensors"
    save_proxy(Graph(tuple(nodes)), path, origin="made here")
    return path


@pytest.mark.parametrize("name", SECOND_STAGES)
def test_a_few_steps_of_a_second_stage(name: str, tmp_path: Path, drawings: Path, features: Path) -> None:
    scale = load_config(name).model.scale
    kinds = ("tv=tv", "full=apisr", "std=bicubic:0.5, video:0.5")
    request = ShardRequest((drawings,), tmp_path / "shards", scale=scale, degradations=kinds)
    assert prepare_shards(request).pictures == 2
    (term,) = load_config(name).loss.perceptual
    weights = ", ".join(f"{layer} = {weight}" for layer, weight in term.weights.items())
    sets = [
        f"run.folder={tmp_path}",
        "run.steps=2",
        "run.threads=1",
        "run.accelerator=cpu",
        "run.precision=fp32",
        "log.tensorboard=false",
        "log.every=1",
        f"data.shards={tmp_path / 'shards'}",
        "data.sampling_weights={tv=0.6, full=0.2, std=0.2}",
        "data.workers=0",
        "data.patch_px=96",
        "data.batch=2",
        f'loss.perceptual=[{{network = "proxy-inception:{features}", weights = {{{weights}}}}}]',
        "discriminator.arguments.features=8",
    ]
    config = load_config(name, sets=sets)
    result = train(config)
    assert result.complete
    expected = {"charbonnier", "ssim", "proxy-inception"} | (
        {"adversarial"} if config.loss.adversarial_weight else set()
    )
    assert expected <= result.losses.keys()
    assert all(np.isfinite(value) for value in result.losses.values())
    start = dict(load_network(find_weights(config.model.init_from)).named_parameters())  # type: ignore[arg-type]
    trained = dict(load_network(result.weights).named_parameters())
    assert trained.keys() == start.keys()
    moved = max(float((trained[key] - start[key]).detach().abs().max()) for key in start)
    assert 0 < moved < 0.01  # two steps away from where it began


def test_every_model_has_a_preset() -> None:
    assert {model.name for model in list_models()} <= set(PRESETS.names())


def test_a_preset_builds_the_network_that_ships() -> None:
    for model in list_models():
        if model.name in PRESETS.names():
            config = load_config(model.name).model
            assert (config.network, config.scale) == (model.architecture, model.scale)
            built = architecture(config.network).build({**config.arguments, "scale": config.scale})
            assert sum(value.numel() for value in built.parameters()) == resolve_model(model.name).card["parameters"]


def test_a_fetched_release_is_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APISR_CACHE", str(tmp_path))
    name = "apisr-rrdb-x4"  # its hash is not published: any file of the network is taken
    with raises_code("no-weights") as caught:
        find_weights(Path(name))
    assert f"apisr models fetch {name}" in str(caught.value)
    with raises_code("no-weights"):
        find_weights(Path("nowhere"))
    torch.manual_seed(0)
    network = architecture("rrdb").build({"blocks": 1, "scale": 4})
    from apisr.weights.releases import cache_folder

    target = cache_folder() / CATALOGUE[name].file_name
    target.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"params": network.state_dict()}, target)
    assert find_weights(Path(name)) == target
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    assert find_weights(tmp_path / "other.safetensors") == tmp_path / "other.safetensors"
