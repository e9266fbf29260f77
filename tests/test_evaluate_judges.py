"""Scores of odd files against scikit-image and ffmpeg, and what of a file is not scored is said."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from error_codes import raises_code
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from apisr.evaluate import EvaluateOptions, evaluate
from apisr.evaluate.report import Report, read_report

#: What the protocol cuts at each side.
BORDER = 8
KINDS = ["rgb", "rgb16", "gray", "gray16", "rgba", "rgba16", "palette", "jpeg", "one bit"]


def pictures(kind: str, seed: int, size: tuple[int, int]) -> np.ndarray:
    """Pixels as the file is to hold them (OpenCV's order)."""
    rng = np.random.default_rng(seed)
    height, width = size
    channels = {"gray": 1, "gray16": 1, "rgba": 4, "rgba16": 4}.get(kind, 3)
    small = rng.random((-(-height // 8), -(-width // 8), channels))
    values = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).reshape(height, width, channels)
    peak, dtype = (65535, np.uint16) if kind.endswith("16") else (255, np.uint8)
    return (np.clip(values + rng.normal(0, 0.02, values.shape), 0, 1) * peak).round().astype(dtype)


def write(path: Path, kind: str, values: np.ndarray) -> Path:
    if kind == "palette":
        path = path.with_suffix(".gif")
        Image.fromarray(values[..., ::-1]).quantize(64).save(path)
    elif kind == "one bit":
        Image.fromarray(values[..., ::-1]).convert("1").save(path)
    elif kind == "jpeg":
        path = path.with_suffix(".jpg")
        Image.fromarray(values[..., ::-1]).save(path, quality=95, subsampling=0)
    else:
        cv2.imwrite(str(path), values)
    return path


def read_by_others(path: Path) -> np.ndarray:
    """RGB, 8 bit, alpha over white: by OpenCV (or Pillow) and the definition, not by our reader."""
    if path.suffix in (".gif", ".jpg"):
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert values is not None
    unit = np.atleast_3d(values).astype(np.float64) / np.iinfo(values.dtype).max
    colours, alpha = (unit[..., :3], unit[..., 3:]) if unit.shape[2] == 4 else (unit, 1.0)
    white = np.repeat(colours, 3, axis=2) if colours.shape[2] == 1 else colours[..., ::-1]
    return np.rint((white * alpha + (1 - alpha)) * 255).astype(np.uint8)


def scored(output: Path, reference: Path, metrics: tuple[str, ...] = ("psnr", "ssim")) -> Report:
    return evaluate(output, reference=reference, options=EvaluateOptions(metrics=metrics)).report


@pytest.mark.parametrize("size", [(96, 128), (97, 131), (23, 300), (31, 24)])
@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_scikit_image(tmp_path: Path, kind: str, size: tuple[int, int]) -> None:
    paths = [write(tmp_path / f"{name}.png", kind, pictures(kind, seed, size)) for seed, name in enumerate("ab")]
    report = scored(*paths)
    first, second = (read_by_others(path)[BORDER:-BORDER, BORDER:-BORDER] for path in paths)
    values = report.pictures[0].values
    # A level of difference where alpha is laid over white or 16 bits are rounded moves PSNR by less than this.
    assert values["psnr"] == pytest.approx(peak_signal_noise_ratio(second, first), abs=0.02)
    expected = structural_similarity(first, second, channel_axis=2, data_range=255)
    assert values["ssim"] == pytest.approx(expected, abs=0.001)
    assert any("alpha" in line for line in report.notices) == (kind in ("rgba", "rgba16"))
    assert any("16 bits" in line for line in report.notices) == kind.endswith("16")


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not here")
@pytest.mark.parametrize("size", [(96, 128), (98, 130)])
def test_psnr_is_that_of_ffmpeg(tmp_path: Path, size: tuple[int, int]) -> None:
    paths = [write(tmp_path / f"{name}.png", "rgb", pictures("rgb", seed, size)) for seed, name in enumerate("ab")]
    cut = f"format=gbrp,crop=iw-{2 * BORDER}:ih-{2 * BORDER}:{BORDER}:{BORDER}"
    graph = f"[0:v]{cut}[a];[1:v]{cut}[b];[a][b]psnr"
    call = ["ffmpeg", "-hide_banner", "-i", *map(str, (paths[0], "-i", paths[1])), "-lavfi", graph, "-f", "null", "-"]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    found = re.search(r"average:([\d.]+)", done.stderr)
    assert found
    assert scored(*paths).pictures[0].values["psnr"] == pytest.approx(float(found[1]), abs=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (5, 5), (1, 2000), (16, 16), (17, 17), (22, 40)])
def test_what_is_too_small_for_a_window_has_no_value_and_a_reason(tmp_path: Path, size: tuple[int, int]) -> None:
    paths = [write(tmp_path / f"{name}.png", "rgb", pictures("rgb", seed, size)) for seed, name in enumerate("ab")]
    report = scored(*paths, ("psnr", "ssim", "ms_ssim", "niqe"))
    left = min(size) - 2 * BORDER
    absent = set(report.absent)
    assert ("psnr" in absent) == (left < 1)
    assert ("ssim" in absent) == (left < 7)
    assert {"ms_ssim", "niqe"} <= absent
    if left >= 1:
        first, second = (read_by_others(path)[BORDER:-BORDER, BORDER:-BORDER] for path in paths)
        assert report.pictures[0].values["psnr"] == pytest.approx(peak_signal_noise_ratio(second, first), abs=1e-6)


def test_pictures_that_differ_in_alpha_alone_are_not_called_the_same(tmp_path: Path) -> None:
    values = pictures("rgba", 0, (64, 64))
    values[..., 3] = 255
    first = write(tmp_path / "a.png", "rgba", values)
    values[16:48, 16:48, 3] = 0
    second = write(tmp_path / "b.png", "rgba", values)
    report = scored(first, second)
    assert report.pictures[0].values["psnr"] < 30
    assert any("alpha" in line for line in report.notices)


def test_animations_are_scored_by_their_first_frame_and_it_is_said(tmp_path: Path) -> None:
    frames = [Image.fromarray(pictures("rgb", seed, (64, 64))) for seed in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    cv2.imwrite(str(tmp_path / "b.png"), np.asarray(frames[0])[..., ::-1])
    assert any("first frame" in line for line in scored(tmp_path / "a.gif", tmp_path / "b.png").notices)


@pytest.mark.parametrize("value", ["-1e308", "1e13", "NaN", "1e999", "null"])
def test_values_that_no_metric_gives_are_refused(tmp_path: Path, value: str) -> None:
    paths = [write(tmp_path / f"{name}.png", "rgb", pictures("rgb", seed, (64, 64))) for seed, name in enumerate("ab")]
    report = scored(*paths)
    psnr = report.pictures[0].values["psnr"]
    text = report.to_json().replace(f'"psnr": {psnr}', f'"psnr": {value}')
    assert text != report.to_json()
    (tmp_path / "report.json").write_text(text)
    with raises_code("bad-report"):
        read_report(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="needs pipes")
def test_what_of_a_folder_is_not_scored_is_said(tmp_path: Path) -> None:
    for name in ("outputs", "truth"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "a.png", "rgb", pictures("rgb", 0, (64, 64)))
    os.mkfifo(tmp_path / "outputs" / "pipe.png")
    (tmp_path / "outputs" / "dead.png").symlink_to("nowhere.png")
    (tmp_path / "outputs" / "notes.txt").write_text("notes")
    report = scored(tmp_path / "outputs", tmp_path / "truth")
    other, strange = [line for line in report.notices if "left out" in line]  # a line for each reason
    assert other.endswith(": notes.txt")
    assert strange.endswith(": dead.png, pipe.png")
