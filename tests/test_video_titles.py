"""Titles of tracks come through every pair of formats, under the name that each has for them; mediainfo judges."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from test_video_clocks import ffmpeg
from test_video_copies import H264, PICTURE, SOUND, upscale
from video_clips import ffprobe

TITLES = ["-metadata:s:v", "title=The picture", "-metadata:s:a", "title=Commentary"]
HANDLERS = ["-metadata:s:a", "handler_name=Commentary"]


def titles(path: Path) -> dict[str, str]:
    """The titles of the tracks by their kind, as mediainfo reads them."""
    if shutil.which("mediainfo") is None:
        pytest.skip("mediainfo is not installed")
    report = subprocess.run(["mediainfo", "--Output=JSON", str(path)], check=True, capture_output=True).stdout
    return {
        track["@type"]: track["Title"]
        for track in json.loads(report)["media"]["track"]
        if "Title" in track and track["@type"] in ("Video", "Audio")
    }


@pytest.mark.parametrize("source", ["in.mp4", "in.mov", "in.mkv", "in.nut"])
@pytest.mark.parametrize("target", ["out.mkv", "out.mp4", "out.mov"])
def test_titles_of_tracks(tmp_path: Path, source: str, target: str) -> None:
    ffmpeg(*PICTURE, *SOUND, *H264, "-c:a", "aac", *TITLES, tmp_path / source)
    upscale(tmp_path / source, tmp_path / target)
    assert titles(tmp_path / target) == {"Video": "The picture", "Audio": "Commentary"}


@pytest.mark.parametrize("target", ["out.mkv", "out.mp4"])
def test_a_handler_that_was_named_is_a_title(tmp_path: Path, target: str) -> None:
    """Programs that know no other place write it there; what they call every track is no title."""
    ffmpeg(*PICTURE, *SOUND, *H264, "-c:a", "aac", *HANDLERS, tmp_path / "in.mp4")
    upscale(tmp_path / "in.mp4", tmp_path / target)
    assert titles(tmp_path / target) == {"Audio": "Commentary"}


def test_a_format_without_titles_says_so(tmp_path: Path) -> None:
    ffmpeg(*PICTURE, *SOUND, *H264, "-c:a", "aac", *TITLES, tmp_path / "in.mp4")
    result = upscale(tmp_path / "in.mp4", tmp_path / "out.ts")
    assert any("the tags title" in notice for notice in result.notices)


@pytest.mark.parametrize("target", ["out.mkv", "out.mp4"])
def test_data_that_nothing_can_hold_is_left_out_and_named(tmp_path: Path, target: str) -> None:
    """GXF has a track of data that libav has no name for."""
    source = tmp_path / "in.gxf"
    sized = ["-f", "lavfi", "-i", "testsrc=s=720x576:r=25:d=0.4"]
    ffmpeg(*sized, *SOUND[:3], "sine=d=0.4:r=48000", "-c:v", "mpeg2video", "-c:a", "pcm_s16le", source)
    assert [stream["codec_type"] for stream in ffprobe(source, "streams")["streams"]] == ["video", "audio", "data"]
    result = upscale(source, tmp_path / target)
    assert any("#2 data" in notice and "left out" in notice for notice in result.notices)
    written = ffprobe(tmp_path / target, "streams")["streams"]
    # MP4 has a track for the time code that GXF states.
    assert [one["codec_type"] for one in written if one["codec_tag_string"] != "tmcd"] == ["video", "audio"]
