"""The carried input: exact enlargement, folding, gradients, resuming, starting from folded weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_train_loop import config, same, weights
from test_train_loop_feed import Blocks
from torch.nn import functional

from apisr.core.errors import InputError
from apisr.networks.compact import Compact
from apisr.networks.lite import Lite
from apisr.train.carry import CarriedPath, fold, is_carried, keep_carried, start_carried, unfold
from apisr.train.checkpoint import list_checkpoints
from apisr.train.grow import grow
from apisr.train.loop import Trainer, TrainResult, fabric_of, train
from apisr.weights.checkpoint import load_network

CARRY = ("model.carry=true", "model.arguments.features=8")
BODY = "features=8, depth=2"
LITE = ("model.carry=true", "model.network=lite", f"model.arguments={{{BODY}, context_features=8, context_depth=1}}")


def network(scale: int = 2, unshuffle: int = 1, features: int = 20) -> Compact:
    torch.manual_seed(1)
    made = Compact(features=features, depth=2, scale=scale, unshuffle=unshuffle, activation="relu")
    start_carried(made)
    return made


@torch.no_grad()
@pytest.mark.parametrize(("scale", "unshuffle"), [(2, 1), (4, 1), (2, 2), (4, 2), (3, 1)])
def test_a_new_network_is_a_bilinear_enlargement(scale: int, unshuffle: int) -> None:
    made = network(scale, unshuffle)
    picture = torch.rand(2, 3, 16, 20)
    apart = made(picture) + CarriedPath(made)(picture)
    wanted = functional.interpolate(picture, scale_factor=scale, mode="bilinear", align_corners=False)
    inside = slice(scale * unshuffle, -scale * unshuffle)  # a convolution pads with zeros
    # The last layer starts near zero, not at it: its part is small.
    assert float((apart - wanted)[..., inside, inside].abs().max()) < 0.05
    fold(made)
    assert torch.allclose(made(picture), apart, atol=2e-6)
    assert is_carried(made)
    unfold(made)
    assert torch.allclose(made(picture) + CarriedPath(made)(picture), apart, atol=2e-6)


def test_carried_rows_have_no_gradient_and_others_do() -> None:
    made = network(2, 2)
    (made(torch.rand(1, 3, 8, 8)) * torch.rand(1, 3, 16, 16)).sum().backward()
    keep_carried(made)
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
    start_carried(made)
    return made


@torch.no_grad()
@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("size", [(16, 20), (13, 18)])
def test_folding_a_lite_network_is_exact_whatever_its_branch_sees(scale: int, size: tuple[int, int]) -> None:
    made = lite(scale)
    joint = made.context[-1]
    assert isinstance(joint, torch.nn.Conv2d)
    assert not joint.weight.any()
    assert made.context[0].weight.std() > 0.05  # He's rule
    assert not made.context[0].bias.any()
    joint.weight[48:].normal_(std=0.1)
    picture = torch.rand(2, 3, *size)
    apart = made(picture) + CarriedPath(made)(picture)
    assert is_carried(made)
    fold(made)
    assert is_carried(made)
    assert torch.allclose(made(picture), apart, atol=2e-6)
    joint.bias[47] = 0.1  # reaches the last carried feature
    assert not is_carried(made)


def test_the_context_branch_never_reaches_carried_features() -> None:
    made = lite()
    optimizer = torch.optim.Adam(made.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        (made(torch.rand(1, 3, 8, 8)) * torch.rand(1, 3, 16, 16)).sum().backward()
        keep_carried(made)
        optimizer.step()
    joint = made.context[-1]
    assert isinstance(joint, torch.nn.Conv2d)
    assert not joint.weight[:48].any()
    assert not joint.bias[:48].any()  # pyright: ignore[reportOptionalSubscript]
    assert joint.weight[48:].any()
    assert is_carried(made)


@torch.no_grad()
def test_a_deep_level_grows_into_a_lite_network_without_a_change() -> None:
    smaller = lite()
    smaller.context[-1].weight[48:].normal_(std=0.1)  # pyright: ignore[reportArgumentType, reportIndexIssue]
    arguments = {"features": 8, "depth": 2, "scale": 2, "context_features": 8, "context_depth": 1}
    larger = Lite(**arguments, deep_features=6, deep_depth=2)
    grow(larger, smaller.state_dict())
    picture = torch.rand(2, 3, 13, 18)
    inside = (..., slice(8), slice(8))  # padded to multiples of 8 instead of 4
    assert torch.equal(larger(picture)[inside], smaller(picture)[inside])
    assert is_carried(larger)
    assert larger.deep[0].weight.std() > 0.05
    torch.nn.init.normal_(larger.deep[-1].weight, std=0.1)  # pyright: ignore[reportArgumentType]
    assert float((larger(picture) - smaller(picture)).abs().max()) > 1e-3
    apart = larger(picture) + CarriedPath(larger)(picture)
    fold(larger)
    assert torch.allclose(larger(picture), apart, atol=2e-6)
    for wrong in ({"context_depth": 2}, {"features": 9}):
        with pytest.raises(InputError, match=r"leaves all else as it is: '.*' differs"):
            grow(Lite(**{**arguments, **wrong}, deep_features=6, deep_depth=2), smaller.state_dict())


def start_of(result: TrainResult) -> Compact | Lite:
    loaded = load_network(result.weights)
    assert isinstance(loaded, Compact | Lite)
    return loaded


@pytest.mark.parametrize("chosen", [CARRY, LITE], ids=["compact", "lite"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_keeps_the_input_carried_and_resumes_bit_for_bit(
    tmp_path: Path, precision: str, chosen: tuple[str, ...]
) -> None:
    sets = (*chosen, f"run.precision={precision}", "log.every=1", "loss.pixel=log_mse", "loss.ssim_weight=1")
    whole = train(config(tmp_path, "run.name=whole", "run.steps=9", *sets), source=Blocks())
    train(config(tmp_path, "run.name=parts", "run.steps=9", "run.limit_s=0.000001", *sets), source=Blocks())
    resumed = train(config(tmp_path, "run.name=parts", "run.steps=9", *sets), source=Blocks(), resume=True)
    assert same(weights(whole), weights(resumed))
    assert is_carried(start_of(whole))


@pytest.mark.parametrize("network", [CARRY, LITE], ids=["compact", "lite"])
def test_every_reader_of_weights_gets_the_folded_network(tmp_path: Path, network: tuple[str, ...]) -> None:
    chosen = config(tmp_path, *network, "run.steps=2", "ema.decay=0", "optimizer.lr=1e-2")
    result = train(chosen, source=Blocks())
    again = Trainer(chosen, fabric_of(chosen))
    checkpoint = list_checkpoints(result.folder)[-1][1]
    again.load(torch.load(checkpoint, weights_only=True))
    assert again.carried_path is not None
    picture = torch.rand(1, 3, 12, 12)
    with torch.no_grad():
        apart = again.generator(picture) + again.carried_path(picture)
        for path in (result.weights, checkpoint):
            assert torch.allclose(load_network(path).eval()(picture), apart, atol=2e-6)


def test_a_second_stage_goes_on_from_folded_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = train(config(tmp_path, *CARRY, "run.steps=3"), source=Blocks())
    still = ("run.steps=1", "optimizer.lr=1e-12", f"model.start={first.folder}", *CARRY)
    second = train(config(tmp_path, "run.name=second", *still), source=Blocks())
    before, after = start_of(first).state_dict(), start_of(second).state_dict()
    assert all(torch.allclose(before[key], after[key], atol=1e-6) for key in before)
    assert is_carried(start_of(second))
    # Weights that do not carry their input are trained as they are, and the run says so.
    plain = train(config(tmp_path, "run.name=plain", "run.steps=2", "model.arguments.features=8"), source=Blocks())
    capsys.readouterr()
    third = train(
        config(tmp_path, "run.name=third", *still[:-3], f"model.start={plain.folder}", *CARRY), source=Blocks()
    )
    assert "model.carry has no effect" in capsys.readouterr().err
    before, after = start_of(plain).state_dict(), start_of(third).state_dict()
    assert all(torch.allclose(before[key], after[key], atol=1e-6) for key in before)


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        (["model.arguments.features=3"], "model.carry needs more than 3 features"),
        (["model.arguments.activation=silu"], "relu, leakyrelu or prelu"),
        (["model.arguments={depth=1, activation='relu', dilations=[1, 1, 2]}"], "without dilation, got 2"),
        (["model.network=rrdb", "model.arguments={}"], "is for the networks 'compact' and 'lite'"),
        (["optimizer.weight_decay=0.1"], "would move the carried rows"),
    ],
)
def test_what_cannot_be_carried_is_refused(tmp_path: Path, sets: list[str], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        train(config(tmp_path, "model.carry=true", *sets), source=Blocks())


def test_a_network_grows_from_a_shallower_one(tmp_path: Path) -> None:
    first = train(config(tmp_path, *CARRY, "run.steps=2"), source=Blocks())
    deeper = ("model.arguments.depth=4", "model.arguments.dilations=[1, 2, 1, 4, 1, 1]", "model.grow=true", *CARRY)
    still = ("run.steps=1", "optimizer.lr=1e-12", f"model.start={first.folder}")
    second = train(config(tmp_path, "run.name=second", *still, *deeper), source=Blocks())
    assert is_carried(start_of(second))
    picture = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        before, after = start_of(first).eval()(picture), start_of(second).eval()(picture)
    assert float((before - after).abs().mean()) < 0.02  # identities but for a little noise
    wrong = (*deeper[:1], "model.arguments.dilations=[1, 2, 1, 1, 1, 1]", *deeper[2:])
    with pytest.raises(InputError, match="cannot grow 4 convolutions to 6"):
        train(config(tmp_path, "run.name=third", *still, *wrong), source=Blocks())


def test_a_lite_network_grows_from_a_compact_one(tmp_path: Path) -> None:
    body = ("model.carry=true", f"model.arguments={{{BODY}, activation='relu'}}")
    first = train(config(tmp_path, *body, "run.steps=2"), source=Blocks())
    still = ("run.steps=1", "optimizer.lr=1e-12", f"model.start={first.folder}", *LITE)
    second = train(config(tmp_path, "run.name=second", *still, "model.grow=true"), source=Blocks())
    larger, smaller = start_of(second), start_of(first)
    assert isinstance(larger, Lite)
    assert is_carried(larger)
    assert larger.context[0].weight.any()
    picture = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(larger(picture), smaller(picture), atol=1e-6)
    # Its own weights are a start as those of any network, which growing is not for.
    third = ("run.name=third", "run.steps=1", f"model.start={second.folder}", *LITE)
    assert is_carried(start_of(train(config(tmp_path, *third), source=Blocks())))
    for sets, expected in (
        ((*third, "model.grow=true"), r"got 'context\.\d\.bias' besides"),
        ((*still, "model.grow=true", "model.arguments.depth=3"), "and 5 convolutions, got 4"),
    ):
        with pytest.raises(InputError, match=expected):
            train(config(tmp_path, *sets, "run.name=fourth"), source=Blocks())
    dilated = ("model.carry=true", "model.arguments={features=8, depth=2, activation='relu', dilations=[1, 2, 1, 1]}")
    wide = train(config(tmp_path, "run.name=wide", "run.steps=1", *dilated), source=Blocks())
    with pytest.raises(InputError, match="is dilated, which a Lite network is not"):
        train(
            config(tmp_path, *LITE, "run.name=fifth", "model.grow=true", f"model.start={wide.folder}"), source=Blocks()
        )
