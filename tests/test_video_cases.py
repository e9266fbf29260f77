"""Videos that once went wrong, each for a kind; ffprobe, MediaInfo and mkvinfo judge the results."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from video_clips import Nearest, plan_video, upscale_video

from apisr.core.errors import ApisrError
from apisr.upscale.options import VideoOptions
from apisr.upscale.results import VideoResult
from apisr.video.source import VideoSource

CASES = Path(__file__).parent / "data" / "cases" / "videos"
FAST = VideoOptions(preset="ultrafast", segment_frames=12)


def upscale(name: str, target: Path, options: VideoOptions = FAST, **settings: Any) -> VideoResult:
    return upscale_video(CASES / name, target, Nearest, options, **settings)


def packets(path: Path, stream: str) -> list[tuple[float, float]]:
    """Return (time, duration) in seconds of the packets of a stream, in the order of their times, as ffprobe reads."""
    if shutil.which("ffprobe") is None:
        pytest.skip("ffprobe is not installed")
    command = [
        "ffprobe",
        "-v",
        "error",
        "-select_streams",
        stream,
        "-show_entries",
        "packet=pts_time,dts_time,duration_time",
    ]
    report = json.loads(subprocess.run([*command, "-of", "json", str(path)], check=True, capture_output=True).stdout)
    return sorted(
        (float(one.get("pts_time") or one["dts_time"]), float(one.get("duration_time", 0))) for one in report["packets"]
    )


def unsorted(path: Path, stream: str) -> list[tuple[float, float]]:
    """Return (time, size in bytes) of the packets of a stream in the order of the file."""
    command = ["ffprobe", "-v", "error", "-select_streams", stream, "-show_entries", "packet=pts_time,size"]
    report = json.loads(subprocess.run([*command, "-of", "json", str(path)], check=True, capture_output=True).stdout)
    return [(float(one["pts_time"]), float(one["size"])) for one in report["packets"]]


def mediainfo(path: Path, kind: str) -> dict[str, str]:
    if shutil.which("mediainfo") is None:
        pytest.skip("MediaInfo is not installed")
    report = subprocess.run(["mediainfo", "--Output=JSON", str(path)], check=True, capture_output=True).stdout
    return next(track for track in json.loads(report)["media"]["track"] if track["@type"] == kind)


def mkvinfo(path: Path) -> str:
    if shutil.which("mkvinfo") is None:
        pytest.skip("mkvinfo is not installed")
    return subprocess.run(["mkvinfo", str(path)], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("name", "suffix", "frames", "seconds"),
    [
        ("hybrid120.avi", ".mkv", 35, 1.317),
        ("hybrid120.avi", ".mp4", 35, 1.317),
        ("hybrid120.avi", ".avi", 35, 1.317),
        ("restart_a.mpg", ".mkv", 72, 2.88),
        ("twice.mkv", ".mkv", 40, 1.667),
        ("jump_ok.ts", ".mkv", 70, 2.92),
        ("jump_ok.ts", ".ts", 70, 2.92),
        ("raw.h264", ".mkv", 35, 1.46),
        ("thumbfirst.mp4", ".mp4", 35, 1.46),
        ("angles_h264.mkv", ".mkv", 35, 1.46),
        ("angles_h264.mkv", ".mp4", 35, 1.46),
        ("s1.vob", ".mkv", 36, 1.44),
        ("grow_ok.ts", ".mkv", 70, 2.92),
        ("a.rm", ".mkv", 35, 1.46),
        ("a.divx", ".mkv", 35, 1.50),
    ],
)
def test_frames_and_length(tmp_path: Path, name: str, suffix: str, frames: int, seconds: float) -> None:
    target = tmp_path / f"out{suffix}"
    result = upscale(name, target)
    assert (result.frames_in, result.frames_out) == (frames, frames)
    assert result.duration_s == pytest.approx(seconds, abs=0.02)
    stream = 1 if name == "thumbfirst.mp4" else 0
    shown = packets(target, str(stream))
    times = [time for time, _ in shown if time >= 0]
    assert len(shown) == frames or suffix == ".avi"  # where empty packets fill the gaps
    assert all(one < two for one, two in itertools.pairwise(times))
    assert times[-1] - times[0] + 1 / 15 > seconds - 0.05
    assert times[-1] - times[0] < seconds


@pytest.mark.parametrize("name", ["restart_a.mpg", "twice.mkv", "jump_ok.ts"])
def test_sound_keeps_step_where_the_clock_breaks(tmp_path: Path, name: str) -> None:
    """Every packet of the sound is there once, without a hole, and begins and ends with the picture as before."""
    upscale(name, tmp_path / "out.mkv")
    before, after = packets(CASES / name, "a"), packets(tmp_path / "out.mkv", "a")
    assert len(after) == len(before)
    steps = np.diff([time for time, _ in after])
    assert steps.min() >= 0
    assert steps.max() < 0.6  # the sound of twice.mkv is shorter than its picture
    lead = packets(CASES / name, "v")[0][0] - before[0][0]
    seams = [
        number
        for number, step in enumerate(np.diff([time for time, _ in unsorted(CASES / name, "a")]))
        if step < 0 or step > 1
    ]
    assert len(seams) == 1
    picture = packets(tmp_path / "out.mkv", "v")
    second = picture[len(picture) // 2][0]  # both parts are the same
    assert after[seams[0] + 1][0] == pytest.approx(second - lead, abs=0.08)


def test_repeated_frames_keep_the_sound(tmp_path: Path) -> None:
    for suffix in (".mkv", ".mp4", ".avi"):
        target = tmp_path / f"out{suffix}"
        upscale("hybrid120.avi", target)
        assert float(mediainfo(target, "Audio")["Duration"]) == pytest.approx(1.536, abs=0.03)


def test_times_of_repeated_frames_are_those_of_their_places(tmp_path: Path) -> None:
    upscale("hybrid120.avi", tmp_path / "out.mkv")
    before = [time for time, _ in packets(CASES / "hybrid120.avi", "v")]
    after = [time for time, _ in packets(tmp_path / "out.mkv", "v")]
    assert after == pytest.approx(before, abs=0.00101)


def test_rate_of_a_raw_stream_is_reported_and_can_be_set(tmp_path: Path) -> None:
    plan = plan_video(CASES / "raw.h264", tmp_path / "out.mkv", FAST)
    assert any("23.976" in notice for notice in plan.notices)
    with VideoSource.open(CASES / "raw.h264", rate=plan.rate * 2) as source:
        assert source.index.rate == plan.rate * 2
        assert not source.info.notices


def test_the_main_video_is_not_the_thumbnail(tmp_path: Path) -> None:
    plan = plan_video(CASES / "thumbfirst.mp4", tmp_path / "out.mkv", FAST)
    with VideoSource.open(CASES / "thumbfirst.mp4") as source:
        assert (source.info.video.index, source.info.video.width) == (1, 160)
    assert any("--video-stream" in notice for notice in plan.notices)
    with VideoSource.open(CASES / "thumbfirst.mp4", stream=0) as source:
        assert (source.info.video.width, source.index.frames) == (96, 1)
    with pytest.raises(ApisrError) as caught:
        VideoSource.open(CASES / "thumbfirst.mp4", stream=2)
    assert caught.value.code == "no-such-stream"


def test_a_second_video_track_with_b_frames_is_copied(tmp_path: Path) -> None:
    upscale("angles_h264.mkv", tmp_path / "out.mkv")
    assert packets(tmp_path / "out.mkv", "v:1") == packets(CASES / "angles_h264.mkv", "v:1")


def test_navigation_of_dvds_is_left_out_with_a_notice(tmp_path: Path) -> None:
    result = upscale("s1.vob", tmp_path / "out.mkv")
    assert any("navigation" in notice for notice in result.notices)
    assert len(packets(tmp_path / "out.mkv", "a")) == len(packets(CASES / "s1.vob", "a"))


def test_sound_header_of_avi(tmp_path: Path) -> None:
    upscale("longaudio.avi", tmp_path / "out.avi")
    before, after = (mediainfo(path, "Audio") for path in (CASES / "longaudio.avi", tmp_path / "out.avi"))
    assert float(after["Duration"]) == pytest.approx(4.049, abs=0.002)
    assert "Source_Duration" not in after
    assert after["BitRate"] == before["BitRate"]


def test_transparency_beside_the_picture_is_reported(tmp_path: Path) -> None:
    result = upscale("vp9alpha.webm", tmp_path / "out.webm", VideoOptions(preset="8"))
    assert any("transparency" in notice for notice in result.notices)
    assert "alpha" not in mkvinfo(tmp_path / "out.webm").lower()


def test_a_stream_that_grows_loses_nothing(tmp_path: Path) -> None:
    result = upscale("grow_ok.ts", tmp_path / "out.mkv")
    assert result.output_size == (320, 180)
    assert any("size of the pictures changes" in notice for notice in result.notices)


@pytest.mark.parametrize("name", ["pixelart.mkv", "grow_ok.ts"])
def test_progressive_textures_are_not_deinterlaced(tmp_path: Path, name: str) -> None:
    assert VideoSource.open(CASES / name).combed_share() == 0
    assert plan_video(CASES / name, tmp_path / "out.mkv", FAST).fields == "none"


def test_a_damaged_header_is_one_line() -> None:
    with pytest.raises(ApisrError) as caught:
        VideoSource.open(CASES / "attributeerror_head0.mkv")
    assert caught.value.code == "unknown-codec"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "frames"), [("silent_loss_headset1_8of20.mkv", 8), ("ffv1_crc_mid1.mkv", 12), ("trunc0.ts", 2)]
)
def test_damage_is_never_a_success(tmp_path: Path, name: str, frames: int) -> None:
    target = tmp_path / "out.mkv"
    with pytest.raises(ApisrError) as caught:
        upscale(name, target)
    assert caught.value.exit_code == 1
    assert not target.exists()
    assert len(packets(tmp_path / "out.partial.mkv", "v")) == frames
    accepted = VideoOptions(preset="ultrafast", segment_frames=12, accept_damage=True, restart=True)
    result = upscale(name, target, accepted)
    assert result.frames_out == frames
    assert any(re.search("damaged", notice) for notice in result.notices)
