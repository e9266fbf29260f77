"""What libav does not write into Matroska files: display sizes, editions of chapters, levels of tags."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from video_clips import Nearest, make_clip, plan_video, upscale_video

from apisr.upscale.options import VideoOptions
from apisr.video.containers.matroska_edit import display_size
from apisr.video.source import VideoSource

CASES = Path(__file__).parent / "data" / "cases" / "videos"
FAST = VideoOptions(preset="ultrafast", segment_frames=12)
TAG = re.compile(r"<Tag>.*?</Tag>", re.DOTALL)

pytestmark = pytest.mark.skipif(
    any(shutil.which(name) is None for name in ("mkvmerge", "mkvextract", "mkvinfo", "ffprobe", "ffmpeg")),
    reason="MKVToolNix or FFmpeg is not installed",
)


def upscale(source: Path, target: Path, options: VideoOptions = FAST) -> Path:
    upscale_video(source, target, Nearest, options)
    assert identified(target)["errors"] == identified(target)["warnings"] == []
    decoded = subprocess.run(
        ["ffmpeg", "-v", "error", "-xerror", "-i", str(target), "-map", "0:v", "-f", "rawvideo", "-y", "/dev/null"]
    )
    assert decoded.returncode == 0
    return target


def identified(path: Path) -> dict[str, Any]:
    return json.loads(subprocess.run(["mkvmerge", "-J", str(path)], check=True, capture_output=True).stdout)


def display(path: Path) -> str:
    return next(track["properties"]["display_dimensions"] for track in identified(path)["tracks"])


def extracted(path: Path, what: str, folder: Path) -> str:
    target = folder / f"{path.stem}.{what}.xml"
    subprocess.run(["mkvextract", str(path), what, str(target)], check=True, capture_output=True)
    return target.read_text()


@pytest.mark.parametrize("codec", ["libx264", "libvpx-vp9", "libsvtav1", "ffv1"])
@pytest.mark.parametrize("sar", [Fraction(8, 9), Fraction(32, 27), Fraction(1), None])
def test_display_size_is_written_for_every_codec(tmp_path: Path, codec: str, sar: Fraction | None) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=4, sar=sar)
    target = upscale(source, tmp_path / "out.mkv", VideoOptions(codec=codec))
    width, height = (int(number) for number in display(target).split("x"))
    assert Fraction(width, height) == Fraction(192, 128) * (sar or 1)
    report = subprocess.run(
        ["ffprobe", "-v", "error", "-show_streams", "-of", "json", str(target)], check=True, capture_output=True
    )
    shape = json.loads(report.stdout)["streams"][0].get("sample_aspect_ratio", "1:1")
    assert Fraction(shape.replace(":", "/")) == (sar or 1)
    assert "track_name" not in identified(target)["tracks"][0]["properties"]


def test_the_name_of_the_video_is_kept(tmp_path: Path) -> None:
    target = upscale(CASES / "tags.mkv", tmp_path / "out.mkv")
    before, after = (identified(path) for path in (CASES / "tags.mkv", target))
    assert after["tracks"][0]["properties"]["track_name"] == before["tracks"][0]["properties"]["track_name"]
    assert after["container"]["properties"]["title"] == before["container"]["properties"]["title"]


def test_two_views_side_by_side_keep_their_shape(tmp_path: Path) -> None:
    assert display(upscale(CASES / "stereo.mkv", tmp_path / "out.mkv")) == "320x180"
    assert identified(tmp_path / "out.mkv")["tracks"][0]["properties"]["stereo_mode"] == 1


@pytest.mark.parametrize("name", ["nested.mkv", "ordered.mkv", "tags.mkv"])
def test_chapters_and_levels_of_tags_are_kept(tmp_path: Path, name: str) -> None:
    target = upscale(CASES / name, tmp_path / name)
    (tmp_path / "before").mkdir()
    before, after = CASES / name, target
    assert extracted(after, "chapters", tmp_path) == extracted(before, "chapters", tmp_path / "before")
    one, two = (
        [
            tag
            for tag in re.findall(r"<Tag>.*?</Tag>", extracted(path, "tags", folder), re.DOTALL)
            if "TrackUID" not in tag
        ]
        for path, folder in ((before, tmp_path / "before"), (after, tmp_path))
    )
    assert [tag for tag in two if "ENCODER" not in tag] == one
    uid = r"Segment UID: (.*)"
    infos = [subprocess.run(["mkvinfo", str(path)], capture_output=True, text=True).stdout for path in (before, after)]
    assert re.search(uid, infos[1]).group(1) == re.search(uid, infos[0]).group(1)  # type: ignore[union-attr]


def with_track_details(folder: Path) -> Path:
    """A disabled Portuguese (Brazil) sound with a title, and traditional Chinese subtitles."""
    clip, words, made = make_clip(folder / "clip.mkv", audio="aac"), folder / "words.srt", folder / "details.mkv"
    words.write_text("1\n00:00:00,100 --> 00:00:00,500\nText\n")
    sound = ["--language", "1:pt-BR", "--track-enabled-flag", "1:0", "--track-name", "1:Brasil  "]
    subprocess.run(["mkvmerge", "-q", "-o", made, *sound, clip, "--language", "0:zh-Hant", words], check=True)
    return made


def details_of(path: Path) -> list[tuple[Any, ...]]:
    keys = ("language_ietf", "language", "enabled_track", "track_name")
    return [tuple(track["properties"].get(key) for key in keys) for track in identified(path)["tracks"]]


def test_languages_of_bcp_47_and_disabled_tracks_are_kept(tmp_path: Path) -> None:
    source = with_track_details(tmp_path)
    before = details_of(source)
    assert [track[0] for track in before[1:]] == ["pt-BR", "zh-Hant"]
    assert before[1][2] is False
    whole, cut = tmp_path / "out.mkv", VideoOptions(preset="ultrafast", start=Fraction(1, 4))
    assert details_of(upscale(source, whole)) == before
    assert details_of(upscale(source, tmp_path / "cut.mkv", cut)) == before
    without = VideoOptions(preset="ultrafast", drop_streams=("1",))
    assert details_of(upscale(source, tmp_path / "less.mkv", without)) == [before[0], before[2]]
    assert not any("languages" in notice for notice in plan_video(source, whole, FAST).notices)


def test_languages_and_disabled_tracks_are_named_where_they_are_lost(tmp_path: Path) -> None:
    notices = plan_video(with_track_details(tmp_path), tmp_path / "out.mp4", FAST).notices
    assert any("pt-BR, zh-Hant" in notice for notice in notices)
    assert any("switched off: #1 audio" in notice for notice in notices)


def test_what_is_flattened_is_said_before_the_work(tmp_path: Path) -> None:
    kept = plan_video(CASES / "nested.mkv", tmp_path / "out.mkv", FAST)
    assert not any("editions" in notice for notice in kept.notices)
    for target, options in (("out.mp4", FAST), ("out.mkv", VideoOptions(preset="ultrafast", start=Fraction(1, 2)))):
        plan = plan_video(CASES / "nested.mkv", tmp_path / target, options)
        assert any("2 editions" in notice and "nested" in notice for notice in plan.notices)


def test_attachments_that_are_too_large_to_read_are_said(tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    with large.open("wb") as file:
        file.truncate((256 << 20) + 1)
    source = make_clip(tmp_path / "in.mkv", frames=4)
    both = tmp_path / "both.mkv"
    command = [
        "mkvmerge",
        "-q",
        "-o",
        str(both),
        str(source),
        "--attachment-mime-type",
        "application/x-font",
        "--attach-file",
        str(large),
    ]
    subprocess.run(command, check=True)
    with VideoSource.open(both) as opened:
        assert any("256 MB" in notice for notice in opened.info.notices)


@given(
    st.integers(2, 4000),
    st.integers(2, 4000),
    st.fractions(Fraction(1, 4), 4, max_denominator=100),
    st.sampled_from([0, 1, 2, 3, 11]),
)
def test_display_sizes_are_exact(width: int, height: int, sar: Fraction, mode: int) -> None:
    across, down = display_size((width, height), sar, mode)
    shape = Fraction(width, height) * sar * {1: Fraction(1, 2), 11: Fraction(1, 2), 2: 2, 3: 2}.get(mode, 1)
    assert Fraction(across, down) == shape
