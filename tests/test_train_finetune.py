"""Training on one's own drawings: held-out pictures, the start as the bar, what is said and refused beforehand."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.filters
import torch
from error_codes import raises_code
from test_train_loader import Blocks
from test_train_run import config

import apisr
from apisr.core.progress import Cancel, Progress
from apisr.image import read_rgb, write_picture
from apisr.train import check_extra, preflight
from apisr.train.build import build, build_fabric
from apisr.train.config import TrainConfig, load_config
from apisr.train.data.crops import CropOptions
from apisr.train.data.degradation import Mixture
from apisr.train.data.holdout import hold_out
from apisr.train.data.pictures import FilePictures, find_training_pictures
from apisr.train.data.prepare import ShardRequest, prepare_shards
from apisr.train.data.shards import ShardCrops, ShardOptions, build_shards
from apisr.train.data.sources import DegradedCrops
from apisr.train.init import resolve_model_config
from apisr.train.trainer import TrainResult, train
from apisr.train.validate import enlarge
from apisr.weights import resolve_model
from apisr.weights.checkpoint import load_network


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six drawings of several sizes."""
    folder = tmp_path_factory.mktemp("drawings")
    for number in range(6):
        random = np.random.default_rng(number)
        picture = np.full((96 + 8 * number, 128, 3), 220, np.uint8)
        for _ in range(12):
            first, second = (tuple(int(value) for value in random.integers(0, 128, 2)) for _ in range(2))
            cv2.line(picture, first, second, random.integers(0, 200, 3).tolist(), 2, cv2.LINE_AA)
        write_picture(folder / f"{number}.png", picture)
    return folder


def finetune(folder: Path, drawings: Path, *sets: str) -> TrainConfig:
    small = ["run.steps=2", "data.patch_px=32", "data.batch=2", "data.workers=0", "data.degradation=bicubic"]
    quiet = [f"run.folder={folder}", "run.threads=1", "log.tensorboard=false", "run.accelerator=cpu"]
    return load_config("finetune-x2", sets=[*small, *quiet, f'data.folders=["{drawings}"]', "log.every=1", *sets])


def notices(chosen: TrainConfig, **options: object) -> tuple[TrainResult, list[str]]:
    events: list[Progress] = []
    result = train(chosen, progress=events.append, **options)  # type: ignore[arg-type]
    return result, [event.message for event in events if event.kind == "notice"]


# --- what is held out ------------------------------------------------------------------------------------------------


def test_held_out_pictures_are_not_trained_on(tmp_path: Path, drawings: Path) -> None:
    chosen = finetune(tmp_path, drawings, "data.holdout=0.34")
    paths = find_training_pictures([drawings])
    source = DegradedCrops(FilePictures(paths), CropOptions(scale=2, patch_px=32), "bicubic")
    rest, pairs = hold_out(source, chosen)
    assert isinstance(rest, DegradedCrops)
    assert isinstance(rest.pictures, FilePictures)
    assert len(rest) == 4
    assert len(pairs) == 2
    kept = {read_rgb(path).tobytes() for path in rest.pictures.paths}
    for pair, (_, again) in zip(pairs, ((None, other) for other in hold_out(source, chosen)[1]), strict=True):
        low, high = pair.read()
        assert high.tobytes() not in kept
        assert high.shape[:2] == (2 * low.shape[0], 2 * low.shape[1])
        assert np.array_equal(low, again.read()[0])
    with raises_code("no-holdout"):
        hold_out(DegradedCrops(FilePictures(paths[:1]), CropOptions(scale=2), "bicubic"), chosen)


def test_held_out_shards_are_not_trained_on(tmp_path: Path, drawings: Path) -> None:
    pictures = FilePictures(find_training_pictures([drawings]))
    mixtures = {name: Mixture.parse("bicubic", scale=2) for name in ("clean", "web")}
    assert build_shards(tmp_path / "shards", pictures, mixtures, ShardOptions(scale=2)) == 6
    source = ShardCrops.open(tmp_path / "shards", CropOptions(scale=2, patch_px=32), sampling_weights={"clean": 1.0})
    rest, pairs = hold_out(source, finetune(tmp_path, drawings, "data.holdout=0.34"))
    assert isinstance(rest, ShardCrops)
    assert len(rest.high_numbers()) == 4
    assert len(pairs) == 2  # of the degradation that is drawn
    assert not {pair.name.rsplit("_", 1)[1] for pair in pairs} & set(rest.high_numbers())


# --- the start is the bar --------------------------------------------------------------------------------------------


def test_the_presets_start_from_shipped_models() -> None:
    for scale in (2, 4):
        chosen = load_config(f"finetune-x{scale}")
        model = resolve_model_config(chosen.model)
        assert model.network == resolve_model(str(chosen.model.init_from)).architecture
        assert model.residual_path
        assert chosen.data.holdout == 0.1
    with raises_code("other-scale"):
        resolve_model_config(chosen.model.model_copy(update={"scale": 2}))


def test_a_run_that_does_harm_keeps_the_start_and_says_so(tmp_path: Path, drawings: Path) -> None:
    chosen = finetune(tmp_path, drawings, "optimizer.lr=0.01", "schedule.warmup=0", "ema.decay=0")
    result, said = notices(chosen)
    assert result.best_step == 0
    assert result.best is not None
    lines = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    scores = {line["step"]: line["psnr"] for line in lines if line["kind"] == "validation"}
    assert scores[0] > scores[2]
    assert any("no step was better than the start" in text for text in said)
    start = resolve_model(str(chosen.model.init_from)).path
    low = read_rgb(drawings / "0.png")[:32, :32]
    shown = [
        enlarge(load_network(path), low, scale=2, multiple_px=1, device=torch.device("cpu"))
        for path in (start, result.best)
    ]
    assert int(np.abs(shown[0].astype(int) - shown[1]).max()) <= 1  # the residual path was fused again
    assert resolve_model(result.folder).path == result.best  # a run's folder is a model
    resumed = train(finetune(tmp_path, drawings, "run.steps=3", *SAME), resume=True)
    assert resumed.best_step == 0


SAME = ("optimizer.lr=0.01", "schedule.warmup=0", "ema.decay=0")


# --- what is said and refused beforehand -----------------------------------------------------------------------------


def test_the_run_says_what_it_will_do(tmp_path: Path, drawings: Path) -> None:
    _, said = notices(finetune(tmp_path, drawings))
    text = "\n".join(said)
    for expected in (
        "compact x2",
        "apisr-x2-fast",
        "the processor",
        "5 in an epoch",
        "1 picture every",
        "GB of memory",
    ):
        assert expected in text


@pytest.mark.parametrize("too_much", ["run.steps=1000000000000", "data.batch=100000000"])
def test_what_cannot_fit_is_refused(tmp_path: Path, too_much: str) -> None:
    chosen = config(tmp_path, "run.accelerator=cpu", too_much)
    with raises_code("does-not-fit"):
        train(chosen, source=Blocks())
    assert not chosen.run_folder.exists()


def test_anyway_begins_all_the_same(tmp_path: Path) -> None:
    cancel = Cancel()
    cancel.request()
    chosen = config(tmp_path, "run.accelerator=cpu", "run.steps=1000000000000")
    result = train(chosen, source=Blocks(), anyway=True, cancel=cancel)
    assert (result.step, result.complete) == (1, False)


def test_measuring_changes_nothing(tmp_path: Path) -> None:
    sets = ("loss.adversarial_weight=0.2", "discriminator.network=unet_sn", "discriminator.arguments.features=4")
    chosen = config(tmp_path, "data.patch_px=96", *sets)
    parts = build(chosen, build_fabric(chosen))
    assert parts.discriminator is not None
    modules = [parts.generator.module, parts.discriminator.module]
    before = [{key: value.clone() for key, value in module.state_dict().items()} for module in modules]
    state = torch.get_rng_state()
    expected = preflight.expect(chosen, parts, Blocks(side=96))
    assert expected.step_s > 0
    assert expected.memory_bytes > preflight.BASE_BYTES
    assert torch.equal(state, torch.get_rng_state())
    for module, kept in zip(modules, before, strict=True):
        assert all(torch.equal(kept[key], value) for key, value in module.state_dict().items())
        assert all(value.grad is None for value in module.parameters())


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    check_extra()
    monkeypatch.setitem(sys.modules, "lightning", None)  # as if it were not installed
    with raises_code("missing-extra") as caught:
        check_extra()
    assert ".[train]" in str(caught.value)


# --- shards of one's own pictures ------------------------------------------------------------------------------------


def test_shards_of_drawings_with_a_teacher_train(tmp_path: Path, drawings: Path) -> None:
    request = ShardRequest((drawings,), tmp_path / "shards", degradations=("web=bicubic",), teachers=("apisr-x2-fast",))
    events: list[Progress] = []
    assert prepare_shards(request, progress=events.append).pictures == 6
    assert {event.stage for event in events} == {"shards", "teach"}
    made = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "shards").glob("*.npy")}
    assert len(made) == 18  # high, low, teacher
    prepare_shards(request)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "shards").glob("*.npy")} == made
    sets = ("data.folders=[]", f"data.shards={tmp_path / 'shards'}", "teacher.cached=true")
    result = train(finetune(tmp_path, drawings, *sets))
    assert result.complete
    assert result.losses["teacher"] > 0
    outputs = sorted((tmp_path / "shards").glob("teacher2_*"))
    for path in outputs[1:]:
        path.unlink()
    partly = train(finetune(tmp_path, drawings, *sets[:2], "run.name=partly", "data.batch=4", "run.steps=8"))
    assert partly.complete  # outputs that nobody asked for do not matter, wherever they are
    assert "teacher" not in partly.losses
    outputs[0].unlink()
    with raises_code("no-teacher-outputs"):
        train(finetune(tmp_path, drawings, *sets, "run.name=other"))


def test_a_model_takes_the_place_of_the_drawings(tmp_path: Path, drawings: Path) -> None:
    """The crops of one degradation are the model's outputs with the drawing's colours, those of the other drawings."""
    folder = tmp_path / "shards"
    request = ShardRequest(
        (drawings,), folder, degradations=("old=tv", "web=bicubic"), count=2, targets=("old=apisr-x2",)
    )
    events: list[Progress] = []
    assert prepare_shards(request, progress=events.append).targets == {"old": "apisr-x2"}
    assert {event.stage for event in events} == {"shards", "targets"}
    assert sorted(path.name for path in folder.glob("target*")) == ["target2_old_0000.npy", "target2_old_0001.npy"]
    model = apisr.load("apisr-x2", engine="onnx", device="cpu", strength=0)
    for number in range(2):
        low, drawing, target = (
            np.load(folder / f"{name}_000{number}.npy")[0] for name in ("lr2_old", "gt", "target2_old")
        )
        difference = drawing.astype(np.float32) - model(low)
        expected = drawing - difference + skimage.filters.gaussian(difference, 10, channel_axis=2, mode="mirror")
        wrong = np.abs(target.astype(np.float32) - np.clip(expected, 0, 255))
        assert np.quantile(wrong[16:-16, 16:-16], 0.99) <= 2
        assert wrong.mean() < 1.5  # nor is a rim black; the program mirrors rims in another way
        assert np.abs(target.astype(int) - drawing).max() > 20  # soft lines
    source = ShardCrops.open(folder, CropOptions(scale=2, patch_px=32, flips=False))
    for index, name in enumerate(source.shards):
        crop = source.crops(0, index)[0]
        whole = np.load(folder / f"{'target2_old' if 'old' in name else 'gt'}_{name[-4:]}.npy")[0]
        windows = np.lib.stride_tricks.sliding_window_view(whole, (32, 32), axis=(0, 1))
        assert (windows == crop["gt"].numpy()).all(axis=(2, 3, 4)).any()
    for wrong, code in (("old", "bad-degradation-name"), ("dvd=apisr-x2", "bad-degradation-name")):
        with raises_code(code):
            prepare_shards(replace(request, targets=(wrong,)))


@pytest.mark.parametrize(
    ("option", "named", "code"),
    [
        ("targets", "dvd=apisr-x2", "bad-degradation-name"),
        ("targets", "web=nobody", "no-weights"),
        ("targets", "web=apisr-x4", "other-scale"),
        ("teachers", "nobody", "no-weights"),
        ("teachers", "apisr-x4", "other-scale"),
    ],
)
def test_wrong_models_are_named_before_anything_is_degraded(
    tmp_path: Path, drawings: Path, option: str, named: str, code: str
) -> None:
    request = ShardRequest((drawings,), tmp_path / "shards", degradations=("web=bicubic",))
    with raises_code(code) as caught:
        prepare_shards(replace(request, **{option: (named,)}))  # type: ignore[arg-type]
    assert f"--{option.removesuffix('s')}" in str(caught.value)
    assert not (tmp_path / "shards").exists()


def test_drawings_can_be_composed_into_shards(tmp_path: Path, drawings: Path) -> None:
    request = ShardRequest((drawings,), tmp_path / "shards", degradations=("web=bicubic",), compose=True, count=2)
    assert prepare_shards(request).pictures == 2
    first, second = (np.load(tmp_path / "shards" / f"gt_000{number}.npy") for number in range(2))
    assert first.shape == (1, 720, 1280, 3)
    assert not np.array_equal(first, second)
    for wrong in ("web", "Web=bicubic", "=bicubic"):
        with raises_code("bad-degradation-name"):
            prepare_shards(ShardRequest((drawings,), tmp_path / "other", degradations=(wrong,)))
