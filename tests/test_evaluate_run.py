"""apisr evaluate on small real files: scores, pairing, clips, determinism, and what bad input is told."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from apisr import metrics
from apisr.core.errors import InputError, MissingExtra
from apisr.evaluate import EvaluateOptions, evaluate, read_report, write_report
from apisr.evaluate.compare import compare
from apisr.evaluate.crops import busiest_window
from apisr.evaluate.inputs import find_entries
from apisr.evaluate.protocols import PROTOCOLS
from apisr.evaluate.statistics import summarise
from apisr.image import read_rgb, write_picture
from apisr.metrics.registry import open_metric

FAST = ("psnr", "ssim")


@contextlib.contextmanager
def refused(code: str) -> Iterator[None]:
    """Expect an error of bad input with a code."""
    with pytest.raises(InputError) as error:
        yield
    assert error.value.code == code


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures as truth (one in a folder below), halves of them, and two sets of outputs."""
    root = tmp_path_factory.mktemp("evaluate")
    for index, name in enumerate(("a", "deep/b", "c")):
        rng = np.random.default_rng(index)
        picture = np.full((120, 160, 3), 215, np.uint8)
        for _ in range(8):
            start, end = rng.integers(0, 120, 2), rng.integers(0, 120, 2)
            cv2.line(picture, tuple(map(int, start)), tuple(map(int, end)), (30, 20, 40), 3, cv2.LINE_AA)
        cv2.circle(picture, (110, 60), 30, (int(rng.integers(0, 255)), 90, 160), -1)
        write_picture(root / "truth" / f"{name}.png", picture)
        write_picture(root / "low" / f"{name}.png", cv2.resize(picture, (80, 60), interpolation=cv2.INTER_AREA))
        write_picture(root / "soft" / f"{name}.png", cv2.GaussianBlur(picture, (0, 0), 1.5))
        write_picture(root / "sharp" / f"{name}.png", cv2.GaussianBlur(picture, (0, 0), 0.7))
    return root


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of 12 frames as pictures: the drawing changes every third frame, the outputs carry a little noise."""
    root = tmp_path_factory.mktemp("clips")
    for clip in ("one", "two"):
        rng = np.random.default_rng(len(clip))
        for frame in range(12):
            picture = np.full((64, 96, 3), 200, np.uint8)
            cv2.circle(picture, (20 + 6 * (frame // 3), 30), 14, (20, 60, 160), 2, cv2.LINE_AA)
            write_picture(root / "truth" / clip / f"{frame:03d}.png", picture)
            noise = rng.integers(-3, 4, (64, 96, 1))
            write_picture(root / "out" / clip / f"{frame:03d}.png", (picture + noise).clip(0, 255).astype(np.uint8))
    return root


def test_scores_are_those_of_the_metrics(folders: Path) -> None:
    report = evaluate(folders / "soft", reference=folders / "truth").report
    assert [score.name for score in report.pictures] == ["a", "c", "deep/b"]
    output, truth = read_rgb(folders / "soft/deep/b.png"), read_rgb(folders / "truth/deep/b.png")
    values = report.pictures[2].values
    assert values["psnr"] == metrics.psnr(output, truth, border_px=8)
    assert values["ssim"] == metrics.ssim(output, truth, border_px=8)
    assert report.summary["psnr"].mean == pytest.approx(np.mean([score.values["psnr"] for score in report.pictures]))
    assert report.summary["psnr"].count == 3


def test_a_value_that_does_not_exist_is_absent_with_the_reason(folders: Path) -> None:
    report = evaluate(folders / "truth", reference=folders / "truth").report
    assert "psnr" not in report.summary
    assert "identical" in report.absent["psnr"]
    assert report.absent["niqe"].startswith("3 of 3: NIQE needs")
    assert report.summary["ssim"].mean == 1.0
    assert "NaN" not in report.to_json()
    assert "Infinity" not in report.to_json()


def test_a_model_enlarges_first(folders: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    report = evaluate(
        folders / "low",
        reference=folders / "truth",
        model="lanczos",
        options=EvaluateOptions(metrics=FAST, outputs=kept),
    ).report
    assert report.model is not None
    assert (report.model.name, report.model.scale) == ("lanczos", 2)
    again = evaluate(kept, reference=folders / "truth", options=EvaluateOptions(metrics=FAST)).report
    assert [score.values for score in again.pictures] == [score.values for score in report.pictures]
    bicubic = evaluate(
        folders / "low", reference=folders / "truth", model="bicubic", options=EvaluateOptions(metrics=FAST)
    ).report
    assert bicubic.pictures[0].values != report.pictures[0].values


def test_a_shipped_network_beats_repeated_pixels(folders: Path) -> None:
    network = evaluate(
        folders / "low", reference=folders / "truth", model="apisr-x2-fast", options=EvaluateOptions(metrics=["psnr"])
    ).report
    repeated = evaluate(
        folders / "low", reference=folders / "truth", model="nearest", options=EvaluateOptions(metrics=["psnr"])
    ).report
    assert network.model is not None
    assert re.fullmatch("[0-9a-f]{64}", network.model.sha256 or "")
    assert network.summary["psnr"].mean > repeated.summary["psnr"].mean + 1


def test_the_same_command_gives_the_same_report_but_for_the_time(folders: Path, tmp_path: Path) -> None:
    files = []
    for run in ("first", "second"):
        command = [sys.executable, "-m", "apisr", "evaluate", str(folders / "low"), "--model", "lanczos"]
        command += ["--reference", str(folders / "truth"), "-o", str(tmp_path / run), "--quiet"]
        made = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "PSNR (dB)" in made.stdout
        files.append(json.loads((tmp_path / run / "report.json").read_text(encoding="utf-8")))
        files[-1].pop("time")
    assert files[0] == files[1]


def test_reports_are_read_back_and_not_overwritten(folders: Path, tmp_path: Path) -> None:
    evaluation = evaluate(folders / "soft", reference=folders / "truth", options=EvaluateOptions(metrics=FAST))
    write_report(evaluation, tmp_path / "report")
    assert read_report(tmp_path / "report") == evaluation.report
    with refused("output-exists"):
        write_report(evaluation, tmp_path / "report")
    (tmp_path / "other.json").write_text('{"a": 1}')
    with refused("bad-report"):
        read_report(tmp_path / "other.json")


def test_the_page_holds_everything_itself(folders: Path, tmp_path: Path) -> None:
    evaluation = evaluate(folders / "low", reference=folders / "truth", model="lanczos")
    other = evaluate(folders / "soft", reference=folders / "truth").report
    _, html_file = write_report(evaluation, tmp_path, against=other)
    html = html_file.read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", html)
    assert "http" not in html.replace("http-equiv", "")
    assert html.count("<svg") == sum(
        name in evaluation.report.summary for name in PROTOCOLS["deterministic"].reference_metrics
    )
    assert all(f"<b>{role}</b>" in html for role in ("worst", "median", "best"))
    assert "Against the other report" in html
    assert html.count("data:image/png") == 3 * 5  # input, output and truth hidden for choosing, two shown


def test_paired_differences_see_what_the_means_hide(folders: Path) -> None:
    soft = evaluate(folders / "soft", reference=folders / "truth", options=EvaluateOptions(metrics=FAST)).report
    sharp = evaluate(folders / "sharp", reference=folders / "truth", options=EvaluateOptions(metrics=FAST)).report
    difference = compare(sharp, soft).differences["psnr"]
    assert difference.better == 3
    assert difference.summary.mean == pytest.approx(sharp.summary["psnr"].mean - soft.summary["psnr"].mean)
    assert difference.summary.low is not None
    assert difference.summary.low > 0
    moved = evaluate(folders / "soft", reference=folders / "sharp", options=EvaluateOptions(metrics=FAST)).report
    with refused("not-comparable"):
        compare(sharp, moved)
    paper = evaluate(
        folders / "soft", reference=folders / "truth", options=EvaluateOptions(metrics=FAST, protocol="paper")
    ).report
    with refused("not-comparable"):
        compare(sharp, paper)


def test_clips_score_every_tenth_frame_and_the_flicker_of_held_drawings(clips: Path) -> None:
    report = evaluate(
        clips / "out", reference=clips / "truth", options=EvaluateOptions(layout="clips", metrics=FAST)
    ).report
    assert [score.name for score in report.pictures] == ["one/00000", "one/00010", "two/00000", "two/00010"]
    assert [(clip.name, clip.frames, clip.scored) for clip in report.clips] == [("one", 12, 2), ("two", 12, 2)]
    first, second = (metrics.luma(read_rgb(clips / "out/one" / f"{frame:03d}.png"))[8:-8, 8:-8] for frame in (0, 1))
    tenth, next_one = (metrics.luma(read_rgb(clips / "out/one" / f"{frame:03d}.png"))[8:-8, 8:-8] for frame in (10, 11))
    expected = (np.abs(first - second).mean() + np.abs(tenth - next_one).mean()) / 2
    assert report.clips[0].values["flicker"] == pytest.approx(expected)
    still = evaluate(
        clips / "truth", reference=clips / "truth", options=EvaluateOptions(layout="clips", metrics=["ssim"])
    ).report
    assert still.summary["flicker"].maximum == 0


def test_clips_without_knowledge_of_drawings_have_no_flicker(clips: Path) -> None:
    report = evaluate(clips / "out", options=EvaluateOptions(layout="clips", metrics=["niqe"])).report
    assert "flicker" not in report.summary
    assert "not known which frames" in report.absent["flicker"]


def test_videos_and_patterns(shared: Path) -> None:
    root = shared / "data" / "clips"
    entries, _ = find_entries([root / "*" / "low.mkv"], reference=root / "*" / "gt.mkv")
    assert [entry.name for entry in entries] == sorted(path.parent.name for path in root.glob("*/low.mkv"))
    protocol = PROTOCOLS["deterministic"].model_copy(update={"frame_step": 40})
    report = evaluate(
        root / "talk" / "low.mkv",
        reference=root / "talk" / "gt.mkv",
        model="lanczos",
        options=EvaluateOptions(metrics=["psnr"], protocol=protocol),
    ).report
    drawings = (root / "talk" / "drawings.txt").read_text().split()
    assert report.clips[0].frames == len(drawings)
    assert report.summary["psnr"].minimum > 25
    # A lossless clip shows one drawing with identical pixels.
    assert report.clips[0].values["flicker"] == 0


def test_avc_reallq_is_counted(tmp_path: Path) -> None:
    tiny = np.zeros((8, 8, 3), np.uint8)
    write_picture(tmp_path / "set" / "0" / "00000.png", tiny)
    with refused("incomplete-set"):
        find_entries([tmp_path / "set"], layout="avc-reallq")
    data = (tmp_path / "set" / "0" / "00000.png").read_bytes()
    for clip in range(46):
        (tmp_path / "set" / str(clip)).mkdir(exist_ok=True)
        for frame in range(100 - (clip == 7)):
            (tmp_path / "set" / str(clip) / f"{frame:05d}.png").write_bytes(data)
    with refused("incomplete-set"):
        find_entries([tmp_path / "set"], layout="avc-reallq")
    (tmp_path / "set" / "7" / "00099.png").write_bytes(data)
    entries, _ = find_entries([tmp_path / "set"], layout="avc-reallq")
    assert len(entries) == 46
    assert [file.name for file in entries[0].source.files[:2]] == ["00000.png", "00001.png"]


def test_bad_input_is_named(folders: Path, tmp_path: Path) -> None:
    with refused("cannot-read"):
        evaluate(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with refused("no-pictures"):
        evaluate(tmp_path / "empty")
    with refused("size-mismatch"):
        evaluate(folders / "low", reference=folders / "truth")
    some = tmp_path / "some"
    some.mkdir()
    (some / "a.png").write_bytes((folders / "soft/a.png").read_bytes())
    with refused("no-pairs"):
        evaluate(some, reference=folders / "truth")
    report = evaluate(
        some, reference=folders / "truth", options=EvaluateOptions(allow_missing=True, metrics=FAST)
    ).report
    assert report.notices == ["left out, 2 references without a picture: c, deep/b"]
    (some / "a.png").write_bytes((folders / "soft/a.png").read_bytes()[:300])
    with pytest.raises(InputError):
        evaluate(some, reference=folders / "truth", options=EvaluateOptions(allow_missing=True))


def test_metric_names_are_checked_before_any_work(folders: Path) -> None:
    for names, code in ((["maniqa"], "ambiguous-metric"), (["nique"], "unknown-metric"), (["psnr"], "needs-reference")):
        with refused(code):
            evaluate(folders / "soft", options=EvaluateOptions(metrics=names))
    with refused("needs-scale"):
        evaluate(folders / "low", model="lanczos")


def test_learned_metrics_need_the_extra_when_asked_for_and_are_absent_otherwise(folders: Path) -> None:
    try:
        open_metric("clipiqa", border_px=0)
    except MissingExtra as error:
        assert error.extra == "eval"  # noqa: PT017 - which error it is depends on what is installed
    except metrics.Undefined as reason:
        pytest.skip(f"pyiqa is installed, its weights are not: {reason}")
    else:
        pytest.skip("pyiqa and its weights are installed")
    report = evaluate(folders / "soft", reference=folders / "truth", options=EvaluateOptions(protocol="paper")).report
    assert "eval" in report.absent["clipiqa"]
    assert "psnr" in report.summary


def test_st_lpips_is_that_of_its_authors() -> None:
    pytest.importorskip("stlpips_pytorch", reason="the package with the weights is not installed")
    folder = Path(__file__).parent / "data" / "metrics"
    metric = open_metric("st-lpips", border_px=0)
    high, low = read_rgb(folder / "high.png"), read_rgb(folder / "blurred.png")
    golden = json.loads((folder / "golden.json").read_text())["st-lpips"]["blurred/high"]
    assert metric.score(low, high) == pytest.approx(golden, rel=1e-4)
    assert metric.score(high, high) == 0


def test_crops_are_the_same_for_a_picture_whatever_else_is_scored() -> None:
    protocol = PROTOCOLS["deterministic"]
    one = protocol.crops_of("x", height=400, width=500)
    assert one == protocol.crops_of("x", height=400, width=500)
    assert one != protocol.crops_of("y", height=400, width=500)
    assert one != protocol.model_copy(update={"seed": 1}).crops_of("x", height=400, width=500)
    assert len(one) == 5
    assert all(crop.top_px + 224 <= 400 and crop.left_px + 224 <= 500 for crop in one)
    assert protocol.crops_of("x", height=200, width=500) == ()


def test_intervals_draw_clips_as_a_whole() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 5, 6)
    values = {f"{clip}/{frame}": float(centres[clip] + rng.normal(0, 0.1)) for clip in range(6) for frame in range(50)}
    protocol = PROTOCOLS["deterministic"].model_copy(update={"resamples": 500})
    apart = summarise(values, clips={}, protocol=protocol)
    whole = {name: name.split("/")[0] for name in values}
    together = summarise(values, clips=whole, protocol=protocol)
    assert apart.mean == together.mean
    assert together.high is not None
    assert together.low is not None
    assert apart.high is not None
    assert apart.low is not None
    assert together.high - together.low > 3 * (apart.high - apart.low)
    assert summarise({"a": 1.0}, clips={}, protocol=protocol).low is None


def test_the_shown_crop_is_where_the_difference_is() -> None:
    difference = np.zeros((600, 900, 3))
    difference[350:380, 620:650] = 10
    top, left = busiest_window(difference, width_px=200, height_px=150)
    assert 230 <= top <= 350
    assert 450 <= left <= 620
    assert busiest_window(np.ones((20, 30, 3)), width_px=200, height_px=150) == (0, 0)
