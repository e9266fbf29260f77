"""The public interface of Python: what is there, how it is typed, and that it works on arrays and files."""

from __future__ import annotations

import inspect
import itertools
import pickle
import pydoc
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from video_clips import make_clip

import apisr
from apisr.core.errors import InputError
from apisr.image import read_picture, write_picture

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
FUNCTIONS = ("curate", "degrade", "enhance", "evaluate", "train", "upscale")


def test_everything_public_is_there_with_a_signature_and_a_text() -> None:
    page = pydoc.render_doc(apisr, renderer=pydoc.plaintext)
    for name in apisr.__all__:
        thing = getattr(apisr, name)
        if name == "__version__":
            continue
        assert thing.__doc__, name
        assert name in page, name
        if inspect.isfunction(thing):
            assert thing.__module__ == "apisr"
            assert all(p.annotation is not p.empty for p in inspect.signature(thing).parameters.values()), name
    with pytest.raises(AttributeError):
        apisr.no_such_name  # noqa: B018


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_survive_the_import_of_the_package_of_their_name(name: str) -> None:
    """In an interpreter of its own, whatever is imported first, the function stays and the package can be imported."""
    inner = {"degrade": "recipe", "enhance": "", "train": "config", "upscale": "options"}.get(name, "options")
    inner = "settings" if name == "curate" else inner
    module = f"apisr.{name}.{inner}".rstrip(".")
    lines = (
        f"import {module}",
        "import apisr",
        f"from apisr import {name} as function",
        f"from {module} import __doc__ as text",
    )
    code = "\n".join(
        [
            "import itertools, sys",
            f"for order in itertools.permutations({lines!r}):",
            "    for name in [name for name in sys.modules if name.split('.')[0] == 'apisr']:",
            "        del sys.modules[name]",
            "    scope = {}",
            "    exec('\\n'.join(order), scope)",
            "    import apisr",
            f"    assert type(apisr.{name}).__name__ == 'function', order",
            f"    assert scope['function'] is apisr.{name}, order",
            "    assert scope['text'], order",
            f"    assert not callable(sys.modules['apisr.{name}']), order",
        ]
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_functions_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(apisr.upscale)) is apisr.upscale


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_loaded_model_takes_pictures_and_batches(tiny_x2: Path, dtype: type) -> None:
    model = apisr.load(tiny_x2, engine="onnx", device="cpu")
    assert (model.scale, model.traits.scale, model.name) == (2, 2, model.card.get("name", model.name))
    generator = np.random.default_rng(0)
    peak = 1.0 if dtype is np.float32 else np.iinfo(dtype).max
    batch = (generator.random((2, 20, 24, 3)) * peak).astype(dtype)
    big = model(batch)
    assert (big.shape, big.dtype) == ((2, 40, 48, 3), batch.dtype)
    for one, many in zip(batch, big, strict=True):
        assert np.array_equal(model(one), many)
    assert model(batch[0, ..., 0]).shape == (40, 48)
    assert model(batch[0], scale=1.5).shape == (30, 36, 3)


def test_floats_are_the_values_before_rounding(tiny_x2: Path) -> None:
    model = apisr.load(tiny_x2, engine="onnx", device="cpu")
    picture = np.random.default_rng(1).integers(0, 256, (40, 33, 3), dtype=np.uint8)
    floats = model(picture.astype(np.float32) / np.float32(255), tile_px=16)
    rounded = np.floor(floats * 255 + np.float32(0.5)).clip(0, 255).astype(np.uint8)
    assert np.array_equal(rounded, model(picture, tile_px=16))


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4, 5), np.uint8), np.zeros((4,), np.uint8), np.zeros((4, 4, 3), np.int64), np.zeros((4, 4, 4), "f4")],
)
def test_other_arrays_are_refused(tiny_x2: Path, array: np.ndarray) -> None:
    with pytest.raises(InputError) as caught:
        apisr.load(tiny_x2, engine="onnx", device="cpu")(array)
    assert caught.value.code == "bad-array"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, 255.0, -5.0])
def test_floats_that_are_no_picture_are_refused(tiny_x2: Path, value: float) -> None:
    array = np.full((8, 9, 3), 0.5, np.float32)
    array[3, 4] = value
    with pytest.raises(InputError) as refused:
        apisr.load(tiny_x2)(array)
    assert refused.value.code == "bad-array"
    for work in (apisr.enhance, lambda picture: apisr.degrade(picture, seed=1)):
        with pytest.raises(InputError) as refused:
            work(array)
        assert refused.value.code == "bad-array"


def test_nothing_is_not_a_picture() -> None:
    for shape in ((0, 5, 3), (5, 0, 3)):
        with pytest.raises(InputError) as refused:
            apisr.enhance(np.zeros(shape, np.uint8))
        assert refused.value.code == "bad-array"
    with pytest.raises(InputError) as refused:
        apisr.evaluate([])
    assert refused.value.code == "no-pictures"


@pytest.mark.parametrize("dtype", [">u2", ">f4"])
def test_the_order_of_bytes_does_not_matter(tiny_x2: Path, dtype: str) -> None:
    model = apisr.load(tiny_x2, engine="onnx")
    native = np.random.default_rng(0).integers(0, 65536, (12, 10, 3)).astype(np.uint16)
    plain = native if "u2" in dtype else (native / np.float32(65535)).astype(np.float32)
    np.testing.assert_array_equal(model(plain.astype(dtype)), model(plain))


def test_impossible_numbers_and_names_are_refused(tiny_x2: Path, tmp_path: Path) -> None:
    array = np.zeros((8, 9, 3), np.uint8)
    for tile in (0, -5, 1.5, "a"):
        with pytest.raises(InputError) as refused:
            apisr.load(tiny_x2)(array, tile_px=tile)  # type: ignore[arg-type]
        assert refused.value.code == "bad-tile"
    for threads in (0, -1, 1.5, "a", 10**6):
        with pytest.raises(InputError) as refused:
            apisr.load(tiny_x2, threads=threads)  # type: ignore[arg-type]
        assert refused.value.code == "bad-threads"
    for names in (("", tmp_path), ([""], tmp_path), ("a.png", "")):
        with pytest.raises(InputError) as refused:
            apisr.upscale(*names, model=tiny_x2)
        assert refused.value.code == "empty-argument"


def test_files_with_a_kept_model_progress_and_cancel(tiny_x2: Path, tmp_path: Path) -> None:
    pictures = [tmp_path / f"{name}.png" for name in "ab"]
    for path in pictures:
        write_picture(path, np.zeros((20, 30, 3), np.uint8))
    model = apisr.load(tiny_x2, engine="onnx", device="cpu")
    events: list[apisr.Progress] = []
    results = apisr.upscale(pictures, tmp_path / "out", model=model, progress=events.append)
    assert [result.status for result in results] == ["done", "done"]
    assert read_picture(tmp_path / "out" / "a.png").pixels.shape == (40, 60, 3)
    assert [event.item for event in events if event.kind == "started"] == [str(path) for path in pictures]
    assert [key for key, _ in itertools.groupby(event.index for event in events)] == [1, 2]
    cancel = apisr.Cancel()
    cancel.request()
    stopped = apisr.upscale(pictures, tmp_path / "other", model=tiny_x2, cancel=cancel)
    assert [result.status for result in stopped] == ["cancelled", "cancelled"]
    assert not (tmp_path / "other").exists()
    refused = apisr.upscale(
        tmp_path / "a.png", tmp_path / "a.jpg", model=model, options=apisr.PictureOptions(quality=90)
    )
    assert [result.status for result in refused] == ["done"]


def test_videos_are_opened_with_exact_times() -> None:
    with apisr.open_video(EXAMPLES / "clip.mkv") as video:
        times = list(video.index.pts)
        frames = [frame for frame, _ in zip(video, range(3), strict=False)]
    assert [frame.pts for frame in frames] == times[:3]
    assert frames[0].rgb.dtype == np.uint8


def test_degrade_and_enhance_keep_their_contracts() -> None:
    picture = np.random.default_rng(2).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    low = apisr.degrade(picture, scale=2, seed=3)
    assert (low.shape, low.dtype) == ((32, 48, 3), np.uint8)
    assert np.array_equal(low, apisr.degrade(picture, scale=2, seed=3))
    assert not np.array_equal(low, apisr.degrade(picture, scale=2, seed=4))
    sharp = apisr.enhance(picture)
    assert (sharp.shape, sharp.dtype) == (picture.shape, picture.dtype)


def test_a_plan_says_what_the_run_then_does(tmp_path: Path, tiny_x2: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", size=(64, 48), frames=12)
    write_picture(tmp_path / "in.png", np.zeros((20, 30, 3), np.uint8))
    inputs, output = [clip, tmp_path / "in.png"], tmp_path / "out"
    plan = apisr.plan(inputs, output, model=tiny_x2, estimate=True)
    assert not output.exists()
    results = apisr.upscale(inputs, output, model=tiny_x2)
    for file, result in zip(plan.files, results, strict=True):
        assert result.result is not None
        assert (file.source, file.target, file.kind) == (result.source, result.target, result.kind)
        assert (file.size, file.output_size) == (result.result.size, result.result.output_size)
        assert file.estimate is not None
        assert file.estimate.seconds > 0
    assert plan.files[0].frames == 12
    assert plan.estimate is not None
    assert plan.estimate.size_bytes == sum(file.estimate.size_bytes for file in plan.files if file.estimate)
    assert apisr.UpscalePlan.model_validate_json(plan.model_dump_json()) == plan
    again = apisr.plan(clip, output, model=tiny_x2).files[0]
    assert again.existing.startswith("would be skipped")
    assert again.estimate is None


def test_an_upscaler_keeps_its_models(tmp_path: Path) -> None:
    crisp = np.zeros((96, 96, 3), np.uint8)
    crisp[:48, :48] = crisp[48:, 48:] = 200
    for name, picture in (("crisp", crisp), ("soft", cv2.GaussianBlur(crisp, (0, 0), 2.0))):
        write_picture(tmp_path / f"{name}.png", np.asarray(picture, np.uint8))
    upscaler = apisr.Upscaler(apisr.UpscaleOptions(scale=2, device="cpu"))
    models = {name: upscaler.model_for(tmp_path / f"{name}.png") for name in ("crisp", "soft")}
    assert models["crisp"].name != models["soft"].name
    assert upscaler.model_for(tmp_path / "crisp.png") is models["crisp"]
    for name, model in models.items():
        source = tmp_path / f"{name}.png"
        assert upscaler.plan(source).files[0].model == model.name
        assert upscaler.targets(source) == {source: tmp_path / f"{name}_x2.png"}
        (result,) = upscaler.run(source)
        assert (read_picture(result.target).pixels == model(read_picture(source).pixels)).all()
        others = [tmp_path / "crisp.png", tmp_path / "soft.png", tmp_path / "absent.png"]
        assert upscaler.made_before(source, [*others, result.target]) == result.target
        assert upscaler.made_before(source, others) is None
        assert apisr.Upscaler(apisr.UpscaleOptions(scale=2, tta=True)).made_before(source, [result.target]) is None
    with pytest.raises(InputError) as refused:
        upscaler.model_for(tmp_path / "missing.png")
    assert refused.value.code == "cannot-read"


def test_the_models_that_ship_are_listed() -> None:
    scales = {model.name: model.scale for model in apisr.list_models()}
    assert scales[apisr.default_model(2)] == 2
    assert apisr.default_model() in scales
    with pytest.raises(apisr.ModelError):
        apisr.default_model(3)
