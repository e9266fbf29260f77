"""From files and folders to results: names, existing outputs, models, options that cannot apply, stops."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from video_clips import make_clip

from apisr.core.errors import InputError
from apisr.core.media import LeftOut, left_out_lines
from apisr.core.progress import Cancel, Progress
from apisr.image import read_picture, write_picture
from apisr.upscale import dry_run
from apisr.upscale.dry_run import DryRun
from apisr.upscale.jobs import plan_jobs, run_jobs
from apisr.upscale.models import Networks, fast_notice
from apisr.upscale.options import PictureOptions, UpscaleOptions, VideoOptions
from apisr.upscale.results import JobResult, RunReport
from apisr.weights import resolve_model

FAST = VideoOptions(preset="ultrafast", hold="off")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "a.png"
    write_picture(path, np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8))
    return path


def upscale(inputs: list[Path], output: Path | None, options: UpscaleOptions, **more: object) -> list[JobResult]:
    return run_jobs(plan_jobs(inputs, output, options).jobs, options, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".gif", ".avif"])
def test_only_what_was_made_of_this_file_with_these_settings_is_skipped(
    tmp_path: Path, tiny_x2: Path, suffix: str
) -> None:
    source, target = tmp_path / f"a{suffix}", tmp_path / "out" / f"a{suffix}"
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    write_picture(source, pixels)
    options = UpscaleOptions(model=tiny_x2)
    assert [result.status for result in upscale([source], target, options)] == ["done"]
    made = target.read_bytes()
    for inputs, output in (([source], target), ([source.parent], target.parent)):
        assert [result.status for result in upscale(inputs, output, options)] == ["skipped"]
    assert upscale([source], target, UpscaleOptions(model=tiny_x2, scale=2))[0].status == "skipped"
    for other in (UpscaleOptions(model=tiny_x2, tta=True), UpscaleOptions(model=tiny_x2, scale=3)):
        (refused,) = upscale([source], target, other)
        assert (refused.status, refused.code, refused.exit_code) == ("failed", "output-exists", 2)
    write_picture(source, pixels[::-1], overwrite=True)
    assert upscale([source], target, options)[0].code == "output-exists"
    assert target.read_bytes() == made


def test_without_provenance_nothing_is_taken_for_made(picture: Path, tiny_x2: Path, tmp_path: Path) -> None:
    options = UpscaleOptions(model=tiny_x2, provenance=False)
    target = tmp_path / "b.png"
    upscale([picture], target, options)
    assert b"apisr" not in target.read_bytes()
    assert upscale([picture], target, options)[0].code == "output-exists"


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".webm", ".mov", ".avi"])
def test_a_video_made_before_is_skipped_too(tmp_path: Path, tiny_x2: Path, suffix: str) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=6)
    options = UpscaleOptions(model=tiny_x2, video=VideoOptions(hold="off"))
    target = tmp_path / f"out{suffix}"
    assert upscale([source], target, options)[0].status == "done"
    assert upscale([source], target, options)[0].status == "skipped"
    (other,) = upscale([source], target, UpscaleOptions(model=tiny_x2, video=VideoOptions(hold="off", crf=30)))
    assert other.code == "output-exists"


def test_default_names_say_what_differs_where_one_is_taken(picture: Path, tiny_x2: Path) -> None:
    plain = UpscaleOptions(model=tiny_x2)
    flips = UpscaleOptions(model=tiny_x2, tta=True)
    assert upscale([picture], None, plain)[0].target.name == "a_x2.png"
    (result,) = upscale([picture], None, flips)
    assert (result.status, result.target.name) == ("done", "a_x2_tiny-x2_tta.png")
    assert upscale([picture], None, plain)[0].status == "skipped"
    assert upscale([picture], None, flips)[0].status == "skipped"


def test_a_part_and_a_comparison_never_take_the_final_name(tmp_path: Path, tiny_x2: Path) -> None:
    source = make_clip(tmp_path / "ep.mkv", frames=30)
    for video, name in (
        (VideoOptions(end=Fraction(1, 2)), "ep_x2.preview.mkv"),
        (VideoOptions(compare="side"), "ep_x2.compare.mkv"),
        (VideoOptions(start=Fraction(1, 4), compare="wipe"), "ep_x2.preview.compare.mkv"),
    ):
        plan = plan_jobs([source], None, UpscaleOptions(model=tiny_x2, video=video))
        assert plan.jobs[0].target.name == name
    plan = plan_jobs([tmp_path], tmp_path / "out", UpscaleOptions(video=VideoOptions(end=Fraction(1))))
    assert plan.jobs[0].target == tmp_path / "out" / "ep.preview.mkv"


def test_every_part_that_is_looked_at_has_a_name_of_its_own(tmp_path: Path, tiny_x2: Path) -> None:
    source = make_clip(tmp_path / "ep.mkv", frames=30)

    def made(**video: object) -> str:
        options = UpscaleOptions(model=tiny_x2, video=VideoOptions(**video))  # type: ignore[arg-type]
        (result,) = upscale([source], None, options)
        return f"{result.status} {result.target.name}"

    tenth = Fraction(1, 10)
    assert made(end=tenth) == "done ep_x2.preview.mkv"
    assert made(start=5 * tenth, end=6 * tenth) == "done ep_x2.preview_0.5s-0.6s_tiny-x2.mkv"
    assert made(start=10 * tenth) == "done ep_x2.preview_1s-end_tiny-x2.mkv"
    assert made(end=tenth) == "skipped ep_x2.preview.mkv"
    assert made(compare="side") == "done ep_x2.compare.mkv"
    assert made(compare="wipe") == "done ep_x2.compare_wipe_tiny-x2.mkv"


def test_a_twin_for_soft_sources_is_named_as_the_fast_model_too() -> None:
    options = UpscaleOptions(scale=2)
    for name in ("apisr-x2-fast", "apisr-x2-fast-vivid"):
        assert f"the fast model {name} is taken; --model apisr-x2 " in (fast_notice(resolve_model(name), options) or "")
        assert fast_notice(resolve_model(name), replace(options, model=name)) is None
    assert fast_notice(resolve_model("apisr-x2-vivid"), options) is None


def test_what_would_be_skipped_takes_no_time(picture: Path, tiny_x2: Path) -> None:
    clip = make_clip(picture.with_name("ep.mkv"), frames=6)
    options = UpscaleOptions(model=tiny_x2, video=FAST)
    plan = plan_jobs([clip], None, options)
    assert DryRun(options, Networks(options)).describe_all(plan).estimate is not None
    run_jobs(plan.jobs, options)
    described = DryRun(options, Networks(options)).describe_all(plan)
    assert "would be skipped" in described.files[0].existing
    assert described.files[0].estimate is described.estimate is None


def test_a_dry_run_tries_every_video_of_a_folder(
    tmp_path: Path, tiny_x2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noise(number: int, width: int, height: int) -> np.ndarray:
        return np.random.default_rng(number).integers(0, 256, (height, width, 3)).astype(np.uint8)

    def flat(number: int, width: int, height: int) -> np.ndarray:
        return np.full((height, width, 3), 90 + number % 2, np.uint8)

    (tmp_path / "in").mkdir()
    for name, pictures, frames in (("a", flat, 24), ("b", noise, 24), ("c", noise, 12)):
        make_clip(tmp_path / "in" / f"{name}.mkv", frames=frames, pictures=pictures)
    options = UpscaleOptions(model=tiny_x2, video=FAST)
    plan = plan_jobs([tmp_path / "in"], tmp_path / "out", options)
    files = DryRun(options, Networks(options)).describe_all(plan).files
    flat_bytes, noise_bytes, half_bytes = (file.estimate.size_bytes for file in files if file.estimate)
    assert noise_bytes > 5 * flat_bytes
    assert 0.3 < half_bytes / noise_bytes < 0.8
    assert not any("scaled" in notice for file in files for notice in file.notices)
    monkeypatch.setattr(dry_run, "MOST_TRIED", 2)
    *tried, scaled = DryRun(options, Networks(options)).describe_all(plan).files
    assert not any("scaled" in notice for file in tried for notice in file.notices)
    assert any("scaled from those of 2 videos" in notice for notice in scaled.notices)
    assert scaled.estimate is not None
    assert scaled.estimate.size_bytes == pytest.approx((flat_bytes + noise_bytes) / 4, abs=2)


@pytest.mark.parametrize(
    ("output", "options", "code"),
    [
        ("out.png", UpscaleOptions(picture=PictureOptions(format="webp")), "option-does-not-apply"),
        ("out", UpscaleOptions(video=VideoOptions(crf=20)), "option-does-not-apply"),
        ("out.png", UpscaleOptions(scale=2, height=100), "height-and-scale"),
    ],
)
def test_options_that_cannot_apply_are_refused(picture: Path, output: str, options: UpscaleOptions, code: str) -> None:
    with pytest.raises(InputError) as refused:
        plan_jobs([picture], picture.parent / output, options)
    assert refused.value.code == code


def test_one_picture_is_no_video(picture: Path) -> None:
    with pytest.raises(InputError) as refused:
        plan_jobs([picture], picture.parent / "out.mkv", UpscaleOptions())
    assert refused.value.code == "picture-to-video"


def test_addresses_are_not_fetched() -> None:
    with pytest.raises(InputError, match="save the file first") as refused:
        plan_jobs([Path("https://example.org/a.png")], None, UpscaleOptions())
    assert refused.value.code == "no-such-file"


def test_several_inputs_do_not_become_one_file(picture: Path) -> None:
    other = picture.with_name("b.png")
    write_picture(other, np.zeros((4, 4, 3), np.uint8))
    for inputs in ([picture, other], [picture.parent]):
        with pytest.raises(InputError) as refused:
            plan_jobs(inputs, picture.parent / "out.png", UpscaleOptions())
        assert refused.value.code == "one-output"


def test_files_left_out_are_named_and_content_decides(picture: Path, tiny_x2: Path, tmp_path: Path) -> None:
    folder = picture.parent
    (folder / "notes.txt").write_text("no picture")
    picture.rename(folder / "drawing.dat")
    unfinished = folder / "ep.mkv.partial.segments"
    unfinished.mkdir()
    make_clip(unfinished / "00000.segment", frames=2, format="matroska")
    plan = plan_jobs([folder], tmp_path / "out", UpscaleOptions(model=tiny_x2))
    assert [job.source.name for job in plan.jobs] == ["drawing.dat"]
    assert plan.left_out == {folder / "notes.txt": "other-kind"}


def test_each_reason_has_its_line_with_number_and_names() -> None:
    left_out: dict[Path, LeftOut] = {Path(f"{number}.txt"): "other-kind" for number in range(9)}
    left_out |= {Path("a_x2.png"): "earlier-output", Path("b.png"): "not-accepted", Path("c\x1b.png"): "not-a-file"}
    lines = left_out_lines(left_out, ("picture", "video"))
    assert len(lines) == 4
    assert lines[0].startswith("9 files left out (not a picture or a video): 0.txt, 1.txt")
    assert lines[0].endswith("and 3 more")
    assert sum(line.startswith("1 file left out") for line in lines) == 3
    assert any(line.endswith("c\\x1b.png") for line in lines)


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_outputs_beside_their_sources_are_not_taken_again(tmp_path: Path, tiny_x2: Path, suffix: str) -> None:
    """A mark tells them from a file that somebody named so; BMP has no place for one."""
    folder = tmp_path / "in"
    write_picture(folder / f"a{suffix}", np.zeros((8, 8, 3), np.uint8))
    write_picture(folder / "own_x2.png", np.zeros((8, 8, 3), np.uint8))
    write_picture(folder / "own.png", np.zeros((8, 8, 3), np.uint8))
    options = UpscaleOptions(model=str(tiny_x2))
    run_jobs(plan_jobs([folder / f"a{suffix}"], None, options).jobs, options)
    assert (folder / f"a_x2{suffix}").exists()
    plan = plan_jobs([folder], tmp_path / "out", options)
    assert [job.source.name for job in plan.jobs] == [f"a{suffix}", "own.png", "own_x2.png"]
    assert plan.left_out == {folder / f"a_x2{suffix}": "earlier-output"}
    assert len(plan_jobs([folder / f"a_x2{suffix}"], tmp_path / "out", options).jobs) == 1
    named = plan_jobs([folder, folder / f"a_x2{suffix}"], tmp_path / "out", options)
    assert (len(named.jobs), named.left_out) == (4, {})


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("a.svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not-a-picture"),
        ("b.svg", b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "not-a-picture"),
        ("a.pdf", b"%PDF-1.7\n" + bytes(50), "not-a-picture"),
        ("a.bin", bytes(range(200)), "not-a-video"),
    ],
)
def test_a_file_of_another_kind_is_refused_by_its_name(
    tmp_path: Path, tiny_x2: Path, name: str, content: bytes, code: str
) -> None:
    (tmp_path / name).write_bytes(content)
    options = UpscaleOptions(model=str(tiny_x2))
    (result,) = run_jobs(plan_jobs([tmp_path / name], tmp_path / "out", options).jobs, options)
    assert (result.status, result.code) == ("failed", code)


def test_the_height_chooses_the_network(tmp_path: Path) -> None:
    """From 48 to 180 lines is more than twice: the x4 network, and then down; to 96 lines it is the x2 network."""
    source = make_clip(tmp_path / "in.mkv", size=(64, 48), frames=3)
    write_picture(tmp_path / "in.png", np.zeros((48, 64, 3), np.uint8))
    for height, scale in ((180, 4), (96, 2)):
        options = UpscaleOptions(height=height, device="cpu")
        networks = Networks(options)
        for path in (source, tmp_path / "in.png"):
            (job,) = plan_jobs([path], tmp_path / f"{height}{path.suffix}", options).jobs
            file = DryRun(options, networks).describe(job)
            assert file.model.startswith(f"apisr-x{scale}")
            assert (file.size, file.output_size) == ((64, 48), (64 * height // 48, height))
            assert (f"x4 network ({file.model}), then to 180 lines." in file.notices) == (height == 180)


def test_a_dry_run_says_how_long_and_how_large(tmp_path: Path, tiny_x2: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=40)
    options = UpscaleOptions(model=tiny_x2, video=FAST)
    networks = Networks(options)
    plan = plan_jobs([source], tmp_path / "out.mkv", options)
    total = DryRun(options, networks).describe_all(plan).estimate
    assert total is not None
    assert total.text.startswith("about ")
    (result,) = run_jobs(plan.jobs, options, networks=networks)
    assert result.result is not None
    assert result.result.kind == "video"
    assert 0.2 < total.size_bytes / result.result.size_bytes < 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mkv", "out.mkv"]


def test_a_stop_ends_a_picture_between_tiles_and_nothing_is_left(tmp_path: Path, tiny_x2: Path) -> None:
    write_picture(tmp_path / "in.png", np.zeros((128, 128, 3), np.uint8))
    cancel = Cancel()
    done: list[float] = []

    def progress(event: Progress) -> None:
        if event.kind == "advanced":
            done.append(event.done)
            if event.done:
                cancel.request()

    options = UpscaleOptions(model=tiny_x2, picture=PictureOptions(tile_px=64))
    results = upscale([tmp_path / "in.png"], tmp_path / "out.png", options, progress=progress, cancel=cancel)
    assert [(result.status, result.exit_code) for result in results] == [("cancelled", 130)]
    assert done == [0, 64 * 64]
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]
    assert RunReport(files=tuple(results)).exit_code == 130


def test_a_report_comes_back_from_json(picture: Path, tiny_x2: Path, tmp_path: Path) -> None:
    options = UpscaleOptions(model=tiny_x2)
    (picture.parent / "bad.png").write_bytes(b"no picture")
    report = RunReport(files=tuple(upscale([picture.parent], tmp_path / "out", options)))
    again = RunReport.model_validate_json(report.model_dump_json())
    assert again.model_dump() == report.model_dump()
    assert [result.status for result in again.files] == ["done", "failed"]
    assert again.exit_code == 1
    assert read_picture(tmp_path / "out" / "a.png").pixels.shape == (40, 60, 3)
