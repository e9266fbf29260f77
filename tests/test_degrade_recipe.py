"""Recipes: what is drawn, how often, in which order; exact replay; errors."""

from __future__ import annotations

import json
import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apisr.core.errors import InputError
from apisr.degrade import SCALES, Parameters, apply, load_recipe, low_size, preset_names, sample


@pytest.fixture(scope="module")
def picture(data: Path) -> np.ndarray:
    with np.load(data / "lines.npz") as arrays:
        return np.ascontiguousarray(arrays["0.input_rgb"][:97, :130])


def draws(name: str, scale: int, count: int, seed: int = 0) -> list[Parameters]:
    recipe = load_recipe(name, scale=scale)
    generator = np.random.default_rng(seed)
    return [sample(recipe, generator, 720, 1280) for _ in range(count)]


def close(found: int, count: int, share: float) -> bool:
    """Whether a count is within 4.5 standard deviations of what is expected."""
    return abs(found - count * share) < 4.5 * math.sqrt(count * share * (1 - share))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", preset_names())
def test_presets_give_exact_sizes_and_repeat_from_json(name: str, scale: int, picture: np.ndarray) -> None:
    recipe = load_recipe(name, scale=scale)
    generator = np.random.default_rng(scale)
    for _ in range(3):
        parameters = sample(recipe, generator, *picture.shape[:2])
        low = apply(picture, parameters)
        assert low.dtype == np.uint8
        assert low.shape == (-(-97 // scale), -(-130 // scale), 3)
        replayed = apply(picture, json.loads(json.dumps(parameters)))
        np.testing.assert_array_equal(low, replayed)


def test_the_paper_draws_what_the_paper_says() -> None:
    count = 4000
    drawn = draws("apisr", 4, count)
    first, second, finals = Counter[str](), Counter[str](), Counter[str]()
    kinds, positions = Counter[str](), Counter[int]()
    noises: list[dict[str, Any]] = []
    down = up = 0
    for parameters in drawn:
        stages = parameters["stages"]
        compressions = [stage for stage in stages if stage["stage"] == "compress"]
        first[compressions[0]["codec"]] += 1
        second[compressions[1]["codec"]] += 1
        assert stages[-1]["stage"] == "compress"
        blurs = [stage for stage in stages if stage["stage"] == "blur"]
        kinds[blurs[0]["kind"]] += 1
        assert 7 <= blurs[0]["size"] <= 21
        assert blurs[0]["size"] % 2 == 1
        noises += [stage for stage in stages if stage["stage"] == "noise"]
        # The first pass ends with its compression or, behind it, its resize.
        first_pass = stages[: stages.index(compressions[0]) + 1]
        if any(stage["stage"] == "resize" for stage in first_pass):
            positions[[stage["stage"] for stage in first_pass].index("resize")] += 1
        resizes = [stage for stage in stages if stage["stage"] == "resize"]
        finals[resizes[-1]["mode"]] += 1 if (resizes[-1]["height"], resizes[-1]["width"]) == (180, 320) else 0
        for stage in resizes:
            assert 1 <= stage["height"] <= 720 * 1.2
        if positions and resizes and resizes[0] in first_pass:
            factor = resizes[0]["height"] / 720
            down, up = down + (factor < 1), up + (factor > 1)
            assert 0.099 <= factor <= 1.2001
    for codec, share in (("jpeg", 0.4), ("webp", 0.6)):
        assert close(first[codec], count, share), (codec, first)
    shares = {"jpeg": 0.06, "webp": 0.1, "avif": 0.1, "mpeg2": 0.12, "mpeg4": 0.12, "h264": 0.3, "h265": 0.2}
    assert set(second) == set(shares)
    for codec, share in shares.items():
        assert close(second[codec], count, share), (codec, second)
    weights = (0.405, 0.225, 0.108, 0.027, 0.108, 0.027, 0.1)
    names = ("iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso", "sinc")
    for kind, share in zip(names, weights, strict=True):
        assert close(kinds[kind], count, share), (kind, kinds)
    # Four positions, equally likely; "keep" (one in ten) draws leave no stage behind.
    for place in (0, 1, 2):
        assert close(positions[place], count, 0.9 / 4), positions
    assert close(down, down + up, 0.7 / 0.9)
    grays = sum(stage["gray"] for stage in noises)
    assert close(grays, len(noises), 0.4)
    assert close(sum(stage["kind"] == "gaussian" for stage in noises), len(noises), 0.5)
    assert sum(finals.values()) > 0.9 * count


def test_the_second_pass_shuffles_before_the_final_resize() -> None:
    positions: Counter[int] = Counter()
    for parameters in draws("apisr", 4, 6000, seed=1):
        names = [stage["stage"] for stage in parameters["stages"]]
        start = names.index("compress") + 1
        middle = names[start:-1]
        assert set(middle[middle.index("noise") + 1 :]) <= {"resize"}
        # If the first pass has its resize before its compression, two behind it are a random and the final one.
        if "resize" in names[:start] and sorted(middle) == ["blur", "noise", "resize", "resize"]:
            positions[middle.index("resize")] += 1
    total = sum(positions.values())
    assert total > 2000
    assert set(positions) == {0, 1, 2}
    for place in positions:
        assert close(positions[place], total, 1 / 3), positions


def test_x2_and_x1_have_no_second_resize() -> None:
    for scale in (1, 2):
        for parameters in draws("apisr", scale, 200):
            assert sum(stage["stage"] == "resize" for stage in parameters["stages"]) <= 2


def test_prediction_is_the_same_without_shuffling() -> None:
    for parameters in draws("prediction", 4, 200):
        names = [stage["stage"] for stage in parameters["stages"]]
        assert names[0] == "blur"
        noise = names.index("noise")
        assert names[1:noise] in (["resize"], [])
        assert names[noise + 1] == "compress"
        assert names[-1] == "compress"


def test_codec_settings_stay_in_their_ranges() -> None:
    limits = {"quality": (20, 95), "method": (0, 6), "quantizer": (8, 31)}
    seen: Counter[str] = Counter()
    for parameters in draws("apisr", 4, 3000):
        for stage in parameters["stages"]:
            if stage["stage"] != "compress":
                continue
            ranges = {**limits, "crf": (23, 38) if stage["codec"] == "h264" else (28, 42)}
            for key, value in stage.items():
                if key in ranges:
                    assert ranges[key][0] <= value <= ranges[key][1]
                    seen[f"{key} {value}"] += 1
            if stage["codec"] in ("h264", "h265"):
                seen[stage["preset"]] += 1
    assert seen["quality 20"]
    assert seen["quality 95"]
    assert seen["method 0"]
    assert seen["method 6"]
    coded = sum(seen[preset] for preset in ("slow", "medium", "fast", "faster", "superfast"))
    for preset, share in {"slow": 0.05, "medium": 0.35, "fast": 0.3, "faster": 0.2, "superfast": 0.1}.items():
        assert close(seen[preset], coded, share)


def test_bsrgan_shuffles_everything_and_still_ends_at_the_low_size() -> None:
    orders: Counter[tuple[str, ...]] = Counter()
    for parameters in draws("bsrgan", 4, 300):
        sizes = [(stage["height"], stage["width"]) for stage in parameters["stages"] if stage["stage"] == "resize"]
        assert sizes[-1] == (180, 320)
        orders[tuple(stage["stage"] for stage in parameters["stages"])] += 1
    assert len(orders) > 30


def test_real_esrgan_ends_in_both_of_its_ways() -> None:
    last = Counter(parameters["stages"][-1]["stage"] for parameters in draws("real-esrgan", 4, 400))
    assert close(last["compress"], 400, 0.5)
    assert last["blur"] > 0


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.sampled_from(SCALES),
    st.sampled_from([name for name in preset_names() if name not in ("video", "tv")]),
    st.integers(0, 10_000),
)
def test_any_size_gives_its_exact_low_size(height: int, width: int, scale: int, name: str, seed: int) -> None:
    generator = np.random.default_rng(seed)
    high = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    before = high.copy()
    parameters = sample(load_recipe(name, scale=scale), generator, height, width)
    low = apply(high, parameters)
    assert low.shape == (*low_size(height, width, scale), 3)
    np.testing.assert_array_equal(high, before)


def test_float_pictures_are_taken_as_well(picture: np.ndarray) -> None:
    parameters = draws_for(picture, "apisr", 7)
    from_bytes = apply(picture, parameters)
    from_floats = apply(picture.astype(np.float32) / 255, parameters)
    assert np.abs(from_bytes.astype(int) - from_floats).max() <= 2


def draws_for(picture: np.ndarray, name: str, seed: int) -> Parameters:
    return sample(load_recipe(name, scale=4), np.random.default_rng(seed), *picture.shape[:2])


def test_threads_give_the_same_bytes(picture: np.ndarray) -> None:
    drawn = [draws_for(picture, "apisr", seed) for seed in range(12)]
    alone = [apply(picture, parameters) for parameters in drawn]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda parameters: apply(picture, parameters), drawn))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_bicubic_is_pillows_bicubic(picture: np.ndarray) -> None:
    from PIL import Image

    parameters = draws_for(picture[:96, :128], "bicubic", 0)
    theirs = np.asarray(Image.fromarray(picture[:96, :128]).resize((32, 24), Image.Resampling.BICUBIC))
    ours = apply(np.ascontiguousarray(picture[:96, :128]), parameters)
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_a_recipe_file_of_the_user(tmp_path: Path, picture: np.ndarray) -> None:
    text = """
name = "mine"
[[passes]]
[[passes.stages]]
stage = "analog"
kind = "dot-crawl"
[[passes.stages]]
stage = "resize"
to = "final"
modes = { box = 1 }
[[passes.stages]]
stage = "compress"
codecs = { vp9 = { weight = 1, crf = [30, 40], speed = 8, frames = [1, 2], matrix = "bt709" } }
"""
    path = tmp_path / "mine.toml"
    path.write_text(text)
    recipe = load_recipe(path, scale=2)
    parameters = sample(recipe, np.random.default_rng(0), *picture.shape[:2])
    assert [stage["stage"] for stage in parameters["stages"]] == ["analog", "resize", "compress"]
    assert parameters["stages"][-1]["matrix"] == "bt709"
    assert apply(picture, parameters).shape == (49, 65, 3)


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("name = ", "bad-toml", ""),
        ('name = "a"', "bad-setting", "passes"),
        ('name = "a"\npasses = [{ stages = [{ stage = "blur", kinds = { isso = 1 } }] }]', "bad-setting", "'iso'"),
        (
            'name = "a"\npasses = [{ stages = [{ stage = "noise", sigma_rnge = [1, 2] }] }]',
            "bad-setting",
            "'sigma_range'",
        ),
        ('name = "a"\npasses = [{ stages = [{ stage = "noise" }] }]', "bad-setting", 'to = "final"'),
        ('name = "a"\npasses = [{ stages = [{ stage = "melt" }] }]', "bad-setting", "fade-lines"),
        (
            'name = "a"\npasses = [{ stages = [{ stage = "compress", codecs = { x264 = { weight = 1 } } }] }]',
            "bad-setting",
            "'h264'",
        ),
    ],
)
def test_bad_recipe_files_are_one_clear_line(text: str, code: str, words: str, tmp_path: Path) -> None:
    """The line names the key or the nearest name."""
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_recipe(path)
    assert caught.value.code == code
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_requests_are_refused(picture: np.ndarray, tmp_path: Path) -> None:
    parameters = draws_for(picture, "apisr", 0)
    for code, request in (
        ("unknown-preset", lambda: load_recipe("aspir")),
        ("unknown-scale", lambda: load_recipe("apisr", scale=3)),
        ("cannot-read", lambda: load_recipe(tmp_path / "none.toml")),
        ("parameters-size", lambda: apply(picture[:50], parameters)),
        ("bad-picture", lambda: apply(picture[..., 0], parameters)),
        ("parameters-format", lambda: apply(picture, parameters | {"format": 9})),
        ("bad-parameters", lambda: apply(picture, parameters | {"stages": [{"stage": "blur"}]})),
        (
            "bad-parameters",
            lambda: apply(picture, parameters | {"stages": [{"stage": "soften", "sigma": [1]}]}),
        ),
        ("unknown-stage", lambda: apply(picture, parameters | {"stages": [{"stage": "melt"}]})),
        ("bad-picture", lambda: sample(load_recipe("apisr"), np.random.default_rng(0), 0, 10)),
    ):
        with pytest.raises(InputError) as caught:
            request()
        assert caught.value.code == code


def test_tv_draws_all_that_it_names_and_ends_in_codecs() -> None:
    """One to four generations; softness in pixels of the low picture; every stage and codec is drawn at some time."""
    seen: Counter[str] = Counter()
    generations: Counter[int] = Counter()
    recipe = load_recipe("tv", scale=2)
    for parameters in draws("tv", 2, 1500):
        stages = parameters["stages"]
        generations[sum(stage["stage"] == "compress" for stage in stages)] += 1
        for stage in stages:
            seen[stage["stage"] if stage["stage"] != "analog" else stage["kind"]] += 1
            if stage["stage"] == "soften":
                assert 0.2 * 2 <= stage["sigma"][0] <= 1.35 * 2
            if stage["stage"] == "compress":
                seen[stage["codec"]] += 1
                assert not ("grain" in stage and stage["codec"] in ("jpeg", "webp"))
    expected = {
        stage.stage if stage.stage != "analog" else stage.kind for part in recipe.passes for stage in part.stages
    }
    assert expected <= set(seen)
    assert {"jpeg", "webp", "mpeg2", "mpeg4", "h264", "h265"} <= set(seen)
    assert set(generations) <= {0, 1, 2, 3}
    assert generations[0] < 0.05 * 1500
    assert generations[3] > 20
