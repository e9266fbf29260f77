"""The start of a generator: the residual path (exact enlargement, fusing, gradients, resuming), and expanding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from error_codes import raises_code
from test_train_loader import Blocks
from test_train_run import config, same, trainer_of, weights
from torch.nn import functional

from apisr.core.progress import Progress
from apisr.networks import lite as lite_network
from apisr.networks.compact import Activation, Compact
from apisr.networks.lite import Lite
from apisr.train.checkpoint import list_checkpoints
from apisr.train.init.expand import expand
from apisr.train.init.residual_path import (
    BilinearResidual,
    fuse,
    has_residual_path,
    init_residual_path,
    mask_gradients,
    unfuse,
)
from apisr.train.trainer import TrainResult, train
from apisr.weights.checkpoint import load_network

PATH = ("model.residual_path=true", "model.arguments.features=8")
BODY = "features=8, depth=2"
LITE = (
    "model.residual_path=true",
    "model.network=lite",
    f"model.arguments={{{BODY}, context_features=8, context_depth=1}}",
)


def network(scale: int = 2, unshuffle: int = 1, features: int = 20) -> Compact:
    torch.manual_seed(1)
    made = Compact(features=features, depth=2, scale=scale, unshuffle=unshuffle, activation="relu")
    init_residual_path(made)
    return made


@torch.no_grad()
@pytest.mark.parametrize(("scale", "unshuffle"), [(2, 1), (4, 1), (2, 2), (4, 2), (3, 1)])
def test_a_new_network_is_a_bilinear_enlargement(scale: int, unshuffle: int) -> None:
    made = network(scale, unshuffle)
    picture = torch.rand(2, 3, 16, 20)
    apart = made(picture) + BilinearResidual(made)(picture)
    wanted = functional.interpolate(picture, scale_factor=scale, mode="bilinear", align_corners=False)
    inside = slice(scale * unshuffle, -scale * unshuffle)  # a convolution pads with zeros
    # The last layer starts near zero, not at it: its part is small.
    assert float((apart - wanted)[..., inside, inside].abs().max()) < 0.05
    fuse(made)
    assert torch.allclose(made(picture), apart, atol=2e-6)
    assert has_residual_path(made)
    unfuse(made)
    assert torch.allclose(made(picture) + BilinearResidual(made)(picture), apart, atol=2e-6)


def test_the_rows_of_the_path_have_no_gradient_and_others_do() -> None:
    made = network(2, 2)
    (made(torch.rand(1, 3, 8, 8)) * torch.rand(1, 3, 16, 16)).sum().backward()
    mask_gradients(made)
    for layer in list(made.body)[:-1]:
        if isinstance(layer, torch.nn.Conv2d):
            assert layer.weight.grad is not None
            assert not layer.weight.grad[:12].any()
            assert layer.weight.grad[12:].any()
    last = made.body[-1]
    assert isinstance(last, torch.nn.Conv2d)
    assert last.weight.grad is not None
    assert last.weight.grad[:, :12].any()


def lite(scale: int = 2) -> Lite:
    torch.manual_seed(2)
    made = Lite(features=8, depth=2, scale=scale, context_features=8, context_depth=1)
    init_residual_path(made)
    return made


@torch.no_grad()
@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("size", [(16, 20), (13, 18)])
def test_fusing_a_lite_network_is_exact_whatever_its_branch_sees(scale: int, size: tuple[int, int]) -> None:
    made = lite(scale)
    joint = made.context[-1]
    assert isinstance(joint, torch.nn.Conv2d)
    assert not joint.weight.any()
    assert made.context[0].weight.std() > 0.05  # He's rule
    assert not made.context[0].bias.any()
    joint.weight[48:].normal_(std=0.1)
    picture = torch.rand(2, 3, *size)
    apart = made(picture) + BilinearResidual(made)(picture)
    assert has_residual_path(made)
    fuse(made)
    assert has_residual_path(made)
    assert torch.allclose(made(picture), apart, atol=2e-6)
    joint.bias[47] = 0.1  # reaches the last feature of the path
    assert not has_residual_path(made)


def test_the_context_branch_never_reaches_the_path() -> None:
    made = lite()
    optimizer = torch.optim.Adam(made.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        (made(torch.rand(1, 3, 8, 8)) * torch.rand(1, 3, 16, 16)).sum().backward()
        mask_gradients(made)
        optimizer.step()
    joint = made.context[-1]
    assert isinstance(joint, torch.nn.Conv2d)
    assert not joint.weight[:48].any()
    assert not joint.bias[:48].any()  # pyright: ignore[reportOptionalSubscript]
    assert joint.weight[48:].any()
    assert has_residual_path(made)


@torch.no_grad()
def test_a_deep_level_expands_a_lite_network_without_a_change() -> None:
    smaller = lite()
    smaller.context[-1].weight[48:].normal_(std=0.1)  # pyright: ignore[reportArgumentType, reportIndexIssue]
    arguments: dict[str, Any] = {"features": 8, "depth": 2, "scale": 2, "context_features": 8, "context_depth": 1}
    larger = Lite(**arguments, deep_features=6, deep_depth=2)
    expand(larger, smaller.state_dict())
    picture = torch.rand(2, 3, 13, 18)
    inside = (..., slice(8), slice(8))  # padded to multiples of 8 instead of 4
    assert torch.equal(larger(picture)[inside], smaller(picture)[inside])
    assert has_residual_path(larger)
    assert larger.deep[0].weight.std() > 0.05
    torch.nn.init.normal_(larger.deep[-1].weight, std=0.1)  # pyright: ignore[reportArgumentType]
    assert float((larger(picture) - smaller(picture)).abs().max()) > 1e-3
    apart = larger(picture) + BilinearResidual(larger)(picture)
    fuse(larger)
    assert torch.allclose(larger(picture), apart, atol=2e-6)
    for wrong in ({"context_depth": 2}, {"features": 9}):
        with raises_code("cannot-expand"):
            expand(Lite(**{**arguments, **wrong}, deep_features=6, deep_depth=2), smaller.state_dict())


@torch.no_grad()
@pytest.mark.parametrize("activation", ["relu", "prelu"])
def test_a_lite_network_takes_a_compact_one_as_its_body(activation: Activation) -> None:
    arguments: dict[str, Any] = {"features": 8, "depth": 2, "scale": 2}
    branch = {**arguments, "context_features": 8, "context_depth": 1}
    smaller = Compact(**arguments, activation=activation)
    for layer in smaller.body:
        if isinstance(layer, torch.nn.PReLU):
            layer.weight.uniform_(0.1, 0.9)
    larger = Lite(**branch, activation=activation)
    expand(larger, smaller.state_dict())
    picture = torch.rand(1, 3, 16, 20)
    assert torch.equal(larger(picture), smaller(picture))
    assert lite_network.detect(larger.state_dict()) == {**lite_network.DEFAULTS, **branch, "activation": activation}
    with raises_code("cannot-expand"):
        expand(Lite(**branch, activation="prelu" if activation == "relu" else "relu"), smaller.state_dict())


def start_of(result: TrainResult) -> Compact | Lite:
    loaded = load_network(result.weights)
    assert isinstance(loaded, Compact | Lite)
    return loaded


@pytest.mark.parametrize("chosen", [PATH, LITE], ids=["compact", "lite"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_keeps_the_path_and_resumes_bit_for_bit(
    tmp_path: Path, precision: str, chosen: tuple[str, ...]
) -> None:
    sets = (*chosen, f"run.precision={precision}", "log.every=1", "loss.pixel=log_mse", "loss.ssim_weight=1")
    whole = train(config(tmp_path, "run.name=whole", "run.steps=9", *sets), source=Blocks())
    train(config(tmp_path, "run.name=parts", "run.steps=9", "run.max_seconds=0.000001", *sets), source=Blocks())
    resumed = train(config(tmp_path, "run.name=parts", "run.steps=9", *sets), source=Blocks(), resume=True)
    assert same(weights(whole), weights(resumed))
    assert has_residual_path(start_of(whole))


@pytest.mark.parametrize("network", [PATH, LITE], ids=["compact", "lite"])
def test_every_reader_of_weights_gets_the_fused_network(tmp_path: Path, network: tuple[str, ...]) -> None:
    chosen = config(tmp_path, *network, "run.steps=2", "ema.decay=0", "optimizer.lr=1e-2")
    result = train(chosen, source=Blocks())
    again = trainer_of(chosen)
    checkpoint = list_checkpoints(result.folder)[-1][1]
    again.load(torch.load(checkpoint, weights_only=True))
    hook, generator = again.parts.hook, again.parts.generator.module
    assert hook.has_residual_path
    picture = torch.rand(1, 3, 12, 12)
    with torch.no_grad():
        apart = hook.complete(generator(picture), picture)
        for path in (result.weights, checkpoint):
            assert torch.allclose(load_network(path).eval()(picture), apart, atol=2e-6)


def test_a_second_stage_goes_on_from_fused_weights(tmp_path: Path) -> None:
    first = train(config(tmp_path, *PATH, "run.steps=3"), source=Blocks())
    still = ("run.steps=1", "optimizer.lr=1e-12", f"model.init_from={first.folder}", *PATH)
    second = train(config(tmp_path, "run.name=second", *still), source=Blocks())
    before, after = start_of(first).state_dict(), start_of(second).state_dict()
    assert all(torch.allclose(before[key], after[key], atol=1e-6) for key in before)
    assert has_residual_path(start_of(second))
    # Weights without the path are trained as they are, and the run says so.
    plain = train(config(tmp_path, "run.name=plain", "run.steps=2", "model.arguments.features=8"), source=Blocks())
    events: list[Progress] = []
    third = train(
        config(tmp_path, "run.name=third", *still[:-3], f"model.init_from={plain.folder}", *PATH),
        source=Blocks(),
        progress=events.append,
    )
    assert any("model.residual_path has no effect" in event.message for event in events if event.kind == "notice")
    before, after = start_of(plain).state_dict(), start_of(third).state_dict()
    assert all(torch.allclose(before[key], after[key], atol=1e-6) for key in before)


@pytest.mark.parametrize(
    ("sets", "code"),
    [
        (["model.arguments.features=3"], "no-residual-path"),
        (["model.arguments.activation=silu"], "no-residual-path"),
        (["model.arguments={depth=1, activation='relu', dilations=[1, 1, 2]}"], "no-residual-path"),
        (["model.network=rrdb", "model.arguments={}"], "no-residual-path"),
        (["optimizer.weight_decay=0.1"], "bad-setting"),
    ],
)
def test_what_cannot_have_a_path_is_refused(tmp_path: Path, sets: list[str], code: str) -> None:
    with raises_code(code):
        train(config(tmp_path, "model.residual_path=true", *sets), source=Blocks())


def test_a_network_expands_a_shallower_one(tmp_path: Path) -> None:
    first = train(config(tmp_path, *PATH, "run.steps=2"), source=Blocks())
    deeper = ("model.arguments.depth=4", "model.arguments.dilations=[1, 2, 1, 4, 1, 1]", "model.expand=true", *PATH)
    still = ("run.steps=1", "optimizer.lr=1e-12", f"model.init_from={first.folder}")
    second = train(config(tmp_path, "run.name=second", *still, *deeper), source=Blocks())
    assert has_residual_path(start_of(second))
    picture = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        before, after = start_of(first).eval()(picture), start_of(second).eval()(picture)
    assert float((before - after).abs().mean()) < 0.02  # identities but for a little noise
    wrong = (*deeper[:1], "model.arguments.dilations=[1, 2, 1, 1, 1, 1]", *deeper[2:])
    with raises_code("cannot-expand"):
        train(config(tmp_path, "run.name=third", *still, *wrong), source=Blocks())


def test_a_lite_network_expands_a_compact_one(tmp_path: Path) -> None:
    body = ("model.residual_path=true", f"model.arguments={{{BODY}, activation='relu'}}")
    first = train(config(tmp_path, *body, "run.steps=2"), source=Blocks())
    still = ("run.steps=1", "optimizer.lr=1e-12", f"model.init_from={first.folder}", *LITE)
    second = train(config(tmp_path, "run.name=second", *still, "model.expand=true"), source=Blocks())
    larger, smaller = start_of(second), start_of(first)
    assert isinstance(larger, Lite)
    assert has_residual_path(larger)
    assert larger.context[0].weight.any()
    picture = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(larger(picture), smaller(picture), atol=1e-6)
    # Its own weights are a start as those of any network, which expanding is not for.
    third = ("run.name=third", "run.steps=1", f"model.init_from={second.folder}", *LITE)
    assert has_residual_path(start_of(train(config(tmp_path, *third), source=Blocks())))
    for sets in ((*third, "model.expand=true"), (*still, "model.expand=true", "model.arguments.depth=3")):
        with raises_code("cannot-expand"):
            train(config(tmp_path, *sets, "run.name=fourth"), source=Blocks())
    dilated = (
        "model.residual_path=true",
        "model.arguments={features=8, depth=2, activation='relu', dilations=[1, 2, 1, 1]}",
    )
    wide = train(config(tmp_path, "run.name=wide", "run.steps=1", *dilated), source=Blocks())
    with raises_code("cannot-expand"):
        train(
            config(tmp_path, *LITE, "run.name=fifth", "model.expand=true", f"model.init_from={wide.folder}"),
            source=Blocks(),
        )
