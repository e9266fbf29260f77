"""The teacher: flips and their mean, its term of the loss, what fits and what does not, resuming."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from error_codes import raises_code
from test_train_loader import Blocks
from torch import nn

from apisr.networks import architecture
from apisr.train.build import build, build_fabric
from apisr.train.config import TrainConfig, load_config
from apisr.train.losses.pixel import PIXEL
from apisr.train.losses.teacher import Teacher, open_teacher, turned, turned_back
from apisr.train.trainer import train
from apisr.weights import resolve_model
from apisr.weights.checkpoint import load_network, save_network

SHIPPED = resolve_model("apisr-x2-fast").path


def config(folder: Path, *sets: str) -> TrainConfig:
    quiet = ["log.tensorboard=false", f"run.folder={folder}", "run.threads=1", "loss.target=gt", "log.every=1"]
    return load_config("tiny-test", sets=[*quiet, *sets])


def crops(seed: int = 0) -> torch.Tensor:
    return torch.rand(2, 3, 12, 16, generator=torch.Generator().manual_seed(seed))


def test_turning_back_undoes_turning_and_all_eight_differ() -> None:
    low = crops()[:, :, :, :12]
    made = [turned(low, number) for number in range(8)]
    for number, picture in enumerate(made):
        assert torch.equal(turned_back(picture, number), low)
        assert all(not torch.equal(picture, other) for other in made[:number])
    oblong = crops()
    assert torch.equal(turned_back(turned(oblong, 5), 5), oblong)
    assert turned(oblong, 5).shape == (2, 3, 16, 12)


def test_the_mean_of_flips_does_not_depend_on_how_the_crop_lies() -> None:
    network = load_network(SHIPPED)
    teacher, alone = Teacher(network, flips=True), Teacher(network)
    low = crops()
    wanted = torch.stack([turned_back(network(turned(low, number)), number) for number in range(8)]).mean(0)
    torch.testing.assert_close(teacher(low), wanted, rtol=0, atol=1e-6)
    for number in (1, 6):
        torch.testing.assert_close(teacher(turned(low, number)), turned(teacher(low), number), rtol=0, atol=1e-6)
        assert (alone(turned(low, number)) - turned(alone(low), number)).abs().max() > 1e-4


def test_it_is_frozen_and_in_float32() -> None:
    teacher = Teacher(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Dropout(0.5))).train()
    assert not any(module.training for module in teacher.modules())
    low = crops().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = teacher(low)
    assert output.dtype == torch.float32
    assert not output.requires_grad
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    network = load_network(SHIPPED)
    exact, light = Teacher(network)(low), Teacher(network, bf16=True)(low)
    assert light.dtype == torch.float32
    assert 1e-5 < (light - exact).abs().max() < 0.05


@pytest.mark.parametrize("kind", ["l1", "log_mse"])
def test_its_term_is_the_pixel_term_against_its_output(tmp_path: Path, kind: str) -> None:
    chosen = config(tmp_path, "teacher.init_from=apisr-x2-fast", "teacher.weight=0.7", f"loss.pixel={kind}")
    parts = build(chosen, build_fabric(chosen))
    low = crops()
    batch = {"lr": low, "gt": crops(1).repeat(1, 1, 2, 2), "pseudo": crops(2).repeat(1, 1, 2, 2)}
    output = crops(3).repeat(1, 1, 2, 2).requires_grad_()
    terms = parts.loss(output, batch)
    taught = PIXEL[kind](output, load_network(SHIPPED)(low).detach()).detach()
    assert terms["teacher"].item() == pytest.approx(taught.item(), rel=1e-6)
    assert terms["total"].item() == pytest.approx((terms[kind] + 0.7 * taught).item(), rel=1e-6)
    terms["teacher"].backward()
    assert output.grad is not None
    assert float(output.grad.abs().sum()) > 0


def test_a_run_comes_nearer_to_its_teacher_and_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    sets = ["teacher.init_from=apisr-x2-fast", "loss.pixel_weight=0", "optimizer.lr=1e-2", "ema.decay=0.5"]
    whole = train(config(tmp_path, "run.name=whole", "run.steps=80", *sets), source=Blocks())
    lines = [json.loads(line) for line in (whole.folder / "metrics.jsonl").read_text().splitlines()]
    taught = [line["loss_teacher"] for line in lines if line["kind"] == "train"]
    assert sum(taught[-5:]) < 0.85 * sum(taught[:5])
    parts = ["run.name=parts", "run.steps=80", *sets]
    assert train(config(tmp_path, *parts, "run.max_seconds=0.000001"), source=Blocks()).step < 80
    resumed = train(config(tmp_path, *parts), source=Blocks(), resume=True)
    first, second = load_network(whole.weights).state_dict(), load_network(resumed.weights).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_network_that_equals_its_teacher_has_nothing_to_learn_of_it(tmp_path: Path) -> None:
    chosen = config(tmp_path, "run.steps=1")
    network = architecture(chosen.model.network)
    hyper = {**chosen.model.arguments, "scale": chosen.model.scale}
    torch.manual_seed(3)
    save_network(network.build(hyper), tmp_path / "same.safetensors", network.name, hyper, card={"name": "same"})
    sets = [f"model.init_from={tmp_path / 'same.safetensors'}", f"teacher.init_from={tmp_path / 'same.safetensors'}"]
    parts = build(config(tmp_path, *sets), build_fabric(chosen))
    low = crops()
    output = parts.generator.module(low)
    terms = parts.loss(output, {"lr": low, "gt": torch.zeros_like(output)})
    assert terms["teacher"].item() < 1e-6 < terms["l1"].item()


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with raises_code("other-scale"):
        open_teacher(resolve_model("apisr-x4-fast").path, scale=2)
    with raises_code("no-weights"):
        train(config(tmp_path, "teacher.init_from=nobody"), source=Blocks())
    discriminator = architecture("patch_multiscale")
    save_network(
        discriminator.build({}), tmp_path / "other.safetensors", discriminator.name, {}, card={"name": "other"}
    )
    with raises_code("not-an-upscaler"):
        open_teacher(tmp_path / "other.safetensors", scale=2)


def test_resuming_with_another_teacher_is_refused(tmp_path: Path) -> None:
    train(config(tmp_path, "run.steps=2", "teacher.init_from=apisr-x2-fast"), source=Blocks())
    with raises_code("other-settings"):
        train(config(tmp_path, "run.steps=3", "teacher.init_from=apisr-x2-fast-vivid"), source=Blocks(), resume=True)
