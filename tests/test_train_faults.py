"""Data that is damaged, swapped or changed: a training says so before it begins, or when it goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from error_codes import raises_code

from apisr.image import write_picture
from apisr.networks import build
from apisr.train.config import TrainConfig, load_config
from apisr.train.data.crops import CropOptions
from apisr.train.data.prepare import ShardRequest, prepare_shards
from apisr.train.data.shards import ShardCrops
from apisr.train.trainer import TrainResult, train
from apisr.weights.checkpoint import load_state, save_network


def drawings(folder: Path, *, seed: int = 0, count: int = 3) -> Path:
    rng = np.random.default_rng(seed)
    for number in range(count):
        small = rng.integers(0, 256, (10, 12, 3), dtype=np.uint8)
        write_picture(folder / f"{number}.png", np.ascontiguousarray(small.repeat(8, 0).repeat(8, 1)), overwrite=True)
    return folder


def shards(folder: Path, *, degradation: str = "web=bicubic", seed: int = 0) -> Path:
    source = drawings(folder.parent / "drawings")
    prepare_shards(ShardRequest((source,), folder, scale=2, degradations=(degradation,), seed=seed))
    return folder


def run(folder: Path, *sets: str, resume: bool = False) -> tuple[TrainResult, list[str]]:
    quiet = ["log.tensorboard=false", f"run.folder={folder}", "run.threads=1", "data.enhance=none", "loss.target=gt"]
    chosen: TrainConfig = load_config("tiny-test", sets=[*quiet, "data.workers=0", *sets])
    lines: list[str] = []
    result = train(chosen, resume=resume, progress=lambda e: lines.append(e.message) if e.kind == "notice" else None)
    return result, lines


def edited(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return lambda path: np.save(path, change(np.load(path)))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def pickled(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def several(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(3))


def absurd(path: Path) -> None:
    head = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1, 999999999, 999999999, 3), }"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(head + b"\n").to_bytes(2, "little") + head + b"\n")


@pytest.mark.parametrize("name", ["lr2_web_0001.npy", "gt_0001.npy"])
@pytest.mark.parametrize(
    "damage",
    [
        cut,
        pickled,
        several,
        absurd,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"text"),
        lambda path: path.unlink(),
        edited(lambda values: values.astype(np.float32)),
        edited(lambda values: values.astype(np.uint16)),
        edited(lambda values: values[..., :1]),
        edited(lambda values: values[0]),
        edited(lambda values: values[:, :-2]),
        edited(lambda values: values[:0]),
        edited(lambda values: np.concatenate([values, values])),
    ],
)
def test_damaged_shards_are_named_before_the_training(
    tmp_path: Path, damage: Callable[[Path], None], name: str
) -> None:
    folder = shards(tmp_path / "shards")
    damage(folder / name)
    if not (folder / name).exists() and name.startswith("lr"):
        assert len(ShardCrops.open(folder, CropOptions(scale=2, patch_px=16))) == 2  # it was never made
        return
    with raises_code("bad-shards") as caught:
        run(tmp_path, f"data.shards={folder}", "run.steps=1")
    assert "0001" in str(caught.value)
    assert not list((tmp_path / "tiny-test").glob("checkpoints/*"))


def test_what_is_missing_is_made_again(tmp_path: Path) -> None:
    folder = shards(tmp_path / "shards")
    before = {path.name: path.read_bytes() for path in folder.glob("*.npy")}
    (folder / "lr2_web_0001.npy").unlink()
    (folder / "gt_0001.npy").unlink()
    shards(folder)
    assert {path.name: path.read_bytes() for path in folder.glob("*.npy")} == before


@pytest.mark.parametrize("change", [{"degradation": "web=bicubic:1, video:1"}, {"seed": 7}])
def test_a_name_of_shards_never_means_two_things(tmp_path: Path, change: dict[str, object]) -> None:
    folder = shards(tmp_path / "shards")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with raises_code("other-settings"):
        shards(folder, **change)  # type: ignore[arg-type]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    shards(folder, degradation="dvd=bicubic")
    assert set(json.loads((folder / "shards.json").read_text())["degradations"]) == {"web", "dvd"}
    with raises_code("other-settings"):
        shards(folder, **change)  # type: ignore[arg-type]


def test_shards_of_former_versions_are_read_and_added_to(tmp_path: Path) -> None:
    """Their index said which recipes a name stands for, without weights and seed; later, both."""
    folder = shards(tmp_path / "shards")
    index = folder / "shards.json"
    content = json.loads(index.read_text())
    assert content.keys() == {"format", "pictures_per_shard", "degradations"}
    options = CropOptions(scale=2, patch_px=32)
    crops = ShardCrops.open(folder, options).crops(0, 1)
    for known in ({}, {"degradations": content["degradations"]}):
        former = {"format": 2, "pictures_per_shard": 1, "mixtures": {"web": "bicubic"}, **known}
        index.write_text(json.dumps(former))
        again = ShardCrops.open(folder, options).crops(0, 1)
        assert all(torch.equal(a[name], b[name]) for a, b in zip(crops, again, strict=True) for name in a)
        shards(folder, degradation="dvd=bicubic")
        assert json.loads(index.read_text())["degradations"].keys() == {*known.get("degradations", {}), "dvd"}


def test_an_index_by_an_enemy_is_refused(tmp_path: Path) -> None:
    folder = shards(tmp_path / "shards")
    index = folder / "shards.json"
    wrong = ["[" * 100_000, "[]", "{}", '{"pictures_per_shard": 1e999}', '{"pictures_per_shard": "x"}', "\udcff"]
    for text in [*wrong, '{"pictures_per_shard": 7}', '{"pictures_per_shard": -1}', '{"pictures_per_shard": 0}']:
        index.write_bytes(text.encode("utf-8", "surrogateescape"))
        with raises_code("bad-shards"):
            run(tmp_path, f"data.shards={folder}", "run.steps=1")


@pytest.mark.parametrize("kind", ["shards", "folder", "recipe"])
def test_data_that_changed_between_two_parts_of_a_run_is_said(tmp_path: Path, kind: str) -> None:
    folder = drawings(tmp_path / "drawings")
    recipe = tmp_path / "mine.toml"
    resize = '[[passes]]\n[[passes.stages]]\nstage = "resize"\nto = "final"\nmodes = {{ {} = 1.0 }}\n'
    recipe.write_text('name = "mine"\n' + resize.format("area"))
    sets = [f'data.folders=["{folder}"]', f"data.degradation={recipe}"]
    if kind == "shards":
        sets = [f"data.shards={shards(tmp_path / 'shards')}"]
    run(tmp_path, "run.steps=2", *sets)
    _, lines = run(tmp_path, "run.steps=3", *sets, resume=True)
    assert not [line for line in lines if "not those" in line]
    if kind == "shards":
        first, second = (tmp_path / "shards" / f"gt_000{number}.npy" for number in (0, 1))
        content = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(content)
    elif kind == "folder":
        drawings(folder, seed=1, count=1)
    else:
        recipe.write_text('name = "mine"\n' + resize.format("bicubic"))
    result, lines = run(tmp_path, "run.steps=4", *sets, resume=True)
    assert len([line for line in lines if "not those" in line]) == 1
    assert result.complete


def weights(path: Path, seed: int) -> Path:
    hyper = {"features": 8, "depth": 1, "scale": 2}
    torch.manual_seed(seed)
    save_network(build("compact", hyper), path, "compact", hyper, card={}, overwrite=True)
    return path


def features(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    torch.save(build("vgg", {"depth": 16}).state_dict(), path)
    return path


@pytest.mark.parametrize("kind", ["teacher", "features"])
def test_a_frozen_network_that_changed_between_two_parts_of_a_run_is_refused(tmp_path: Path, kind: str) -> None:
    folder = drawings(tmp_path / "drawings")
    make, path = (weights, tmp_path / "t.safetensors") if kind == "teacher" else (features, tmp_path / "vgg.pth")
    make(path, 1)
    sets = [f'data.folders=["{folder}"]', f"teacher.init_from={path}"]
    if kind == "features":
        term = f'loss.perceptual=[{{network="vgg:{path}", weights={{conv1_2=1.0}}}}]'
        sets = [sets[0], "loss.perceptual_weight=1", term]
    run(tmp_path / "run", "run.steps=2", *sets)
    first = path.read_bytes()
    make(path, 2)
    with raises_code("other-settings"):
        run(tmp_path / "run", "run.steps=4", *sets, resume=True)
    path.write_bytes(first)
    assert run(tmp_path / "run", "run.steps=4", *sets, resume=True)[0].complete


def test_first_weights_that_change_later_do_not_matter(tmp_path: Path) -> None:
    folder, path = drawings(tmp_path / "drawings"), tmp_path / "first.safetensors"
    hyper = [f"model.arguments.{text}" for text in ("features=8", "depth=1", "activation=prelu")]
    sets = [f'data.folders=["{folder}"]', f"model.init_from={path}", *hyper]
    weights(path, 1)
    whole, _ = run(tmp_path / "whole", "run.steps=4", *sets)
    run(tmp_path / "parts", "run.steps=2", *sets)
    weights(path, 2)
    parts, _ = run(tmp_path / "parts", "run.steps=4", *sets, resume=True)
    one, two = (load_state(result.weights)[0] for result in (whole, parts))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("option", ["teachers", "targets"])
def test_files_of_two_teachers_are_never_mixed(tmp_path: Path, option: str) -> None:
    folder, source = tmp_path / "shards", drawings(tmp_path / "drawings")
    path = weights(tmp_path / "t.safetensors", 1)
    chosen = {option: (str(path),) if option == "teachers" else (f"web={path}",)}
    request = ShardRequest((source,), folder, scale=2, degradations=("web=bicubic",), **chosen)  # type: ignore[arg-type]
    prepare_shards(request)
    (first, *others) = sorted(folder.glob("teacher2_*.npy" if option == "teachers" else "target2_*.npy"))
    whole = {file: file.read_bytes() for file in others}
    for file in others:
        file.unlink()  # as if it had been stopped there
    content = path.read_bytes()
    weights(path, 2)
    with raises_code("other-settings"):
        prepare_shards(request)
    assert not any(file.exists() for file in others)
    path.write_bytes(content)
    prepare_shards(request)
    assert {file: file.read_bytes() for file in others} == whole
    weights(path, 2)
    first.unlink()
    for file in others:
        file.unlink()
    prepare_shards(request)
    assert all(file.read_bytes() != before for file, before in whole.items())


def test_a_picture_that_is_gone_is_named(tmp_path: Path) -> None:
    folder = drawings(tmp_path / "drawings")
    sets = [f'data.folders=["{folder}"]', "data.degradation=bicubic", "data.patch_px=16"]
    run(tmp_path, "run.steps=1", *sets)
    (folder / "1.png").write_bytes(b"no picture")
    with pytest.raises(Exception, match=r"1\.png") as caught:
        run(tmp_path, "run.steps=9", *sets, resume=True)
    assert getattr(caught.value, "code", "")


@pytest.mark.parametrize(
    ("value", "near"),
    [
        ("model.arguments.feature=8", "Did you mean 'features'"),
        ("model.arguments.init_from=a.pth", "There are: features"),
        ("discriminator.arguments.feautres=8", "Did you mean 'features'"),
        ("discriminator.arguments.scale=4", "Did you mean 'scales'"),
    ],
)
def test_arguments_that_a_network_has_not_are_refused_by_name(tmp_path: Path, value: str, near: str) -> None:
    folder = drawings(tmp_path / "drawings")
    with raises_code("unknown-argument") as refused:
        run(tmp_path / "run", f'data.folders=["{folder}"]', value)
    assert near in str(refused.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", ["features=x", "features=2.5", "scales=9999"])
def test_arguments_of_a_discriminator_that_do_not_fit_are_refused(tmp_path: Path, value: str) -> None:
    folder = drawings(tmp_path / "drawings")
    with raises_code("bad-setting"):
        run(tmp_path / "run", f'data.folders=["{folder}"]', f"discriminator.arguments.{value}")


def test_layers_that_a_feature_network_has_not_are_refused_before_the_first_step(tmp_path: Path) -> None:
    folder = drawings(tmp_path / "drawings")
    torch.save(build("vgg", {"depth": 16}).state_dict(), tmp_path / "vgg.pth")
    term = f'loss.perceptual=[{{network="vgg:{tmp_path}/vgg.pth", weights={{conv9_9=1.0}}}}]'
    sets = [f'data.folders=["{folder}"]', "loss.perceptual_weight=1", term]
    with raises_code("unknown-layer"):
        run(tmp_path / "run", *sets)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "value",
    [
        "model.arguments.depth=1000000000",
        "model.arguments.depth=-3",
        "model.arguments.features=x",
        "model.arguments.features=2.5",
        "data.patch_px=1000000",
    ],
)
def test_sizes_that_no_machine_could_train_are_refused_at_once(tmp_path: Path, value: str) -> None:
    folder = drawings(tmp_path / "drawings")
    with raises_code("bad-setting"):
        run(tmp_path, f'data.folders=["{folder}"]', value)


def test_a_torchvision_of_another_build_is_named(tmp_path: Path) -> None:
    """Lightning loads it; beside a torch of another build it raises when it registers its operators."""
    (tmp_path / "torchvision").mkdir()
    content = 'raise RuntimeError("operator torchvision::nms does not exist")\n'
    (tmp_path / "torchvision" / "__init__.py").write_text(content, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    command = [sys.executable, "-m", "apisr", "train", "tiny-test", "--set", f"run.folder={tmp_path / 'runs'}"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "torchvision" in ended.stderr
    assert "unexpected" not in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
