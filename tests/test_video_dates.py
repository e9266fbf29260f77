"""The date on which a video was recorded goes with it, or is named."""

from __future__ import annotations

import json
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest
from video_clips import Nearest, make_clip, plan_video, upscale_video

from apisr.upscale.options import VideoOptions

DATE = "2020-02-03T04:05:06"
FAST = VideoOptions(preset="ultrafast", segment_frames=12)

pytestmark = pytest.mark.skipif(
    any(shutil.which(name) is None for name in ("ffmpeg", "exiftool")), reason="FFmpeg or ExifTool is not installed"
)


def dated(path: Path) -> Path:
    """A video of two segments with a date."""
    plain = make_clip(path.with_stem("plain"), audio="aac", options={"g": "12"})
    stamp = ["-metadata", f"creation_time={DATE}Z"]
    subprocess.run(["ffmpeg", "-v", "error", "-i", plain, "-map", "0", "-c", "copy", *stamp, path], check=True)
    return path


def date_of(path: Path) -> str:
    done = subprocess.run(["exiftool", "-json", "-CreateDate", "-DateTimeOriginal", path], capture_output=True)
    found = json.loads(done.stdout)[0]
    written = str(found.get("CreateDate") or found.get("DateTimeOriginal"))
    return written.replace(":", "-", 2).replace(" ", "T").rstrip("Z")


@pytest.mark.parametrize("before", ["in.mp4", "in.mkv"])
@pytest.mark.parametrize("after", ["out.mp4", "out.mov", "out.mkv"])
def test_the_date_of_recording_is_kept(tmp_path: Path, before: str, after: str) -> None:
    source, target = dated(tmp_path / before), tmp_path / after
    result = upscale_video(source, target, Nearest, FAST)
    assert date_of(source) == date_of(target) == DATE
    assert not any("creation_time" in notice for notice in result.notices)


def test_the_date_of_recording_outlives_an_interruption_and_a_cut(tmp_path: Path) -> None:
    source, target = dated(tmp_path / "in.mp4"), tmp_path / "out.mp4"

    def stop(done: float, total: float | None) -> None:
        if done >= 13:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upscale_video(source, target, Nearest, FAST, stop)
    assert Path(f"{target}.partial.segments").is_dir()
    upscale_video(source, target, Nearest, FAST)
    part = VideoOptions(preset="ultrafast", start=Fraction(1, 4), end=Fraction(3, 4))
    upscale_video(source, tmp_path / "part.mp4", Nearest, part)
    assert date_of(target) == date_of(tmp_path / "part.mp4") == DATE


def test_the_date_of_recording_is_named_where_it_is_lost(tmp_path: Path) -> None:
    notices = plan_video(dated(tmp_path / "in.mp4"), tmp_path / "out.ts", FAST).notices
    assert any("creation_time" in notice for notice in notices)
