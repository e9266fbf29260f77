"""How soft a source is: constructed pictures of known edge width, and the strength that follows from it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from apisr.upscale.models import Networks
from apisr.upscale.options import UpscaleOptions
from apisr.upscale.softness import CRISP_PX, SOFT_PX, edge_width, median_width, picture_edge_width, strength_for
from apisr.weights import list_models


def drawing(sigma_px: float, *, noise: float = 0.0) -> np.ndarray:
    """Dark shapes on a light ground, drawn four times as large, reduced, and blurred by so many pixels."""
    generator = np.random.default_rng(5)
    large = np.full((960, 1280, 3), 230, np.uint8)
    for _ in range(24):
        centre = tuple(int(value) for value in generator.integers(80, 880, 2))
        radius, shade = int(generator.integers(30, 120)), int(generator.integers(20, 120))
        cv2.circle(large, centre, radius, (shade, shade, shade), -1, cv2.LINE_AA)
    small = cv2.resize(large, (320, 240), interpolation=cv2.INTER_AREA).astype(np.float32)
    if sigma_px:
        small = cv2.GaussianBlur(small, (0, 0), sigma_px)
    return np.clip(small + generator.normal(0, noise, small.shape), 0, 255).astype(np.uint8)


def test_the_width_grows_with_the_blur_and_noise_does_not_move_it_far() -> None:
    widths = [edge_width(drawing(sigma)) for sigma in (0.0, 0.6, 0.9, 1.3)]
    assert all(width is not None for width in widths)
    assert widths == sorted(widths)  # type: ignore[type-var]
    noisy = edge_width(drawing(0.9, noise=2.0))
    assert noisy == pytest.approx(widths[2], rel=0.12)


def test_crisp_pictures_get_strength_0_and_soft_ones_1() -> None:
    assert strength_for(edge_width(drawing(0.0))) == 0
    assert strength_for(edge_width(drawing(1.1))) == 1
    assert strength_for((CRISP_PX + SOFT_PX) / 2) == 0.5
    assert strength_for(None) == 0


def test_blurred_parts_do_not_make_a_crisp_picture_soft() -> None:
    for crisp_columns in (160, 72):
        picture = drawing(2.5)
        picture[:, :crisp_columns] = drawing(0.0)[:, :crisp_columns]
        assert strength_for(edge_width(picture)) == 0, crisp_columns


def test_pictures_without_edges_say_nothing() -> None:
    assert edge_width(np.full((64, 64, 3), 90, np.uint8)) is None
    assert edge_width(np.zeros((3, 3, 3), np.uint8)) is None
    assert median_width([np.zeros((32, 32, 3), np.uint8)]) is None


def test_depth_channels_and_scale_of_the_array_do_not_matter() -> None:
    picture = drawing(0.8)
    expected = edge_width(picture)
    assert picture_edge_width(picture) == expected
    assert picture_edge_width(picture.astype(np.uint16) * 257) == pytest.approx(expected, rel=1e-6)
    assert picture_edge_width(np.concatenate([picture, picture[..., :1]], axis=2)) == expected
    assert picture_edge_width(picture[..., :1]) == pytest.approx(expected, rel=0.02)


def test_real_validation_rows_are_told_apart(shared: Path) -> None:
    from apisr.image import read_rgb

    strengths = {
        row: [strength_for(edge_width(read_rgb(path))) for path in sorted((shared / "data/val" / row).glob("*.png"))]
        for row in ("clean_x2", "web_x2", "old_x2", "clean_x4", "old_x4")
    }
    for row, values in strengths.items():
        mean = float(np.mean(values))
        assert mean > 0.95 if row.startswith("old") else mean < 0.12, (row, mean)


@pytest.mark.parametrize("source", ["auto", "crisp", "soft"])
def test_the_model_follows_the_source(source: str) -> None:
    pairs = [model for model in list_models() if model.card.get("soft_twin")]
    assert pairs, "no shipped model has weights for soft sources"
    for model in pairs:
        networks = Networks(UpscaleOptions(model=model.name, source=source))  # type: ignore[arg-type]
        crisp, soft = (networks.model_for(None, lambda width=width: width).sha256 for width in (1.5, 2.6))
        twin = next(known for known in list_models() if known.name == f"{model.name}-vivid")
        expected = {"auto": (model.sha256, twin.sha256), "crisp": (model.sha256,) * 2, "soft": (twin.sha256,) * 2}
        assert (crisp, soft) == expected[source]


def test_a_strength_that_is_given_wins() -> None:
    model = next(model for model in list_models() if model.card.get("soft_twin"))
    networks = Networks(UpscaleOptions(model=model.name, strength=0.0, source="soft"))
    assert networks.model_for(None, lambda: 9.0).sha256 == model.sha256
