"""Recordings joined end to end and raw streams of every kind: the whole length, in step; ffprobe judges."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from test_video_cases import FAST, packets
from video_clips import Nearest, upscale_video

from apisr.core.errors import ApisrError
from apisr.upscale.results import VideoResult
from apisr.video.source import VideoSource

RECORDING = ["-f", "lavfi", "-i", "testsrc2=s=96x64:r=24:d=1", "-f", "lavfi", "-i", "sine=f=440:d=1"]


def ffmpeg(*arguments: str | Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-nostdin", *map(str, arguments)], check=True)


def joined(paths: Sequence[Path], target: Path) -> Path:
    target.write_bytes(b"".join(path.read_bytes() for path in paths))
    return target


def upscale(source: Path, target: Path) -> VideoResult:
    return upscale_video(source, target, Nearest, FAST)


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".ts", ["-c:v", "libx264", "-g", "12", "-c:a", "aac", "-f", "mpegts"]),
        (".ts", ["-c:v", "mpeg2video", "-g", "12", "-bf", "2", "-c:a", "mp2", "-f", "mpegts"]),
        (".vob", ["-c:v", "mpeg2video", "-g", "12", "-bf", "2", "-c:a", "mp2", "-f", "vob"]),
        (".mkv", ["-c:v", "libx264", "-c:a", "aac"]),
        (".ogv", ["-c:v", "libtheora", "-c:a", "libvorbis"]),
    ],
)
def test_joined_recordings_are_whole(tmp_path: Path, suffix: str, options: list[str]) -> None:
    """Their counters and clocks begin anew where they meet, and Ogg repeats its headers there."""
    part = tmp_path / f"part{suffix}"
    ffmpeg(*RECORDING, *options, part)
    count = 2 if suffix == ".mkv" else 3  # libav reads two segments
    result = upscale(joined([part] * count, tmp_path / f"joined{suffix}"), tmp_path / "out.mkv")
    assert (result.frames_in, result.frames_out) == (24 * count, 24 * count)
    assert result.duration_s == pytest.approx(count, abs=0.01)
    assert sum("clock" in notice for notice in result.notices) == 1
    video, sound = packets(tmp_path / "out.mkv", "v"), packets(tmp_path / "out.mkv", "a")
    assert all(one < two for (one, _), (two, _) in itertools.pairwise(video))
    assert len(sound) >= count * (len(packets(part, "a")) - 1)  # less one packet of headers that have no sound, each
    assert sound[-1][0] == pytest.approx(video[-1][0], abs=0.25)


@pytest.mark.parametrize(("suffix", "count"), [(".mkv", 3), (".mp4", 2), (".avi", 2)])
def test_joined_files_that_are_not_read_are_refused_before_the_work(tmp_path: Path, suffix: str, count: int) -> None:
    coding = ["-c:v", "mpeg4", "-c:a", "libmp3lame"]
    ffmpeg(*RECORDING, *coding, tmp_path / f"part{suffix}")
    source = joined([tmp_path / f"part{suffix}"] * count, tmp_path / f"joined{suffix}")
    with pytest.raises(ApisrError) as caught:
        VideoSource.open(source)
    assert (caught.value.code, caught.value.exit_code) == ("joined-files", 2)
    assert upscale(tmp_path / f"part{suffix}", tmp_path / "out.mkv").frames_out == 24


def test_pictures_of_another_size_lose_nothing_where_they_meet(tmp_path: Path) -> None:
    coding = ["-c:v", "mpeg2video", "-bf", "2", "-f", "vob"]
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=96x64:r=24:d=1", *coding, tmp_path / "small.vob")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=160x96:r=24:d=1", *coding, tmp_path / "large.vob")
    source = joined([tmp_path / "small.vob", tmp_path / "large.vob", tmp_path / "small.vob"], tmp_path / "a.vob")
    result = upscale(source, tmp_path / "out.mkv")
    assert (result.frames_out, result.output_size) == (72, (320, 192))


def test_a_recording_with_lost_packets_is_damaged(tmp_path: Path) -> None:
    """The counters break in the middle and the clock goes on: packets were lost."""
    ffmpeg(*RECORDING, "-c:v", "libx264", "-g", "12", "-c:a", "aac", "-f", "mpegts", tmp_path / "a.ts")
    whole = (tmp_path / "a.ts").read_bytes()
    middle = len(whole) // 188 // 2 * 188
    (tmp_path / "b.ts").write_bytes(whole[:middle] + whole[middle + 6 * 188 :])
    with pytest.raises(ApisrError) as caught:
        upscale(tmp_path / "b.ts", tmp_path / "out.mkv")
    assert (caught.value.code, caught.value.exit_code) == ("source-damaged", 1)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.m2v", ["-c:v", "mpeg2video", "-bf", "2", "-f", "mpeg2video"]),
        ("a.m4v", ["-c:v", "mpeg4", "-f", "m4v"]),
        ("a.h264", ["-c:v", "libx264", "-bf", "2", "-f", "h264"]),
        ("a.hevc", ["-c:v", "libx265", "-x265-params", "log-level=error", "-f", "hevc"]),
        ("a.y4m", ["-pix_fmt", "yuv420p"]),
    ],
)
def test_raw_streams_have_the_length_of_their_frames(tmp_path: Path, name: str, options: list[str]) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=96x64:r=24:d=1.5", *options, tmp_path / name)
    result = upscale(tmp_path / name, tmp_path / "out.mkv")
    assert (result.frames_out, result.duration_s) == (36, pytest.approx(1.5, abs=0.002))
    times = [time for time, _ in packets(tmp_path / "out.mkv", "v")]
    assert times == pytest.approx([number / 24 for number in range(36)], abs=0.001)
