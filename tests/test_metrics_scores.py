"""The scores of apisr.metrics: golden numbers, agreement with scikit-image, and what must hold for any picture."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from apisr import metrics
from apisr.core.errors import InputError
from apisr.image import read_rgb


def drawing(height: int = 240, width: int = 320, line_px: int = 3) -> np.ndarray:
    """Flat colours with dark lines, and a textured part: small, and like what is scored."""
    rng = np.random.default_rng(7)
    picture = np.full((height, width, 3), (230, 215, 190), np.uint8)
    cv2.rectangle(picture, (20, 20), (150, 130), (120, 170, 220), -1)
    for start in range(30, width - 30, 24):
        cv2.line(picture, (start, 20), (width - start, height - 20), (25, 20, 30), line_px, cv2.LINE_AA)
    cv2.circle(picture, (width - 80, 80), 40, (30, 20, 20), line_px, cv2.LINE_AA)
    picture[height // 2 :, : width // 2] = np.clip(
        picture[height // 2 :, : width // 2] + rng.normal(0, 20, (height - height // 2, width // 2, 1)), 0, 255
    )
    return picture


def blurred(picture: np.ndarray, sigma: float = 1.2) -> np.ndarray:
    return cv2.GaussianBlur(picture, (0, 0), sigma)


@pytest.mark.parametrize("border_px", [0, 8])
def test_psnr_and_ssim_agree_with_scikit_image(border_px: int) -> None:
    high = drawing()
    low = blurred(high)
    cut = slice(border_px, -border_px or None)
    ours = metrics.psnr(low, high, border_px=border_px), metrics.ssim(low, high, border_px=border_px)
    theirs = (
        peak_signal_noise_ratio(high[cut, cut], low[cut, cut], data_range=255),
        structural_similarity(high[cut, cut], low[cut, cut], channel_axis=2, data_range=255),
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(7, 40), st.integers(7, 40), st.integers(0, 2**32 - 1))
def test_ssim_agrees_with_scikit_image_on_any_picture(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, two = (rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(2))
    expected = structural_similarity(one, two, channel_axis=2, data_range=255)
    assert metrics.ssim(one, two) == pytest.approx(expected, abs=1e-10)
    assert metrics.ssim(two, one) == pytest.approx(metrics.ssim(one, two), abs=1e-12)
    assert metrics.ssim(one, one) == 1.0


def test_psnr_of_luma_is_that_of_studio_range() -> None:
    high = np.full((16, 16, 3), 100, np.uint8)
    # 10 levels of gray are 10 * 219 / 255 levels of luma.
    assert metrics.psnr(high + 10, high, channel="y") == pytest.approx(20 * np.log10(255 / (10 * 219 / 255)), abs=1e-4)


def test_identical_pictures_have_no_psnr_and_perfect_similarity() -> None:
    high = drawing()
    with pytest.raises(metrics.Undefined) as refused:
        metrics.psnr(high, high)
    assert refused.value.code == "pictures-identical"
    assert metrics.ssim(high, high) == 1.0
    assert metrics.ms_ssim(high, high) == pytest.approx(1.0, abs=1e-12)
    assert metrics.edge_f1(high, high) == metrics.EdgeScore(1.0, 1.0, 1.0)
    change = metrics.line_change(high, high)
    assert (change.change_px, change.lost_share) == (0.0, 0.0)
    assert change.points > 500


def test_different_sizes_are_an_error_that_names_both() -> None:
    with pytest.raises(InputError) as refused:
        metrics.psnr(np.zeros((20, 30, 3), np.uint8), np.zeros((20, 31, 3), np.uint8))
    assert refused.value.code == "size-mismatch"


def test_a_picture_smaller_than_the_border_has_no_score() -> None:
    small = np.zeros((16, 40, 3), np.uint8)
    with pytest.raises(metrics.Undefined) as refused:
        metrics.ssim(small, small, border_px=8)
    assert refused.value.code == "nothing-left"


def test_floats_are_refused() -> None:
    with pytest.raises(InputError) as refused:
        metrics.psnr(np.zeros((8, 8, 3)), np.zeros((8, 8, 3), np.uint8))  # type: ignore[arg-type]
    assert refused.value.code == "bad-picture"


def test_golden_scores_of_pyiqa(data: Path) -> None:
    """`golden.json`: scores that pyiqa 0.1.16 gave for the pictures beside it (its README says how)."""
    folder = data / "metrics"
    golden = json.loads((folder / "golden.json").read_text())
    pictures = {name: read_rgb(folder / f"{name}.png") for name in golden["niqe"]}
    for name, expected in golden["niqe"].items():
        assert metrics.niqe(pictures[name]) == pytest.approx(expected, rel=1e-3), name
    for pair, expected in golden["ms_ssim"].items():
        output, reference = pair.split("/")
        assert metrics.ms_ssim(pictures[output], pictures[reference]) == pytest.approx(expected, abs=1e-5), pair


def test_niqe_agrees_with_pyiqa_where_it_is_installed(data: Path, tmp_path: Path) -> None:
    pyiqa = pytest.importorskip("pyiqa", exc_type=ImportError)
    scipy_io = pytest.importorskip("scipy.io")
    torch = pytest.importorskip("torch")
    from importlib import resources

    with np.load(str(resources.files("apisr.metrics") / "niqe_parameters.npz")) as arrays:
        scipy_io.savemat(
            tmp_path / "parameters.mat", {"mu_prisparam": arrays["mean"][None], "cov_prisparam": arrays["covariance"]}
        )
    theirs = pyiqa.create_metric("niqe", device="cpu", pretrained_model_path=str(tmp_path / "parameters.mat"))
    for name in ("high", "blurred"):
        picture = read_rgb(data / "metrics" / f"{name}.png")
        tensor = torch.from_numpy(picture.astype(np.float32) / 255).permute(2, 0, 1)[None]
        assert metrics.niqe(picture) == pytest.approx(float(theirs(tensor)), rel=1e-3)


def test_niqe_says_why_it_has_no_value() -> None:
    with pytest.raises(metrics.Undefined) as refused:
        metrics.niqe(np.zeros((100, 100, 3), np.uint8))
    assert refused.value.code == "picture-too-small"
    with pytest.raises(metrics.Undefined) as refused:
        metrics.niqe(np.full((200, 200, 3), 80, np.uint8))
    assert refused.value.code == "all-flat"


def test_edges_that_are_lost_lower_recall_and_invented_ones_precision() -> None:
    high = drawing()
    lost = high.copy()
    lost[:, 160:] = high[0, 0]
    added = high.copy()
    for row in range(4, 240, 6):
        added[row, 160:] = 0
    assert metrics.edge_f1(lost, high).recall < 0.8 < metrics.edge_f1(lost, high).precision
    assert metrics.edge_f1(added, high).precision < 0.8
    flat = np.full_like(high, 9)
    assert metrics.edge_f1(flat, high).f1 == 0
    with pytest.raises(metrics.Undefined) as refused:
        metrics.edge_f1(high, flat)
    assert refused.value.code == "no-edges"


def lines(width_px: float) -> np.ndarray:
    """Slanted lines and circles of exact width, drawn eight times too large and averaged down."""
    large = np.full((240 * 8, 320 * 8), 220, np.uint8)
    thickness = round(8 * width_px)
    for start in range(20, 320, 40):
        cv2.line(large, (8 * start, 0), (8 * (start + 25), 240 * 8), 20, thickness)
    cv2.circle(large, (8 * 160, 8 * 120), 8 * 90, 20, thickness)
    small = cv2.resize(large, (320, 240), interpolation=cv2.INTER_AREA)
    return np.repeat(small[..., None], 3, axis=2)


def test_line_change_measures_thicker_thinner_and_lost_lines() -> None:
    high = lines(2.5)
    assert metrics.line_change(high, high).width_px == pytest.approx(2.5, abs=0.25)
    assert metrics.line_change(lines(4), high).change_px == pytest.approx(1.5, abs=0.25)
    assert metrics.line_change(lines(1.5), high).change_px == pytest.approx(-1, abs=0.25)
    faint = (high.astype(np.float32) * 0.1 + 200).astype(np.uint8)
    assert metrics.line_change(np.where(np.arange(320)[None, :, None] < 160, high, faint), high).lost_share > 0.3
    with pytest.raises(metrics.Undefined) as refused:
        metrics.line_change(high, np.full_like(high, 128))
    assert refused.value.code == "no-lines"


def test_flicker_counts_only_neighbours_that_show_the_same_drawing() -> None:
    one = np.full((20, 20, 3), 100, np.uint8)
    assert metrics.flicker([one, one + 4, one + 90, one + 90], [0, 0, 1, 1]) == pytest.approx(2.0)
    with pytest.raises(metrics.Undefined) as refused:
        metrics.flicker([one, one], [0, 1])
    assert refused.value.code == "no-held-drawing"
    with pytest.raises(InputError) as refused:
        metrics.flicker([one, one], [0])
    assert refused.value.code == "drawings-count"


@settings(max_examples=20, deadline=None)
@given(st.floats(0.4, 2.5), st.floats(0.1, 1.0))
def test_more_blur_is_never_better(sigma: float, more: float) -> None:
    high = drawing()
    less_blurred, more_blurred = blurred(high, sigma), blurred(high, sigma + more)
    assert metrics.psnr(more_blurred, high) < metrics.psnr(less_blurred, high)
    assert metrics.ssim(more_blurred, high) < metrics.ssim(less_blurred, high)
    assert metrics.ms_ssim(more_blurred, high) < metrics.ms_ssim(less_blurred, high)
