"""The loop: resuming bit for bit, stopping, accumulation, precision, validation."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import struct
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from error_codes import raises_code
from test_train_loader import Blocks

from apisr import metrics
from apisr.core.progress import Progress
from apisr.curate.manifest import Row, write_manifest
from apisr.image import read_rgb, write_picture
from apisr.networks import architecture
from apisr.train.build import build, build_fabric
from apisr.train.checkpoint import list_checkpoints, load_checkpoint
from apisr.train.config import TrainConfig, load_config
from apisr.train.data.loader import on_device
from apisr.train.data.pictures import find_training_pictures
from apisr.train.ema import Ema
from apisr.train.init import build_generator
from apisr.train.init.weights import find_weights
from apisr.train.precision import ScaledPrecision
from apisr.train.trainer import Trainer, TrainResult, train
from apisr.train.validate import Validator, enlarge
from apisr.weights.checkpoint import load_network, load_state


def config(folder: Path, *sets: str) -> TrainConfig:
    quiet = ["log.tensorboard=false", f"run.folder={folder}", "run.threads=1", "loss.target=gt"]
    return load_config("tiny-test", sets=[*quiet, *sets])


def trainer_of(chosen: TrainConfig) -> Trainer:
    traits = architecture(chosen.model.network).traits({**chosen.model.arguments, "scale": chosen.model.scale})
    validator = Validator(chosen.validation, scale=chosen.model.scale, multiple_px=traits.multiple_px)
    return Trainer(chosen, build(chosen, build_fabric(chosen)), validator)


def weights(result: TrainResult) -> dict[str, torch.Tensor]:
    state = load_checkpoint(list_checkpoints(result.folder)[-1][1])
    return {f"{part}.{key}": value for part in ("ema", "generator") for key, value in state[part].items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def gradients(result: TrainResult) -> list[torch.Tensor]:
    """The gradients of the first step: Adam's running mean starts at (1 - beta) times them."""
    state = load_checkpoint(list_checkpoints(result.folder)[-1][1])
    assert state["step"] == 1
    return [entry["exp_avg"] / 0.1 for _, entry in sorted(state["optimizer"]["state"].items())]


def records(folder: Path, kind: str) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["kind"] == kind]


# --- the loop --------------------------------------------------------------------------------------------------------


def test_learns_and_leaves_a_model(tmp_path: Path) -> None:
    result = train(config(tmp_path, "run.steps=60", "ema.decay=0.5", "optimizer.lr=3e-3"), source=Blocks())
    lines = records(result.folder, "train")
    assert result.complete
    assert lines[-1]["step"] == 60
    assert lines[-1]["loss_l1"] < 0.5 * lines[0]["loss_l1"]
    assert {"lr", "grad_norm", "it_per_s", "samples_per_s", "waiting_share", "memory_mib"} <= lines[0].keys()
    module = load_network(result.weights)
    low = Blocks().crops(0, 0)[0]["lr"].permute(1, 2, 0).numpy()
    assert enlarge(module, low, scale=2, multiple_px=1, device=torch.device("cpu")).shape == (32, 32, 3)
    environment = json.loads((result.folder / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__
    assert load_config(result.folder / "config.toml").run.steps == 60


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_weights_have_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        result = train(config(tmp_path, "run.steps=1"), source=Blocks())
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in result.folder.rglob("*") if path.is_file()} == {0o640}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_resume_is_bit_exact(tmp_path: Path, precision: str) -> None:
    sets = (f"run.precision={precision}", "log.every=1", "data.shuffle_crops=10", "schedule.kind=cosine")
    whole = train(config(tmp_path, "run.name=whole", "run.steps=14", *sets), source=Blocks())
    parts = config(tmp_path, "run.name=parts", "run.steps=14", "checkpoint.every=5", "run.max_seconds=0.000001", *sets)
    stopped = train(parts, source=Blocks())
    assert not stopped.complete
    assert stopped.step == 1
    go_on = config(tmp_path, "run.name=parts", "run.steps=14", "checkpoint.every=5", *sets)
    resumed = train(go_on, source=Blocks(), resume=True)
    assert same(weights(whole), weights(resumed))
    curve = [(line["step"], line["loss_total"]) for line in records(whole.folder, "train")]
    assert curve == [(line["step"], line["loss_total"]) for line in records(resumed.folder, "train")]
    assert [step for step, _ in curve] == list(range(1, 15))


def test_records_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    first = train(config(tmp_path, "run.steps=10", "log.every=1"), source=Blocks())
    with (first.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 11, "kind": "train", "loss_total": 1}\n{"step": 12, "ki')  # as a killed process leaves it
    (first.folder / "checkpoints" / "step-00000015.partial.pt").write_bytes(b"half")
    train(config(tmp_path, "run.steps=12", "log.every=1"), source=Blocks(), resume=True)
    assert [line["step"] for line in records(first.folder, "train")] == list(range(1, 13))
    assert not list((first.folder / "checkpoints").glob("*.partial.pt"))


def test_last_checkpoints_are_kept(tmp_path: Path) -> None:
    result = train(config(tmp_path, "run.steps=9", "checkpoint.every=2", "checkpoint.keep=2"), source=Blocks())
    assert [step for step, _ in list_checkpoints(result.folder)] == [8, 9]


def test_a_run_is_not_overwritten_nor_continued_differently(tmp_path: Path) -> None:
    train(config(tmp_path, "run.steps=2"), source=Blocks())
    with raises_code("run-exists"):
        train(config(tmp_path, "run.steps=3"), source=Blocks())
    with raises_code("other-settings"):
        train(config(tmp_path, "run.steps=3", "optimizer.lr=2e-3"), source=Blocks(), resume=True)


def flip_a_bit(path: Path) -> None:
    """Change one bit in the middle of the largest array of a checkpoint."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    content[largest.header_offset + 64 + largest.file_size // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("keep", [1, 3])
@pytest.mark.parametrize("damage", [flip_a_bit, cut, empty])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, damage: Callable[[Path], None], keep: int) -> None:
    sets = ("checkpoint.every=3", "log.every=1", f"checkpoint.keep={keep}")
    whole = train(config(tmp_path, "run.name=whole", "run.steps=9", *sets), source=Blocks())
    parts = config(tmp_path, "run.name=parts", "run.steps=7", "checkpoint.every=3", "log.every=1", "checkpoint.keep=3")
    folder = train(parts, source=Blocks()).folder
    names = [path.name for _, path in list_checkpoints(folder)]
    assert names == ["step-00000003.pt", "step-00000006.pt", "step-00000007.pt"]
    damage(folder / "checkpoints" / "step-00000007.pt")
    damage(folder / "checkpoints" / "step-00000006.pt")
    lines: list[str] = []
    again = train(
        config(tmp_path, "run.name=parts", "run.steps=9", *sets),
        source=Blocks(),
        resume=True,
        progress=lambda event: lines.append(event.message) if event.kind == "notice" else None,
    )
    said = [line for line in lines if ".damaged" in line]
    assert len(said) == 2
    assert all("goes on from step 3" in line for line in said)
    assert same(weights(whole), weights(again))
    assert [line["step"] for line in records(folder, "train")] == list(range(1, 10))
    kept = sorted(path.name for path in (folder / "checkpoints").iterdir())
    damaged = ["step-00000006.damaged", "step-00000007.damaged"]
    assert kept == sorted([*damaged, *(path.name for _, path in list_checkpoints(whole.folder))])


def test_where_every_checkpoint_is_damaged_the_way_out_is_said_and_works(tmp_path: Path) -> None:
    chosen = config(tmp_path, "run.steps=4", "checkpoint.every=2")
    folder = train(chosen, source=Blocks()).folder
    for _, path in list_checkpoints(folder):
        cut(path)
    with raises_code("damaged-checkpoint") as caught:
        train(config(tmp_path, "run.steps=6"), source=Blocks(), resume=True)
    options = [part.strip(" '.") for part in str(caught.value).split("--set")[1:]]
    assert len(options) == 2
    after = config(tmp_path, "run.steps=2", *(text.replace("'", "") for text in options))
    assert train(after, source=Blocks()).complete


@pytest.mark.parametrize("part", ["scalers", "ema_updates", "step", "loss_mean", "best", "optimizer"])
def test_a_checkpoint_without_a_part_is_refused(tmp_path: Path, part: str) -> None:
    path = list_checkpoints(train(config(tmp_path, "run.steps=2"), source=Blocks()).folder)[-1][1]
    state = load_checkpoint(path)
    del state[part]
    torch.save(state, path)
    with raises_code("weights-do-not-fit"):
        train(config(tmp_path, "run.steps=3"), source=Blocks(), resume=True)


def test_weights_are_those_of_the_checkpoint_also_where_a_kill_came_between(tmp_path: Path) -> None:
    first = train(config(tmp_path, "run.steps=2"), source=Blocks()).weights
    before, early = first.read_bytes(), load_state(first)[0]
    after = train(config(tmp_path, "run.steps=4"), source=Blocks(), resume=True)
    expected = load_state(after.weights)[0]
    assert not same(expected, early)
    for left in (before, b"", None):  # what a kill leaves between the checkpoint and the weights
        after.weights.unlink()
        if left is not None:
            after.weights.write_bytes(left)
        again = train(config(tmp_path, "run.steps=4"), source=Blocks(), resume=True)
        assert again.complete
        assert same(load_state(again.weights)[0], expected)


def test_two_runs_never_share_a_folder(tmp_path: Path) -> None:
    chosen = config(tmp_path, "run.steps=3", "run.name=shared", "log.every=1")
    inside: list[str] = []

    def second(event: Progress) -> None:
        if event.kind == "advanced" and not inside:
            with raises_code("run-busy"):
                train(chosen, source=Blocks())
            inside.append(event.message)

    result = train(chosen, source=Blocks(), progress=second)
    assert inside
    assert result.complete
    with raises_code("run-exists"):
        train(chosen, source=Blocks())


def test_a_damaged_log_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    folder = train(config(tmp_path, "run.steps=2", "log.every=1"), source=Blocks()).folder
    with (folder / "metrics.jsonl").open("ab") as file:
        file.write(b"\xff\xfe\x00 not text\n" + b"[" * 9000 + b"\n")
    train(config(tmp_path, "run.steps=4", "log.every=1"), source=Blocks(), resume=True)
    assert [line["step"] for line in records(folder, "train")] == [1, 2, 3, 4]


def test_starts_from_another_run(tmp_path: Path) -> None:
    first = train(config(tmp_path, "run.steps=3"), source=Blocks())
    second = train(
        config(tmp_path, "run.name=second", "run.steps=1", f"model.init_from={first.folder}", "optimizer.lr=1e-12"),
        source=Blocks(),
    )
    before, after = load_network(first.weights).state_dict(), load_network(second.weights).state_dict()
    assert all(torch.allclose(before[key], after[key], atol=1e-6) for key in before)
    assert find_weights(Path("apisr-x2-fast")).name == "apisr-x2-fast.onnx"
    with raises_code("no-weights"):
        train(config(tmp_path, "run.name=third", f"model.init_from={tmp_path / 'nothing'}"), source=Blocks())
    with raises_code("weights-do-not-fit"):
        train(
            config(tmp_path, "run.name=4", f"model.init_from={first.folder}", "model.arguments.depth=3"),
            source=Blocks(),
        )


def test_not_a_number_stops_with_the_batch(tmp_path: Path) -> None:
    chosen = config(tmp_path, "run.steps=20", "data.shuffle_crops=0", "data.batch=4")
    with raises_code("loss-not-finite"):
        train(chosen, source=Blocks(spoiled_epoch=1, spoil=math.nan))
    saved = torch.load(next(chosen.run_folder.glob("bad-step-*.pt")), weights_only=True)
    assert torch.isnan(saved["batch"]["lr"]).all()
    assert saved["batch"]["gt"].shape == (4, 3, 32, 32)
    assert math.isnan(saved["losses"]["total"])


def test_divergence_stops(tmp_path: Path) -> None:
    chosen = config(
        tmp_path, "run.steps=200", "data.shuffle_crops=0", "divergence_guard.after=3", "divergence_guard.factor=10"
    )
    with raises_code("loss-diverges"):
        train(chosen, source=Blocks(spoiled_epoch=1, spoil=1000.0))
    assert len(list(chosen.run_folder.glob("bad-step-*.pt"))) == 1


def test_accumulating_equals_a_larger_batch(tmp_path: Path) -> None:
    sets = ("run.steps=1", "data.shuffle_crops=0", "ema.decay=0")
    large = train(config(tmp_path, "run.name=large", "data.batch=8", *sets), source=Blocks())
    small = train(config(tmp_path, "run.name=small", "data.batch=2", "optimizer.accumulate=4", *sets), source=Blocks())
    for one, other in zip(gradients(large), gradients(small), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)
    assert large.losses["l1"] == pytest.approx(small.losses["l1"], rel=1e-6)


def test_clipping_shortens_the_gradient(tmp_path: Path) -> None:
    sets = ("run.steps=1", "data.shuffle_crops=0")
    free = train(config(tmp_path, "run.name=free", *sets), source=Blocks())
    clipped = train(config(tmp_path, "run.name=clipped", "optimizer.clip_norm=0.01", *sets), source=Blocks())
    norm = torch.cat([value.flatten() for value in gradients(clipped)]).norm()
    assert float(norm) == pytest.approx(0.01, rel=1e-3)
    assert records(clipped.folder, "train")[0]["grad_norm"] == pytest.approx(
        float(torch.cat([value.flatten() for value in gradients(free)]).norm()), rel=1e-4
    )


def test_target_is_the_pseudo_gt(tmp_path: Path) -> None:
    """Blocks' pseudo-GT has the colours in another order: training towards it is another loss."""
    sets = ("run.steps=1", "data.shuffle_crops=0")
    pseudo = train(config(tmp_path, "run.name=pseudo", "loss.target=pseudo", *sets), source=Blocks())
    plain = train(config(tmp_path, "run.name=plain", *sets), source=Blocks())
    assert pseudo.losses["l1"] > 1.5 * plain.losses["l1"]


def test_validation_scores_full_pictures(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        high = np.kron(random.integers(0, 256, (24, 31, 3)), np.ones((4, 4, 1))).astype(np.uint8)
        write_picture(tmp_path / "high" / f"{name}.png", high)
        write_picture(tmp_path / "low" / f"{name}.png", np.ascontiguousarray(high[::2, ::2]))
    chosen = config(tmp_path, "run.steps=20", "validation.every=10", 'validation.metrics=["psnr", "ssim", "niqe"]')
    values = chosen.model_dump()
    values["validation"]["pairs"] = [{"name": "set", "low": tmp_path / "low", "high": tmp_path / "high"}]
    result = train(TrainConfig.model_validate(values), source=Blocks())
    lines = records(result.folder, "validation")
    assert [line["step"] for line in lines] == [10, 20]
    assert result.best is not None
    module = load_network(result.best if lines[1]["psnr"] >= lines[0]["psnr"] else result.weights)
    expected = np.mean(
        [
            metrics.psnr(
                enlarge(
                    module,
                    read_rgb(tmp_path / "low" / f"{name}.png"),
                    scale=2,
                    multiple_px=1,
                    device=torch.device("cpu"),
                ),
                read_rgb(tmp_path / "high" / f"{name}.png"),
                border_px=8,
            )
            for name in ("a", "b")
        ]
    )
    assert result.scores["set/psnr"] == pytest.approx(float(expected), abs=1e-6)
    panel = read_rgb(result.folder / "panels" / "step-00000020-set-a.png")
    assert panel.shape == (96, 3 * 124, 3)
    assert np.array_equal(panel[:, -124:], read_rgb(tmp_path / "high" / "a.png"))


@pytest.mark.parametrize("low", ["c", "", "a"], ids=["without a partner", "without pictures", "of another size"])
def test_bad_validation_sets(tmp_path: Path, low: str) -> None:
    (tmp_path / "low").mkdir()
    write_picture(tmp_path / "high" / "a.png", np.zeros((32, 32, 3), np.uint8))
    if low:
        write_picture(tmp_path / "low" / f"{low}.png", np.zeros((15, 16, 3), np.uint8))
    values = config(tmp_path, "run.steps=1").model_dump()
    values["validation"]["pairs"] = [{"name": "set", "low": tmp_path / "low", "high": tmp_path / "high"}]
    with raises_code("bad-validation-set"):
        train(TrainConfig.model_validate(values), source=Blocks())


def test_mean_of_weights() -> None:
    layer = torch.nn.Linear(2, 2)
    ema = Ema(layer, decay=0.9)
    start = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.add_(1)
    ema.update(layer)  # decay min(0.9, 1/10)
    torch.testing.assert_close(ema.module.weight, start + 0.9)
    for _ in range(200):
        ema.update(layer)
    torch.testing.assert_close(ema.module.weight, layer.weight.detach())


# --- stage 2 ---------------------------------------------------------------------------------------------------------

ADVERSARIAL = (
    "run.steps=3",
    "data.shuffle_crops=0",
    "loss.adversarial_weight=0.2",
    "discriminator.arguments.features=4",
    "data.patch_px=96",
)


@pytest.mark.parametrize(
    ("network", "kind", "precision"),
    [("patch_multiscale", "lsgan", "fp32"), ("patch_multiscale", "lsgan", "bf16"), ("unet_sn", "vanilla", "loss")],
)
def test_adversarial_training_resumes_bit_for_bit(tmp_path: Path, network: str, kind: str, precision: str) -> None:
    source = Blocks(side=96)
    sets = (
        *ADVERSARIAL,
        f"discriminator.network={network}",
        f"discriminator.loss={kind}",
        "loss.precision=bf16" if precision == "loss" else f"run.precision={precision}",
        "log.every=1",
    )
    whole = train(config(tmp_path, "run.name=whole", *sets), source=source)
    train(config(tmp_path, "run.name=parts", *sets, "run.max_seconds=0.000001"), source=source)
    parts = train(config(tmp_path, "run.name=parts", *sets), source=source, resume=True)
    assert same(weights(whole), weights(parts))
    assert {"total", "l1", "adversarial", "d_real", "d_fake"} == whole.losses.keys()
    first, second = (load_checkpoint(list_checkpoints(run.folder)[-1][1]) for run in (whole, parts))
    assert same(first["discriminator"], second["discriminator"])
    fresh = trainer_of(config(tmp_path, *sets)).parts.discriminator
    assert fresh is not None
    start = fresh.module.state_dict()
    assert any(not torch.equal(start[key], first["discriminator"][key]) for key in start if key.endswith("weight_orig"))


def test_a_slice_goes_on_from_its_compacted_checkpoint(tmp_path: Path, script: Callable[[str], ModuleType]) -> None:
    """scripts/pack_slice.py sends the discriminator in 16 bits and without first moments; all else exactly."""
    first = train(config(tmp_path, *ADVERSARIAL), source=Blocks(side=96))
    path = list_checkpoints(first.folder)[-1][1]
    whole, size = load_checkpoint(path), path.stat().st_size
    torch.save(script("pack_slice").compacted(whole), path)
    small = load_checkpoint(path)
    assert path.stat().st_size < 0.75 * size
    assert same(whole["generator"], small["generator"])
    assert same(whole["ema"], small["ema"])
    for key, value in whole["discriminator"].items():
        torch.testing.assert_close(small["discriminator"][key].float(), value, rtol=1e-3, atol=1e-6)
    second = train(config(tmp_path, *ADVERSARIAL, "run.steps=5"), source=Blocks(side=96), resume=True)
    assert second.step == 5
    assert math.isfinite(second.losses["total"])


def test_crops_too_small_for_the_discriminator(tmp_path: Path) -> None:
    with raises_code("crop-too-small"):
        train(config(tmp_path, *ADVERSARIAL, "data.patch_px=32"), source=Blocks())


def test_fp16_has_a_scaler_for_each_optimiser(tmp_path: Path) -> None:
    result = train(config(tmp_path, *ADVERSARIAL, "run.precision=fp16"), source=Blocks(side=96))
    state = load_checkpoint(list_checkpoints(result.folder)[-1][1])
    assert state["scalers"].keys() == {"generator", "discriminator"}
    assert all(scaler["_growth_tracker"] + (scaler["scale"] < 65536.0) > 0 for scaler in state["scalers"].values())
    chosen = config(tmp_path, *ADVERSARIAL, "run.precision=fp16")
    precision = trainer_of(chosen).fabric.strategy.precision
    assert isinstance(precision, ScaledPrecision)
    precision.load_state_dict({**state["scalers"], "generator": {**state["scalers"]["generator"], "scale": 2.0}})
    assert precision.scalers["generator"].get_scale() == 2.0
    assert precision.scalers["discriminator"].get_scale() == state["scalers"]["discriminator"]["scale"] > 2.0
    for name in ("generator", "discriminator"):
        precision.use(name)
        assert precision.scaler is precision.scalers[name]


def test_the_generator_feels_every_term_and_the_discriminator_only_its_own(tmp_path: Path) -> None:
    """Equation 4: the total is the weighted sum; its gradient reaches the generator and not the discriminator."""
    more = {"ms_ssim": 0.3, "frequency": 0.1, "chroma": 0.5, "grid": 0.4}
    chosen = config(tmp_path, *ADVERSARIAL, *(f"loss.{name}_weight={weight}" for name, weight in more.items()))
    parts = build(chosen, build_fabric(chosen))
    crops = Blocks(side=96).crops(0, 0)
    batch = on_device({key: torch.stack([crop[key] for crop in crops]) for key in crops[0]}, torch.device("cpu"))
    assert parts.discriminator is not None
    parts.discriminator.module.requires_grad_(False)
    terms = parts.loss(parts.generator.module(batch["lr"]), batch)
    expected = terms["l1"] + 0.2 * terms["adversarial"] + sum(more[name] * terms[name] for name in more)
    assert float(terms["total"].detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    first = next(parts.generator.module.parameters())
    for name in ("l1", "adversarial", *more):
        (gradient,) = torch.autograd.grad(terms[name], first, retain_graph=True)
        assert float(gradient.norm()) > 0, name
    terms["total"].backward()
    assert all(value.grad is None for value in parts.discriminator.module.parameters())


@pytest.mark.parametrize(
    ("preset", "parameters"),
    [
        ("paper-stage1", 1_027_939),  # as counted in the reference implementation
        ("paper-stage2", 1_027_939),
        ("rrdb", None),
        ("dat", None),
        ("apisr-x2-fast", None),
        ("apisr-x4-fast", None),
    ],
)
def test_presets_build_their_networks(preset: str, parameters: int | None) -> None:
    chosen = load_config(preset)
    module = build_generator(chosen.model, load=False).eval()
    count = sum(value.numel() for value in module.parameters())
    assert parameters is None or count == parameters
    with torch.inference_mode():
        side = 16 * chosen.model.scale
        assert module(torch.zeros(1, 3, 16, 16)).shape == (1, 3, side, side)


def test_only_accepted_pictures_of_a_dataset(tmp_path: Path) -> None:
    rows = [
        Row(id=name, source="a.mkv", source_sha256="0" * 64, file=f"pictures/{name}.png", decision=decision)
        for name, decision in (("one", "accept"), ("two", "reject"), ("three", "review"), ("four", "accept"))
    ]
    write_manifest(tmp_path, rows)
    assert {path.name for path in find_training_pictures([tmp_path])} == {"one.png", "four.png"}
    write_manifest(tmp_path, rows[1:3])
    with raises_code("nothing-accepted"):
        find_training_pictures([tmp_path])


def test_tensorboard(tmp_path: Path) -> None:
    result = train(config(tmp_path, "run.steps=2", "log.tensorboard=true", "log.every=1"), source=Blocks())
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(result.folder / "tensorboard"))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("train/loss_l1")]
    assert found == [
        (line["step"], pytest.approx(line["loss_l1"], rel=1e-5)) for line in records(result.folder, "train")
    ]


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="the package wandb is installed")
def test_wandb_absent_is_said(tmp_path: Path) -> None:
    with raises_code("missing-extra"):
        train(config(tmp_path, "run.steps=2", "log.wandb=true"), source=Blocks())


def journal(data: bytes) -> list[bytes]:
    """Records of a log in LevelDB's format (blocks of 32 KiB; checksum, length, kind) behind a header of 7 bytes."""
    found: list[bytes] = []
    at, whole = 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        piece = data[at + 7 : at + 7 + length]
        at += 7 + length
        whole = piece if kind in (1, 2) else whole + piece
        if kind in (1, 4):
            found.append(whole)
    return found


def wandb_records(folder: Path) -> tuple[list[str], list[dict[str, object]]]:
    """Identities of the runs recorded offline under `folder`, and what they logged, oldest first."""
    from wandb.proto import wandb_internal_pb2  # pyright: ignore[reportMissingImports]

    names: list[str] = []
    rows: list[dict[str, object]] = []
    for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        for data in journal(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "run":
                names.append(record.run.run_id)
            if record.WhichOneof("record_type") == "history":
                rows.append({"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item})
    return names, rows


def test_wandb_offline_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    asked = ("log.wandb=true", "log.every=1", "checkpoint.every=1")
    result = train(config(tmp_path, "run.steps=2", *asked), source=Blocks())
    time.sleep(1.1)  # the folders of their runs are named by the second
    train(config(tmp_path, "run.steps=3", *asked), source=Blocks(), resume=True)
    for _ in range(100):  # another process of theirs writes, and is a little behind
        names, rows = wandb_records(result.folder)
        if len(rows) >= 3:
            break
        time.sleep(0.2)
    assert len(names) == 2
    assert names[0] == names[1]  # the resumed process continued the first one's run
    logged = [(row["step"], row["train/loss_l1"]) for row in rows if "train/loss_l1" in row]
    assert logged == [
        (line["step"], pytest.approx(line["loss_l1"], rel=1e-5)) for line in records(result.folder, "train")
    ]
    assert [step for step, _ in logged] == [1, 2, 3]


def test_relative_mse_needs_crops_that_know_their_picture(tmp_path: Path) -> None:
    with raises_code("no-bilinear-error"):
        train(config(tmp_path, "loss.pixel=relative_mse", "run.steps=1"), source=Blocks())
