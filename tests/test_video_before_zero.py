"""Files whose times begin before zero: distances stay; mkvinfo and ffprobe judge."""

from __future__ import annotations

import re
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest
from test_video_cases import packets
from test_video_clocks import ffmpeg
from test_video_copies import H264, PICTURE, SOUND, upscale
from video_clips import ffprobe

from apisr.video.source import VideoSource

EARLY = ["-avoid_negative_ts", "disabled", "-output_ts_offset", "-0.6"]
REORDERED = ["-c:v", "libx264", "-preset", "fast", "-bf", "2", "-g", "12"]


def blocks(path: Path) -> dict[int, list[float]]:
    """The times of all blocks in seconds by track (counted from 1), sorted, as mkvinfo reads them."""
    if shutil.which("mkvinfo") is None:
        pytest.skip("mkvinfo is not installed")
    report = subprocess.run(["mkvinfo", "-v", "-v", str(path)], check=True, capture_output=True, text=True).stdout
    found: dict[int, list[float]] = {}
    for track, sign, hours, minutes, seconds in re.findall(
        r"track number (\d+),.*timestamp (-?)(\d+):(\d+):([\d.]+)", report
    ):
        moment = 3600 * int(hours) + 60 * int(minutes) + float(seconds)
        found.setdefault(int(track), []).append(-moment if sign else moment)
    return {track: sorted(times) for track, times in found.items()}


def clip(path: Path, *coded: str) -> Path:
    ffmpeg(*PICTURE, *SOUND, *coded, *EARLY, path)
    return path


@pytest.mark.parametrize("coding", [[*H264, "-bf", "0", "-c:a", "aac"], [*REORDERED, "-c:a", "libopus"]])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])
def test_frames_before_zero_keep_their_distances(tmp_path: Path, coding: list[str], suffix: str) -> None:
    """libav gives packets before zero no times in Matroska, nor does ffprobe."""
    source, target = clip(tmp_path / "in.mkv", *coding), tmp_path / f"out{suffix}"
    true = blocks(source)
    assert true[1][0] == pytest.approx(-0.6)
    upscale(source, target)
    shown, heard = ([time for time, _ in packets(target, kind)] for kind in ("v", "a"))
    assert [time - shown[0] for time in shown] == pytest.approx([time - true[1][0] for time in true[1]], abs=0.0011)
    assert len(heard) == len(true[2])
    delay = 0.0065 if "libopus" in coding else 0.0  # what the decoder of Opus throws away first
    for place in (0, 5, -1):
        assert heard[place] - shown[0] == pytest.approx(true[2][place] - delay - true[1][0], abs=0.0021)


def test_keyframes_before_zero_can_be_sought(tmp_path: Path) -> None:
    """Parts of the video are read from keyframes: those before zero have no place in libav's index."""
    source = clip(tmp_path / "in.mkv", *REORDERED, "-c:a", "aac")
    with VideoSource.open(source) as opened:
        every = [frame.pts for frame in opened.frames()]
        assert every == [-600 + 40 * number for number in range(25)]
        assert opened.index.keyframes.tolist() == [-600, -120, 360]
        for start in (-600, -120, -80, 0, 360):
            assert [frame.pts for frame in opened.frames(start=start)] == [pts for pts in every if pts >= start]
        with opened.intra_frames() as reader:
            assert [frame.info.time for frame in reader][:2] == [Fraction(-600, 1000), Fraction(-120, 1000)]


def test_chapters_move_with_the_frames(tmp_path: Path) -> None:
    listed = tmp_path / "chapters.txt"
    listed.write_text(";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=200\ntitle=one\n")
    plain = clip(tmp_path / "plain.webm", "-c:v", "libvpx", "-c:a", "libopus")
    source, target = tmp_path / "in.mkv", tmp_path / "out.mkv"
    ffmpeg("-i", plain, "-i", listed, "-map_metadata", "1", "-c", "copy", "-copyts", *EARLY[:2], source)
    begin = min(time for times in blocks(source).values() for time in times)
    assert begin < -0.5
    upscale(source, target)
    chapter = ffprobe(target, "chapters")["chapters"][0]
    assert float(chapter["start_time"]) == pytest.approx(-begin, abs=0.011)


def test_a_format_that_states_times_before_zero(tmp_path: Path) -> None:
    """ASF: libav knows the times, and MP4 would hide what lies before zero."""
    source, target = tmp_path / "in.asf", tmp_path / "out.mp4"
    ffmpeg(*PICTURE, *SOUND, "-c:v", "wmv2", "-c:a", "adpcm_ms", *EARLY, source)
    before = [time for time, _ in packets(source, "v")]
    assert before[0] == pytest.approx(-0.6, abs=0.05)
    upscale(source, target)
    after = [time for time, _ in packets(target, "v")]
    assert [time - after[0] for time in after] == pytest.approx([time - before[0] for time in before], abs=0.0011)
    assert after[0] >= 0
