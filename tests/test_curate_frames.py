"""What is noticed about frames: empty, barred, combed, in a fade, written on; scores; duplicates."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from curate_clips import scene
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from apisr.core.errors import InputError
from apisr.curate.complexity import (
    UNDEFINED_SCORE,
    ClassicalScorer,
    MetricScorer,
    classical_complexity,
    icnet_input,
    open_scorer,
)
from apisr.curate.duplicates import fingerprint, first_of_each, same_drawing
from apisr.curate.frames import BarFinder, bars, combed_share, find_writing, in_fade, picture_flags
from apisr.metrics import niqe


def gray(picture: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)


def test_empty_pictures() -> None:
    noise = np.random.default_rng(0).normal(0, 2, (90, 160, 3))
    assert picture_flags(np.clip(16 + noise, 0, 255).astype(np.uint8)) == ("black",)
    assert picture_flags(np.clip(250 + noise, 0, 255).astype(np.uint8)) == ("white",)
    assert picture_flags(np.clip(120 + noise, 0, 255).astype(np.uint8)) == ("flat",)
    assert picture_flags(scene(0)) == ()


@settings(max_examples=25, deadline=None)
@given(top=st.integers(0, 60), bottom=st.integers(0, 60), left=st.integers(0, 90), right=st.integers(0, 90))
def test_bars_are_found_exactly(top: int, bottom: int, left: int, right: int) -> None:
    rng = np.random.default_rng(top * 7 + left)
    finder = BarFinder()
    for seed in (0, 1, 2):
        luma = np.maximum(gray(scene(seed, width=640, height=360)), 60)
        luma[:top] = luma[360 - bottom :] = luma[:, :left] = luma[:, 640 - right :] = 0
        luma = np.clip(luma + rng.integers(0, 12, luma.shape), 0, 255).astype(np.uint8)
        finder.add(luma)
    crop = finder.crop()
    assert crop is not None
    wanted = [
        top if top >= 2 else 0,
        bottom if bottom >= 2 else 0,
        left if left >= 3 else 0,
        right if right >= 3 else 0,
    ]
    assert [crop.top, 360 - crop.bottom, crop.left, 640 - crop.right] == wanted
    assert crop.cut(luma).shape == crop.size


def test_a_dark_frame_does_not_hide_the_picture() -> None:
    finder = BarFinder()
    finder.add(np.full((360, 640), 5, np.uint8))
    finder.add(np.maximum(gray(scene(3, width=640, height=360)), 60))
    finder.add(np.full((360, 640), 5, np.uint8))
    crop = finder.crop()
    assert crop is not None
    assert crop.size == (360, 640)


def test_a_title_on_black_is_no_bar() -> None:
    luma = np.zeros((360, 640), np.uint8)
    luma[150:200, 200:440] = 240
    assert bars(luma).size == (360, 640)


def test_combs() -> None:
    first = gray(scene(5, width=640, height=480))
    second = np.roll(first, 12, axis=1)
    woven = first.copy()
    woven[1::2] = second[1::2]
    assert combed_share(first) < 0.01
    assert combed_share(woven) > 0.15
    thin = np.full((480, 640), 200, np.uint8)
    thin[::24] = 20  # drawn lines of one pixel, far apart
    assert combed_share(thin) == 0


def fade(one: np.ndarray, other: np.ndarray, start: float, step: float) -> list[np.ndarray]:
    mixes = [min(start + step * number, 1.0) for number in range(5)]
    return [np.round((1 - mix) * one + mix * other).astype(np.uint8) for mix in mixes]


@pytest.mark.parametrize("seed", range(4))
def test_fades_and_what_is_none(seed: int) -> None:
    one, other = (cv2.resize(gray(scene(seed + add)), (96, 54), interpolation=cv2.INTER_AREA) for add in (0, 100))
    assert in_fade(fade(one, other, 0.3, 1 / 24))
    assert in_fade(fade(one, np.zeros_like(one), 0.5, 1 / 24))
    assert in_fade(fade(np.full_like(one, 255), one, 0.2, 1 / 16))
    assert not in_fade([one] * 5)
    wide = gray(scene(seed, width=1280, height=720))
    for pixels in (2, 6, 13):
        pan = [cv2.resize(np.roll(wide, pixels * n, axis=1), (96, 54), interpolation=cv2.INTER_AREA) for n in range(5)]
        assert not in_fade(pan), pixels
    zoom = [
        cv2.resize(wide[4 * n : 720 - 4 * n, 7 * n : 1280 - 7 * n], (96, 54), interpolation=cv2.INTER_AREA)
        for n in range(5)
    ]
    assert not in_fade(zoom)


def test_fades_of_a_real_clip(shared: Path) -> None:
    """The clip's list says which frames are mixed: 24 to 47 and 72 to 95."""
    import av

    with av.open(str(shared / "data" / "clips" / "fade" / "web.mkv")) as container:
        frames = [
            frame.reformat(width=96, height=54, format="gray", interpolation="AREA").to_ndarray()
            for frame in container.decode(video=0)
        ]
    found = {number for number in range(len(frames) - 4) if in_fade(frames[number : number + 5])}
    inside = {*range(24, 44), *range(72, 92)}  # five frames from these on lie in the fade
    assert inside <= found <= inside | {23, 44, 45, 71, 92, 93}


@pytest.mark.parametrize("clip", ["action", "flash", "grain", "pan", "returning", "talk"])
def test_no_fades_in_other_clips(shared: Path, clip: str) -> None:
    import av

    with av.open(str(shared / "data" / "clips" / clip / "web.mkv")) as container:
        frames = [
            frame.reformat(width=96, height=54, format="gray", interpolation="AREA").to_ndarray()
            for frame in container.decode(video=0)
        ]
    assert not any(in_fade(frames[number : number + 5]) for number in range(len(frames) - 4))


def written(picture: np.ndarray, lines: list[tuple[str, int]], size: int) -> np.ndarray:
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size)
    for text, y in lines:
        draw.text(
            (picture.shape[1] // 2, y), text, (255, 255, 255), font, anchor="mm", stroke_width=2, stroke_fill=(0, 0, 0)
        )
    return np.asarray(image)


def test_writing() -> None:
    clear = sum(bool(find_writing(scene(seed, width=1280, height=720)).lines) for seed in range(12))
    assert clear == 0
    for seed in range(6):
        picture = scene(seed, width=1280, height=720)
        subtitled = written(picture, [("I never said that it would be easy", 650)], 44)
        assert find_writing(subtitled).flags == ("subtitle",), seed
        roll = [("Key animation", 120), ("Harumi Watanabe", 200), ("Background painting", 280), ("Jirou Tanaka", 360)]
        assert find_writing(written(picture, roll, 40)).flags == ("credits",), seed


def test_no_writing_in_paintings(shared: Path) -> None:
    from apisr.image import read_rgb

    paths = sorted((shared / "data" / "val" / "gt").glob("*.png"))
    assert len(paths) == 24
    flagged = [path.name for path in paths if find_writing(read_rgb(path)).flags]
    assert flagged == []


def test_complexity_rises_with_detail() -> None:
    scores = [classical_complexity(scene(1, width=640, height=360, shapes=shapes)) for shapes in (0, 3, 12, 60)]
    assert scores == sorted(scores)
    assert 0 <= scores[0] < 0.05
    assert scores[-1] - scores[0] > 0.3
    large = scene(2, width=1280, height=720, shapes=40)
    small = cv2.resize(large, (640, 360), interpolation=cv2.INTER_AREA)
    assert abs(classical_complexity(large) - classical_complexity(small)) < 0.01


def test_grain_is_not_complexity() -> None:
    empty = np.full((360, 640, 3), 90, np.uint8)
    noise = np.random.default_rng(0).normal(0, 6, empty.shape)
    grainy = np.clip(empty + noise, 0, 255).astype(np.uint8)
    assert classical_complexity(grainy) < classical_complexity(scene(1, width=640, height=360)) - 0.2


def test_scorers_by_name() -> None:
    assert isinstance(open_scorer("classical"), ClassicalScorer)
    assert isinstance(open_scorer("niqe"), MetricScorer)
    picture = scene(4, width=320, height=256)
    assert open_scorer("niqe")(picture) == -niqe(picture) < 0
    assert open_scorer("niqe")(np.zeros((20, 20, 3), np.uint8)) == UNDEFINED_SCORE
    with pytest.raises(InputError) as unknown:
        open_scorer("clasical")
    assert unknown.value.code == "unknown-score"
    with pytest.raises(InputError) as absent:
        open_scorer("beauty")
    assert absent.value.code in ("unknown-metric", "missing-extra")
    with pytest.raises(InputError) as compares:
        open_scorer("psnr")
    assert compares.value.code == "needs-reference"
    values = icnet_input(picture)
    assert values.shape == (1, 3, 512, 512)
    assert values.dtype == np.float32


def test_duplicates() -> None:
    pictures = [scene(seed, width=640, height=360) for seed in range(30)]
    prints = [fingerprint(picture) for picture in pictures]
    assert first_of_each(prints) == [None] * 30
    for picture, print_ in zip(pictures, prints, strict=True):
        small = cv2.resize(picture, (320, 180), interpolation=cv2.INTER_AREA)
        coded = cv2.imdecode(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], 1)
        assert same_drawing(print_, fingerprint(np.clip(coded.astype(int) + 6, 0, 255).astype(np.uint8)))
    repeated = [*prints[:5], prints[2], prints[7], prints[2]]
    assert first_of_each(repeated) == [None, None, None, None, None, 2, None, 2]
