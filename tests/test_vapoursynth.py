"""The function for VapourSynth: every format, properties, order of requests, reuse, errors."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import apisr
import apisr.vapoursynth
from apisr.core.errors import InputError, MissingExtra
from apisr.image import resize
from apisr.upscale.baselines import NearestEngine
from apisr.upscale.options import UpscaleOptions
from apisr.weights import resolve_model

needs_vapoursynth = pytest.mark.skipif(
    importlib.util.find_spec("vapoursynth") is None, reason="VapourSynth is not installed (it needs Python 3.12)"
)
FORMATS = [
    *("RGB24", "RGB30", "RGB48", "RGBH", "RGBS", "GRAY8", "GRAY10", "GRAY16", "GRAYS"),
    *("YUV420P8", "YUV420P10", "YUV422P12", "YUV444P8", "YUV444P16", "YUV420PS", "YUV444PH", "YUV444PS"),
]
WIDTH, HEIGHT, LENGTH = 62, 46, 6


class CountingEngine(NearestEngine):
    """Enlarges by repeating pixels, and counts the pixels that it is given."""

    pixels = 0

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self.pixels += batch.shape[2] * batch.shape[3]
        return super().run(batch)


@pytest.fixture
def vs() -> Any:
    return pytest.importorskip("vapoursynth")


@pytest.fixture
def nearest(tiny_x2: Path) -> apisr.LoadedModel:
    """Repeats pixels: every value survives."""
    return apisr.LoadedModel(resolve_model(tiny_x2), CountingEngine(2))


def arrays(frame: Any) -> list[NDArray[Any]]:
    return [np.array(frame[plane]) for plane in range(frame.format.num_planes)]


def clip_of(vs: Any, name: str, paint: Callable[[int, NDArray[Any]], Any], **size: int) -> Any:
    """Make a clip whose planes hold what `paint(number, plane)` returns in [0, 1]."""
    shape = {"width": WIDTH, "height": HEIGHT, "length": LENGTH, "fpsnum": 24000, "fpsden": 1001} | size
    blank = vs.core.std.BlankClip(format=getattr(vs, name), **shape)

    def fill(n: int, f: Any) -> Any:
        frame = f.copy()
        for plane in range(f.format.num_planes):
            values = np.asarray(frame[plane])
            chosen = np.asarray(paint(10 * n + plane, values))
            if f.format.sample_type == vs.INTEGER:
                values[:] = np.rint(chosen * ((1 << f.format.bits_per_sample) - 1))
            else:
                values[:] = chosen - (0.5 if plane and f.format.color_family == vs.YUV else 0)
        frame.props.update({"Mine": n, "_PictType": b"B", "_SARNum": 8, "_SARDen": 9, "_AbsoluteTime": n / 7})
        return frame

    return blank.std.ModifyFrame(clips=blank, selector=fill)


def noise(seed: int, plane: NDArray[Any]) -> NDArray[np.float64]:
    return np.random.default_rng(seed).random(plane.shape)


@needs_vapoursynth
@pytest.mark.parametrize("name", FORMATS)
def test_format_length_rate_and_properties_are_kept(vs: Any, name: str, tiny_x2: Path) -> None:
    clip = clip_of(vs, name, noise)
    large = apisr.vapoursynth.upscale(clip, tiny_x2)
    assert (large.format.id, large.width, large.height) == (clip.format.id, 2 * WIDTH, 2 * HEIGHT)
    assert (large.num_frames, large.fps) == (LENGTH, clip.fps)
    for n in (0, LENGTH - 1):
        before, after = dict(clip.get_frame(n).props), dict(large.get_frame(n).props)
        assert before.items() <= after.items()
        added = after.keys() - before.keys()
        assert added == (set() if name.startswith("RGB") else {"_Matrix"})
    assert len({array.tobytes() for n in range(2) for array in arrays(large.get_frame(n))}) > 1


@needs_vapoursynth
@pytest.mark.parametrize(("name", "dtype"), [("RGB24", np.uint8), ("RGB48", np.uint16), ("RGBS", np.float32)])
@pytest.mark.parametrize(("width", "height"), [(62, 46), (61, 37), (1, 1)])
def test_frames_equal_those_of_the_model(
    vs: Any, name: str, dtype: type, width: int, height: int, tiny_x2: Path
) -> None:
    model = apisr.load(tiny_x2, engine="onnx", device="cpu")
    clip = clip_of(vs, name, noise, width=width, height=height, length=2)
    large = apisr.vapoursynth.upscale(clip, model)
    for n in range(2):
        picture = np.stack(arrays(clip.get_frame(n)), axis=2)
        assert picture.dtype == dtype
        np.testing.assert_array_equal(np.stack(arrays(large.get_frame(n)), axis=2), model(picture))


@needs_vapoursynth
def test_odd_sizes_of_yuv(vs: Any, tiny_x2: Path) -> None:
    large = apisr.vapoursynth.upscale(clip_of(vs, "YUV444P10", noise, width=61, height=37, length=1), tiny_x2)
    assert [plane.shape for plane in arrays(large.get_frame(0))] == [(74, 122)] * 3


@needs_vapoursynth
@pytest.mark.parametrize("matrix", [None, 1, 5, 6, 9])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("name", ["YUV420P8", "YUV420P10", "YUV444P16", "GRAY8", "YUV444PS"])
def test_colours_stay(vs: Any, name: str, matrix: int | None, full: bool, nearest: apisr.LoadedModel) -> None:
    """The right matrix and range are used on both ways: flat colours come back within a level."""
    levels = (0.55, 0.45, 0.57)
    clip = clip_of(vs, name, lambda seed, plane: np.full(plane.shape, levels[seed % 10]), length=1)
    clip = clip.std.SetFrameProps(**({"_Matrix": matrix} if matrix else {}))
    clip = clip.resize.Point(range_in=int(full), range=int(full)) if name != "YUV444PS" else clip
    before, after = clip.get_frame(0), apisr.vapoursynth.upscale(clip, nearest).get_frame(0)
    for plane, (low, high) in enumerate(zip(arrays(before), arrays(after), strict=True)):
        off = 1e-4 if low.dtype.kind == "f" else 1
        assert np.abs(high.astype(float) - float(low.flat[0])).max() <= off, (plane, low.flat[0], high.flat[0])
    assert after.props["_Matrix"] == (matrix or 6)


@needs_vapoursynth
def test_each_frame_has_its_own_matrix(vs: Any, nearest: apisr.LoadedModel) -> None:
    clip = clip_of(vs, "YUV444P8", lambda seed, plane: np.full(plane.shape, (0.55, 0.4, 0.6)[seed % 10]), length=1)
    mixed = clip.std.SetFrameProps(_Matrix=1) + clip.std.SetFrameProps(_Matrix=9) + clip
    large = apisr.vapoursynth.upscale(mixed, nearest)
    for n, matrix in enumerate((1, 9, 6)):
        frame = large.get_frame(n)
        assert frame.props["_Matrix"] == matrix
        for low, high in zip(arrays(clip.get_frame(0)), arrays(frame), strict=True):
            assert np.abs(high.astype(int) - int(low.flat[0])).max() <= 1


@needs_vapoursynth
@pytest.mark.parametrize("name", ["RGB24", "RGBS", "YUV420P8"])
def test_what_does_not_change_is_computed_once(vs: Any, name: str, nearest: apisr.LoadedModel) -> None:
    engine = nearest.engine
    assert isinstance(engine, CountingEngine)

    def held(seed: int, plane: NDArray[Any]) -> NDArray[np.float64]:
        return noise(seed % 10, plane)

    large = apisr.vapoursynth.upscale(clip_of(vs, name, held), nearest)
    list(large.frames())
    once = engine.pixels
    assert once < 2 * WIDTH * HEIGHT
    without = apisr.vapoursynth.upscale(
        clip_of(vs, name, held), nearest, options=UpscaleOptions(video=apisr.VideoOptions(reuse="off"))
    )
    list(without.frames())
    assert engine.pixels == once + LENGTH * once


def _moving(seed: int, plane: NDArray[Any]) -> NDArray[np.float64]:
    values = noise(seed % 10, plane)
    values[8:24, 3 * (seed // 10) : 3 * (seed // 10) + 12] = 0.2
    return values


@needs_vapoursynth
@pytest.mark.parametrize("name", ["RGB48", "RGBS", "YUV420P10"])
def test_any_order_and_parallel_requests_give_the_same_frames(vs: Any, name: str, tiny_x2: Path) -> None:
    model = apisr.load(tiny_x2, engine="onnx", device="cpu")
    clip = clip_of(vs, name, _moving, width=160, height=120)
    expected = [
        arrays(
            apisr.vapoursynth.upscale(
                clip, model, options=UpscaleOptions(video=apisr.VideoOptions(reuse="off"))
            ).get_frame(n)
        )
        for n in range(LENGTH)
    ]
    in_parallel = list(apisr.vapoursynth.upscale(clip, model).frames(prefetch=LENGTH, backlog=LENGTH))
    shuffled = apisr.vapoursynth.upscale(clip, model)
    order = random.Random(3).sample(range(LENGTH), LENGTH)
    at_random = {n: shuffled.get_frame(n) for n in order}
    futures = {n: shuffled.get_frame_async(n) for n in reversed(order)}
    for n in range(LENGTH):
        for frame in (in_parallel[n], at_random[n], futures[n].result()):
            for mine, right in zip(arrays(frame), expected[n], strict=True):
                np.testing.assert_array_equal(mine, right)


@needs_vapoursynth
def test_other_sizes(vs: Any, tiny_x2: Path) -> None:
    model = apisr.load(tiny_x2, engine="onnx", device="cpu")
    clip = clip_of(vs, "RGBS", noise, length=1)
    larger = apisr.vapoursynth.upscale(clip, model, height=60)
    assert (larger.width, larger.height) == (82, 60)
    expected = resize(model(np.stack(arrays(clip.get_frame(0)), axis=2)), 60, 82)
    np.testing.assert_array_equal(np.stack(arrays(larger.get_frame(0)), axis=2), expected)
    assert apisr.vapoursynth.upscale(clip, model, scale=1.5).width == 93


@needs_vapoursynth
def test_the_model_is_chosen_by_the_factor(vs: Any) -> None:
    clip = clip_of(vs, "GRAY8", noise, width=16, height=16, length=1)
    assert apisr.vapoursynth.upscale(clip).width == 32
    assert apisr.vapoursynth.upscale(clip, scale=4).width == 64
    large = apisr.vapoursynth.upscale(clip, height=24, strength=0.5)
    assert arrays(large.get_frame(0))[0].shape == (24, 24)


@needs_vapoursynth
def test_bad_requests_are_one_line(vs: Any, tiny_x2: Path) -> None:
    clip = clip_of(vs, "YUV420P8", noise, length=1)
    splice = vs.core.std.Splice([clip, clip_of(vs, "RGB24", noise, length=1)], mismatch=True)
    cases: list[tuple[object, dict[str, Any], str]] = [
        ("a.mkv", {}, "bad-clip"),
        (splice, {}, "bad-clip"),
        (clip, {"scale": 2, "height": 100}, "height-and-scale"),
        (clip, {"height": 101}, "bad-size"),
        (clip, {"model": "no-such-model"}, "no-such-model"),
    ]
    for bad, arguments, code in cases:
        with pytest.raises(InputError) as raised:
            apisr.vapoursynth.upscale(bad, **({"model": tiny_x2} | arguments))
        assert raised.value.code == code
        assert "\n" not in str(raised.value)


@needs_vapoursynth
def test_interlaced_frames_are_refused(vs: Any, tiny_x2: Path) -> None:
    clip = clip_of(vs, "YUV420P8", noise, length=1).std.SetFieldBased(2)
    with pytest.raises(vs.Error) as raised:
        apisr.vapoursynth.upscale(clip, tiny_x2).get_frame(0)
    assert str(raised.value).strip().splitlines()[-1].startswith("apisr.core.errors.InputError: frame 0 is interlaced")


@pytest.mark.skipif(importlib.util.find_spec("vapoursynth") is not None, reason="VapourSynth is installed")
def test_without_vapoursynth_the_extra_is_named() -> None:
    with pytest.raises(MissingExtra, match="vapoursynth"):
        apisr.vapoursynth.upscale(None)
