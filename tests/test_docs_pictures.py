"""The script that makes the pictures of the documents: crops lie where they should, and what is shown is small."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from apisr.image import read_rgb

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.skipif(not (ROOT / "validation").is_dir(), reason="the validation scenes are not here")


@pytest.fixture(scope="module")
def pictures(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("pictures")


@pytest.mark.parametrize("row, centre", [("clean_x2", (392, 166)), ("clean_x4", (90, 40)), ("old_x2", (1203, 651))])
def test_a_crop_is_the_same_place_of_the_whole(pictures: ModuleType, row: str, centre: tuple[int, int]) -> None:
    crop = pictures.Crop(row, "03", centre, (160, 136))
    low = read_rgb(pictures.SMALL / row / "03.webp")
    truth = read_rgb(pictures.SMALL / "gt" / "03.webp")
    found = pictures.upscalers(crop.scale)
    whole = found["lanczos"].apply(low)
    cut = pictures._cut("lanczos", crop, low, truth, found)
    original = pictures._cut("original", crop, low, truth, found)
    places = [
        (y, x)
        for y in range(max(0, centre[1] - 72), max(0, centre[1] - 68) + 4)
        for x in range(centre[0] - 84, centre[0] - 76)
        if np.array_equal(whole[y : y + 136, x : x + 160], cut)
    ]
    assert len(places) == 1
    y, x = places[0]
    np.testing.assert_array_equal(truth[y : y + 136, x : x + 160], original)
    assert pictures._cut("input", crop, low, truth, found).shape == cut.shape


def test_a_panel_has_a_cell_for_each_way(pictures: ModuleType) -> None:
    panel = pictures._panel(
        pictures.Crop("web_x2", "03", (392, 166)), ("input", "lanczos", "original"), zoom=2, columns=2
    )
    assert panel.shape == (2 * (2 * 140 + pictures.LABEL_PX + pictures.GAP_PX), 2 * (2 * 160 + pictures.GAP_PX), 3)


def test_what_is_shown_is_small_and_moves() -> None:
    images = ROOT / "docs" / "images"
    with Image.open(images / "clip.webp") as clip:
        assert clip.n_frames >= 24
    assert (images / "clip.webp").stat().st_size < 1_500_000
    assert (images / "before-after.webp").stat().st_size < 500_000
