"""What is copied beside the picture: times, headers, and what a format has no place for; ffmpeg and ffprobe judge."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_video_cases import FAST, packets
from test_video_clocks import ffmpeg
from video_clips import Nearest, ffprobe, upscale_video

from apisr.core.errors import InputError
from apisr.upscale.options import VideoOptions
from apisr.upscale.results import VideoResult

PICTURE = ["-f", "lavfi", "-i", "testsrc=s=64x48:r=25:d=1"]
SOUND = ["-f", "lavfi", "-i", "sine=d=1:r=48000"]
USUAL = (".mkv", ".mp4", ".mov", ".ts", ".avi", ".nut")
H264 = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "12"]


def upscale(source: Path, target: Path) -> VideoResult:
    return upscale_video(source, target, Nearest, FAST if target.suffix in USUAL else VideoOptions())


def sound_of(path: Path) -> bytes:
    """The decoded sound, as ffmpeg hears it."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-map", "0:a:0", "-f", "s32le", "-"]
    return subprocess.run(command, check=True, capture_output=True).stdout


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_packets_shorter_than_the_unit_of_time_keep_their_places(tmp_path: Path, suffix: str) -> None:
    """TrueHD: 1,200 packets a second, and Matroska counts in milliseconds."""
    source, target = tmp_path / "in.mkv", tmp_path / f"out{suffix}"
    ffmpeg(*PICTURE, *SOUND, *H264, "-c:a", "truehd", "-strict", "-2", source)
    upscale(source, target)
    before, after = packets(source, "a"), packets(target, "a")
    assert len(after) == len(before) == 1200
    assert max(abs(one - two) for (one, _), (two, _) in zip(before, after, strict=True)) <= 0.0011
    assert sound_of(target) == sound_of(source)


def test_sound_in_blocks_gets_its_true_rate_in_avi(tmp_path: Path) -> None:
    """The header of the source says 128 kbit/s where its blocks need 193."""
    source, target = tmp_path / "in.avi", tmp_path / "out.avi"
    ffmpeg(*PICTURE, *SOUND, "-c:v", "mpeg4", "-c:a", "adpcm_ms", source)
    upscale(source, target)
    assert sound_of(target) == sound_of(source)
    assert packets(target, "a")[-1][0] == pytest.approx(packets(source, "a")[-1][0], abs=0.002)


@pytest.mark.parametrize("begin", [50_000, 95_442.8])
@pytest.mark.parametrize("name", ["in.ts", "in.mpg"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_clock_that_begins_anywhere_begins_at_zero(tmp_path: Path, name: str, begin: float, suffix: str) -> None:
    """The clock of a broadcast is hours into the day, or passes its last number (2^33) inside the file."""
    source, target = tmp_path / name, tmp_path / f"out{suffix}"
    coded = [*H264, "-c:a", "aac"] if name == "in.ts" else ["-c:v", "mpeg2video", "-bf", "2", "-c:a", "mp2"]
    ffmpeg(*PICTURE, *SOUND, *coded, "-output_ts_offset", begin, source)
    upscale(source, target)
    assert float(ffprobe(target, "format")["format"]["duration"]) == pytest.approx(1, abs=0.1)
    distances = [packets(path, "v")[0][0] - packets(path, "a")[0][0] for path in (source, target)]
    assert distances[1] == pytest.approx(distances[0], abs=0.003)
    assert len(packets(target, "v")) == 25


def test_the_still_picture_of_an_animation_is_no_second_video(tmp_path: Path) -> None:
    """Animated AVIF holds its first picture once more, and transparency, as further streams."""
    frames = [Image.fromarray(np.full((48, 64, 4), 40 * number, np.uint8)) for number in range(5)]
    frames[0].save(tmp_path / "in.avif", save_all=True, append_images=frames[1:], duration=40)
    result = upscale(tmp_path / "in.avif", tmp_path / "out.mkv")
    streams = ffprobe(tmp_path / "out.mkv", "streams")["streams"]
    assert [int(stream["nb_read_frames"]) for stream in streams] == [5]
    assert sum("transparency" in notice for notice in result.notices) == 3


TAGGED = ["-movflags", "use_metadata_tags", "-metadata", "title=T", "-metadata", "artist=A", "-metadata", "studio=S"]


def tags_of(path: Path) -> set[str]:
    found = ffprobe(path, "format", "streams")
    every = [found["format"].get("tags", {}), *(stream.get("tags", {}) for stream in found["streams"])]
    return {str(value) for tags in every for value in tags.values()}


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov", ".ts", ".avi", ".webm"])
def test_tags_come_back_or_are_named(tmp_path: Path, suffix: str) -> None:
    source, target = tmp_path / "in.mp4", tmp_path / f"out{suffix}"
    ffmpeg(*PICTURE, *H264, *TAGGED, source)
    assert {"T", "A", "S"} <= tags_of(source)
    said = " ".join(notice for notice in upscale(source, target).notices if "the tags" in notice)
    named = {value for key, value in {"title": "T", "artist": "A", "studio": "S"}.items() if key in said}
    assert tags_of(target) & {"T", "A", "S"} == {"T", "A", "S"} - named
    assert ("T" in named) == (suffix == ".ts")


@pytest.mark.parametrize("language", ["deu", "fra", "fre", "zho", "jpn", "ger", "ces"])
def test_languages_of_quicktime(tmp_path: Path, language: str) -> None:
    """libav's table of them has one of the two codes of a language; ffprobe reads it back."""
    source, target = tmp_path / "in.mkv", tmp_path / "out.mov"
    ffmpeg(*PICTURE, *SOUND, *H264, "-c:a", "aac", "-metadata:s:a:0", f"language={language}", source)
    upscale(source, target)
    sound = next(stream for stream in ffprobe(target, "streams")["streams"] if stream["codec_type"] == "audio")
    other = {"deu": "ger", "fre": "fra", "zho": "chi"}
    assert sound["tags"]["language"] == other.get(language, language)


def test_a_language_that_quicktime_does_not_know_is_named(tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    ffmpeg(*PICTURE, *SOUND, *H264, "-c:a", "aac", "-metadata:s:a:0", "language=ain", source)
    assert any("language" in notice for notice in upscale(source, tmp_path / "out.mov").notices)


def turned_clip(path: Path, degrees: int) -> Path:
    ffmpeg(*PICTURE, *H264, path.with_name("flat.mp4"))
    ffmpeg("-i", path.with_name("flat.mp4"), "-c", "copy", "-metadata:s:v", f"rotate={degrees}", path)
    return path


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as opened:
        return np.asarray(opened.convert("RGB"), int)


@pytest.mark.parametrize("degrees", [90, 180, 270])
@pytest.mark.parametrize("name", ["out.apng", "%03d.png"])
def test_pictures_of_a_turned_clip_are_upright(tmp_path: Path, name: str, degrees: int) -> None:
    """ffmpeg, which turns by itself, judges."""
    source = turned_clip(tmp_path / "in.mp4", degrees)
    ffmpeg("-i", source, "-frames:v", "1", "-vf", "scale=2*iw:2*ih:flags=neighbor", tmp_path / "judged.png")
    upscale(source, tmp_path / name)
    written = tmp_path / ("001.png" if "%" in name else name)
    ours, judged = pixels_of(written), pixels_of(tmp_path / "judged.png")
    assert ours.shape == judged.shape
    assert np.abs(ours - judged).max() <= 1


@pytest.mark.parametrize("suffix", [".ts", ".avi", ".nut"])
def test_a_format_that_cannot_turn_says_so(tmp_path: Path, suffix: str) -> None:
    source = turned_clip(tmp_path / "in.mp4", 90)
    assert sum("to be turned" in notice for notice in upscale(source, tmp_path / f"out{suffix}").notices) == 1


def test_a_cover_is_refused_where_it_would_be_lost(tmp_path: Path) -> None:
    """QuickTime has no cover pictures for libav."""
    ffmpeg("-f", "lavfi", "-i", "color=red:s=32x32", "-frames:v", "1", tmp_path / "cover.png")
    source = tmp_path / "in.mkv"
    ffmpeg(*PICTURE, *H264, "-attach", tmp_path / "cover.png", "-metadata:s:t", "mimetype=image/png", source)
    with pytest.raises(InputError) as refused:
        upscale(source, tmp_path / "out.mov")
    assert refused.value.code == "stream-not-in-container"


@pytest.mark.parametrize("kind", ["420jpeg", "420mpeg2", "420paldv"])
def test_the_place_of_colour_in_y4m(tmp_path: Path, kind: str) -> None:
    """ffprobe reads it in the header of the source, and in the stream of the output."""
    source, target = tmp_path / "in.y4m", tmp_path / "out.mkv"
    ffmpeg(*PICTURE, "-frames:v", "3", "-pix_fmt", "yuv420p", source)
    source.write_bytes(source.read_bytes().replace(b"C420jpeg XYSCSS=420JPEG", f"C{kind}".encode(), 1))
    upscale(source, target)
    places = [ffprobe(path, "streams")["streams"][0]["chroma_location"] for path in (source, target)]
    assert places[1] == places[0] == {"420jpeg": "center", "420mpeg2": "left", "420paldv": "topleft"}[kind]


def test_frames_of_five_seconds_may_be_reordered(tmp_path: Path) -> None:
    """A slide show with B frames has no restart of its clock: it is whole, and not damaged."""
    source, target = tmp_path / "in.mkv", tmp_path / "out.mkv"
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x48:r=1/5:d=40", "-c:v", "libx264", "-bf", "3", "-b_strategy", "0", source)
    upscale(source, target)
    assert [time for time, _ in packets(target, "v")] == [5.0 * number for number in range(8)]


@pytest.mark.parametrize("name", ["a.sgi", "a.xbm", "a.xwd", "a.dpx"])
def test_a_picture_is_no_video(tmp_path: Path, name: str) -> None:
    """libav opens pictures of kinds that we do not read; they would become videos of one frame."""
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x48", "-frames:v", "1", "-update", "1", tmp_path / name)
    with pytest.raises(InputError) as refused:
        upscale(tmp_path / name, tmp_path / "out.mkv")
    assert refused.value.code == "not-a-picture"


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".mp4", ".avi"])
def test_sound_that_an_edit_list_hides_stays_hidden(tmp_path: Path, suffix: str) -> None:
    """A cut without new encoding: half a second before the cut lies in the file, and nobody is to see or hear it."""
    whole, source, target = tmp_path / "whole.mp4", tmp_path / "in.mp4", tmp_path / f"out{suffix}"
    long = [item.replace("d=1", "d=3") for item in (*PICTURE, *SOUND)]
    ffmpeg(*long, "-c:v", "libx264", "-preset", "ultrafast", "-g", "250", "-c:a", "aac", whole)
    ffmpeg("-ss", "0.5", "-i", whole, "-c", "copy", source)
    hidden = [packet for packet in ffprobe(source, "packets")["packets"] if "D" in packet["flags"]]
    assert len(hidden) > 20
    upscale(source, target)
    length = len(sound_of(source)) / 4 / 48000
    assert len(sound_of(target)) / 4 / 48000 == pytest.approx(length, abs=0.045)  # a packet for the decoder
    assert float(ffprobe(target, "format")["format"]["duration"]) == pytest.approx(2.5, abs=0.1)
    first_shown = next(time for time, _ in packets(source, "v") if time >= 0)
    before, after = packets(source, "a")[-1][0] - first_shown, packets(target, "a")[-1][0] - packets(target, "v")[0][0]
    assert after == pytest.approx(before, abs=0.04)  # a frame: AVI has a grid of them
