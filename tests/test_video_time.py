"""Time: every frame keeps its presentation time, whatever the container and the encoder make of it."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from video_clips import Nearest, ffprobe, make_clip, number_of, plan_video, read_back, upscale_video

from apisr.core.errors import InputError
from apisr.upscale.options import VideoOptions
from apisr.upscale.results import VideoResult
from apisr.upscale.sizes import SizeRequest
from apisr.upscale.video.cuts import plan_segments
from apisr.video.index import COMMON_RATES, PacketIndex, nominal_rate
from apisr.video.source import VideoSource

FAST = VideoOptions(preset="ultrafast", segment_frames=8)
MILLI = Fraction(1, 1000)


def upscale(source: Path, target: Path, options: VideoOptions = FAST, **settings: Any) -> VideoResult:
    return upscale_video(source, target, Nearest, options, **settings)


VFR = [0, 42, 83, 250, 292, 1000, 1001, 1040, 1080, 1500, 1511, 1599, 2400, 2441, 2483, 9000, 9042, 9083, 9125, 9167]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".webm"])
def test_variable_rate_keeps_every_time(tmp_path: Path, suffix: str) -> None:
    source = make_clip(
        tmp_path / "in.mkv", frames=20, times=VFR, time_base=MILLI, options={"g": "5", "bf": "2"}, audio="libopus"
    )
    options = VideoOptions(preset="8", segment_frames=8) if suffix == ".webm" else FAST
    outcome = upscale(source, tmp_path / f"out{suffix}", options)
    after = read_back(tmp_path / f"out{suffix}", scale=2)
    assert after.numbers == list(range(20))
    assert after.times == [time * MILLI for time in VFR]
    assert outcome.duration_s == pytest.approx(9.167 + 1 / 24, abs=0.01)


def test_average_and_base_rate_of_the_header_are_not_believed(tmp_path: Path) -> None:
    """A variable file that is tagged with a rate 2.3 times too high lasts as long as before."""
    source = make_clip(tmp_path / "in.mkv", frames=20, times=VFR, time_base=MILLI, rate=Fraction(55))
    upscale(source, tmp_path / "out.mkv")
    assert read_back(tmp_path / "out.mkv", scale=2).times == [time * MILLI for time in VFR]


def test_avi_refuses_variable_rate_before_work(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=20, times=VFR, time_base=MILLI)
    with pytest.raises(InputError) as refused:
        plan_video(source, tmp_path / "out.avi", FAST, 2)
    assert refused.value.code == "variable-rate"


@pytest.mark.parametrize(("origin", "suffix"), [(".mkv", ".mkv"), (".mkv", ".mp4"), (".mp4", ".mkv"), (".ts", ".mkv")])
def test_start_offset_is_kept_against_the_sound(tmp_path: Path, origin: str, suffix: str) -> None:
    times = [7 * 1000 + round(number * 1001 / 24) for number in range(16)]
    source = make_clip(
        tmp_path / f"in{origin}",
        frames=16,
        times=times,
        time_base=MILLI,
        audio="aac" if origin != ".ts" else "mp2",
        audio_offset=Fraction(5),
    )
    upscale(source, tmp_path / f"out{suffix}")
    before, after = read_back(source), read_back(tmp_path / f"out{suffix}", scale=2)
    assert before.times[0] == 7 or origin in (".ts", ".mp4")
    distance = before.times[0] - before.packets["audio", 0][0][0]
    assert abs(after.times[0] - after.packets["audio", 0][0][0] - distance) <= 2 * MILLI
    for one, two in zip(before.times, after.times, strict=True):
        assert abs((two - after.times[0]) - (one - before.times[0])) <= MILLI


def test_two_hours_do_not_drift(tmp_path: Path) -> None:
    """24000/1001 over two hours, few frames: the last one is where it belongs to the tick."""
    unit = Fraction(1001, 24000)
    numbers = [0, 1, 2, 3, 100_000, 100_001, 172_618, 172_619]
    source = make_clip(tmp_path / "in.mp4", frames=8, times=numbers, time_base=unit, rate=1 / unit)
    upscale(source, tmp_path / "out.mp4")
    assert read_back(tmp_path / "out.mp4", scale=2).times == [number * unit for number in numbers]


def test_negative_decoding_times_and_edit_lists(tmp_path: Path) -> None:
    """MP4 with B frames and an encoder delay in its sound: edit lists hold both."""
    source = make_clip(tmp_path / "in.mp4", frames=24, options={"bf": "3", "g": "12"}, audio="aac")
    with av.open(str(source)) as container:
        first = next(packet for packet in container.demux(video=0))
        assert first.dts < 0
    upscale(source, tmp_path / "out.mp4")
    before, after = read_back(source), read_back(tmp_path / "out.mp4", scale=2)
    assert after.times == before.times
    assert after.packets["audio", 0] == before.packets["audio", 0]


def test_first_frame_that_is_not_a_keyframe(tmp_path: Path) -> None:
    """A recording cut in the middle of a group: what can be decoded is upscaled at its time, and it is said."""
    whole = make_clip(tmp_path / "whole.ts", codec="mpeg2video", frames=36, rate=Fraction(25), options={"g": "12"})
    source = tmp_path / "in.mkv"
    with av.open(str(whole)) as container, av.open(str(source), "w") as out:
        copy = out.add_stream_from_template(container.streams.video[0], opaque=True)
        for number, packet in enumerate(container.demux(video=0)):
            if packet.size and number >= 5:
                packet.stream = copy
                out.mux(packet)
    expected = read_back(source)
    outcome = upscale(source, tmp_path / "out.mkv", VideoOptions(preset="ultrafast", accept_damage=True))
    after = read_back(tmp_path / "out.mkv", scale=2)
    assert outcome.frames_in == outcome.frames_out == len(expected.times)
    assert after.numbers[-20:] == expected.numbers[-20:]
    assert [time - after.times[0] for time in after.times] == [time - expected.times[0] for time in expected.times]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])
@pytest.mark.parametrize("codec", ["mpeg2video", "libx264", "libx265"])
def test_reading_from_the_middle_of_open_groups_is_bit_for_bit_the_same(
    tmp_path: Path, codec: str, suffix: str
) -> None:
    options = {
        "mpeg2video": {"g": "6", "bf": "2", "b": "3M"},
        "libx264": {"x264-params": "keyint=6:min-keyint=6:scenecut=0:open-gop=1:bframes=2"},
        "libx265": {"x265-params": "log-level=error:keyint=6:min-keyint=6:open-gop=1:bframes=2"},
    }[codec]
    source = make_clip(tmp_path / f"in{suffix}", codec=codec, frames=40, rate=Fraction(25), options=options)
    opened = VideoSource.open(source)
    index = opened.index
    whole = {frame.pts: frame.rgb for frame in opened.frames()}
    assert len(whole) == 40
    spans = plan_segments(index, frames=6)
    assert len(spans) >= 4
    seen: list[int] = []
    for span in spans:
        for frame in opened.frames(start=span.start, end=span.end):
            seen.append(frame.pts)
            assert np.array_equal(frame.rgb, whole[frame.pts]), f"frame {frame.pts} in {span}"
    assert seen == sorted(whole)


@given(
    count=st.integers(1, 200),
    every=st.integers(1, 30),
    least=st.integers(1, 50),
    window=st.tuples(st.integers(0, 300), st.integers(0, 300)),
)
def test_spans_cover_everything_once(count: int, every: int, least: int, window: tuple[int, int]) -> None:
    pts = np.arange(count, dtype=np.int64) * 3
    index = PacketIndex(pts, np.ones(count, np.int64), pts[::every], Fraction(24), variable=False, has_timestamps=True)
    start, end = min(window), max(window)
    for low, high in ((None, None), (start, end)):
        spans = plan_segments(index, (low, high), least)
        wanted = [int(time) for time in pts if (low is None or time >= low) and (high is None or time < high)]
        found = [
            int(time)
            for span in spans
            for time in pts
            if (span.start is None or time >= span.start) and (span.end is None or time < span.end)
        ]
        assert found == wanted
        assert sum(span.frames for span in spans) == len(wanted)


@pytest.mark.parametrize("rate", COMMON_RATES)
def test_rates_are_recognised_through_the_rounding_of_matroska(rate: Fraction) -> None:
    times = np.round(np.arange(100) / float(rate), 3)
    assert nominal_rate(times) == (rate, False)


@given(st.lists(st.integers(1, 500), min_size=3, max_size=24))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_times_come_through(tmp_path: Path, steps: list[int]) -> None:
    times = [int(time) for time in np.cumsum([0, *steps])]
    source = make_clip(tmp_path / "in.mkv", frames=len(times), times=times, time_base=MILLI, options={"g": "4"})
    upscale(source, tmp_path / "out.mkv", VideoOptions(preset="ultrafast", segment_frames=4), overwrite=True)
    after = read_back(tmp_path / "out.mkv", scale=2)
    assert after.times == [time * MILLI for time in times]
    assert after.numbers == list(range(len(times)))


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts", ".mov"])
@pytest.mark.parametrize("sar", [Fraction(32, 27), Fraction(8, 9)])
def test_pixel_aspect_ratio_is_kept(tmp_path: Path, suffix: str, sar: Fraction) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=4, sar=sar)
    upscale(source, tmp_path / f"out{suffix}")
    video = ffprobe(tmp_path / f"out{suffix}", "streams")["streams"][0]
    assert Fraction(video["sample_aspect_ratio"].replace(":", "/")) == sar


def test_pixel_aspect_ratio_with_an_encoder_that_does_not_store_it(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=4, sar=Fraction(32, 27))
    upscale(source, tmp_path / "out.mkv", VideoOptions(codec="ffv1"))
    frames = ffprobe(tmp_path / "out.mkv", "frames")["frames"]
    assert {frame["sample_aspect_ratio"] for frame in frames} == {"32:27"}


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_kept_as_it_is(tmp_path: Path, suffix: str, degrees: int) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=4, rotation=degrees)
    before = VideoSource.open(source).info.video
    assert before.rotation % 360 == degrees
    upscale(source, tmp_path / f"out{suffix}")
    after = VideoSource.open(tmp_path / f"out{suffix}").info.video
    assert after.display_matrix == before.display_matrix
    assert (after.width, after.height) == (192, 128)


@pytest.mark.parametrize("params", ["tff=1", "bff=1", "fake-interlaced=1"])
def test_progressive_pictures_in_interlaced_coding_are_left_alone(tmp_path: Path, params: str) -> None:
    source = make_clip(
        tmp_path / "in.mkv", frames=30, size=(320, 240), pictures=_steady, options={"x264-params": params, "crf": "12"}
    )
    outcome = upscale(source, tmp_path / "out.mkv")
    assert outcome.frames_in == outcome.frames_out == 30
    assert not any("is deinterlaced" in notice for notice in outcome.notices)
    assert read_back(tmp_path / "out.mkv").times == read_back(source).times


def test_an_edit_list_that_hides_the_beginning(tmp_path: Path) -> None:
    """MP4 cut without encoding: frames before the cut are in the file but not shown; they are not upscaled either."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    whole = make_clip(tmp_path / "whole.mp4", frames=48, options={"g": "24", "bf": "2"}, audio="aac")
    source = tmp_path / "in.mp4"
    subprocess.run(["ffmpeg", "-v", "error", "-ss", "0.4", "-i", str(whole), "-c", "copy", str(source)], check=True)
    shown = read_back(source)
    assert 36 <= len(shown.numbers) <= 40
    outcome = upscale(source, tmp_path / "out.mp4")
    after = read_back(tmp_path / "out.mp4", scale=2)
    assert after.numbers == shown.numbers
    assert outcome.frames_out == len(shown.numbers)
    distance = shown.times[0] - next(time for time, _ in shown.packets["audio", 0] if time >= 0)
    assert (
        abs(after.times[0] - next(time for time, _ in after.packets["audio", 0] if time >= 0) - distance) <= 2 * MILLI
    )
    assert [time - after.times[0] for time in after.times] == [time - shown.times[0] for time in shown.times]


def test_what_a_container_crops_is_not_brought_back(tmp_path: Path) -> None:
    if shutil.which("mkvmerge") is None:
        pytest.skip("mkvmerge is not installed")
    whole = make_clip(tmp_path / "whole.mkv", frames=4, codec="ffv1", audio="libopus")
    source = tmp_path / "in.mkv"
    crop = ["--cropping", "0:10,8,6,4"]  # left, top, right, bottom
    subprocess.run(["mkvmerge", "-q", "-o", str(source), *crop, str(whole)], check=True)
    opened = VideoSource.open(source)
    assert opened.info.video.crop == (8, 4, 10, 6)
    outcome = upscale(source, tmp_path / "out.mkv")
    assert read_back(tmp_path / "out.mkv").sizes == {(160, 104)}
    assert any("are cut off" in notice for notice in outcome.notices)
    plain = VideoSource.open(whole)
    one = next(iter(plain.frames())).rgb
    two = next(iter(opened.frames())).rgb
    assert np.array_equal(two, one[8:60, 10:90])
    assert VideoSource.open(tmp_path / "out.mkv").info.video.crop == (0, 0, 0, 0)


def _with_clean_aperture(path: Path, shown: tuple[int, int], offset: tuple[int, int]) -> None:
    """Write a clean aperture into an MP4 file whose index is at its end, as cameras and editors do."""
    content = path.read_bytes()
    clap = struct.pack(">I4sIIIIiIiI", 40, b"clap", shown[0], 1, shown[1], 1, offset[0], 2, offset[1], 2)
    end = content.index(b"avc1", content.index(b"stsd")) - 4
    end += int.from_bytes(content[end : end + 4], "big")
    content = content[:end] + clap + content[end:]
    track = content.rindex(b"trak", 0, end)
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        at = content.index(name, content.rindex(b"moov", 0, end) if name == b"moov" else track) - 4
        size = int.from_bytes(content[at : at + 4], "big") + len(clap)
        content = content[:at] + size.to_bytes(4, "big") + content[at + 4 :]
    path.write_bytes(content)


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_the_clean_aperture_of_mp4_is_what_is_shown(tmp_path: Path, suffix: str) -> None:
    source = make_clip(tmp_path / f"in{suffix}", frames=4, audio="aac")
    plain = VideoSource.open(source)
    assert plain.info.video.crop == (0, 0, 0, 0)
    whole = next(iter(plain.frames())).rgb
    _with_clean_aperture(source, (80, 52), (4, -2))  # two pixels right of the middle, one above
    opened = VideoSource.open(source)
    assert opened.info.video.crop == (5, 7, 10, 6)
    assert (opened.info.video.width, opened.info.video.height) == (80, 52)
    assert np.array_equal(next(iter(opened.frames())).rgb, whole[5:57, 10:90])
    outcome = upscale(source, tmp_path / f"out{suffix}")
    assert any("are cut off" in notice for notice in outcome.notices)
    assert read_back(tmp_path / f"out{suffix}").sizes == {(160, 104)}


@pytest.mark.parametrize("frames", [1, 2])
def test_very_short_videos(tmp_path: Path, frames: int) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=frames)
    outcome = upscale(source, tmp_path / "out.mkv")
    assert outcome.frames_in == outcome.frames_out == frames


@pytest.mark.parametrize("size", [(98, 66), (50, 50), (90, 62)])
def test_sizes_that_are_no_multiple_of_anything(tmp_path: Path, size: tuple[int, int]) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=3, size=size)
    upscale_video(source, tmp_path / "out.mkv", lambda: Nearest(3), FAST, scale=3)
    assert read_back(tmp_path / "out.mkv", scale=3).sizes == {(size[0] * 3, size[1] * 3)}


def test_odd_sizes_are_padded_and_it_is_said(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", codec="ffv1", frames=3, size=(97, 65), pix_fmt="yuv444p")
    options = VideoOptions(preset="ultrafast", pix_fmt="yuv420p")
    outcome = upscale_video(source, tmp_path / "out.mkv", lambda: Nearest(3), options, scale=3)
    assert read_back(tmp_path / "out.mkv", scale=3).sizes == {(292, 196)}
    assert any("291x195 is padded to 292x196" in notice for notice in outcome.notices)


@pytest.mark.parametrize(
    ("options", "size"), [({"height": 90}, (136, 90)), ({"factor": 1.5}, (144, 96)), ({}, (192, 128))]
)
def test_other_sizes_than_the_network_gives(tmp_path: Path, options: dict[str, Any], size: tuple[int, int]) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=3, sar=Fraction(1))
    upscale_video(source, tmp_path / "out.mkv", Nearest, VideoOptions(preset="ultrafast"), size=SizeRequest(**options))
    assert read_back(tmp_path / "out.mkv").sizes == {size}


def test_a_part_of_a_video(tmp_path: Path) -> None:
    source = make_clip(
        tmp_path / "in.mkv", frames=48, options={"g": "6"}, audio="libopus", srt=True, chapters=True, rate=Fraction(25)
    )
    options = VideoOptions(preset="ultrafast", start=Fraction(2, 5), end=Fraction(8, 5), segment_frames=8)
    outcome = upscale(source, tmp_path / "out.mkv", options)
    after = read_back(tmp_path / "out.mkv", scale=2)
    assert outcome.frames_out == 30
    assert after.numbers == list(range(10, 40))
    assert after.times == [Fraction(number, 25) for number in range(30)]
    assert 55 <= len(after.packets["audio", 0]) <= 62
    assert abs(after.packets["audio", 0][0][0]) <= Fraction(1, 40)
    assert [time for time, _ in after.packets["subtitle", 0]] == [Fraction(1, 10)]
    with av.open(str(tmp_path / "out.mkv")) as container:
        chapters = container.chapters()
        assert [(c["start"] * c["time_base"], c["metadata"]["title"]) for c in chapters] == [(0, "Part A")]
    with pytest.raises(InputError) as refused:
        plan_video(source, tmp_path / "none.mkv", VideoOptions(start=Fraction(90)), 2)
    assert refused.value.code == "no-frames"


def sounding(path: Path) -> tuple[int, list[str]]:
    """How many samples FFmpeg hears, and when the first packets of picture and sound are."""
    heard = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", path, "-map", "0:a", "-f", "s16le", "-"], check=True, capture_output=True
    )
    asked = ["-show_entries", "packet=pts_time", "-read_intervals", "%+#1", "-of", "csv=p=0"]
    firsts = [
        subprocess.run(
            ["ffprobe", "-v", "error", "-select_streams", kind, *asked, path],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for kind in ("v", "a")
    ]
    return len(heard.stdout) // 2, firsts


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="FFmpeg is not installed")
@pytest.mark.parametrize(("codec", "suffix"), [("libopus", ".mkv"), ("aac", ".mp4"), ("aac", ".mkv")])
def test_an_end_alone_cuts_nothing_before_it(tmp_path: Path, codec: str, suffix: str) -> None:
    source = tmp_path / f"late{suffix}"
    pictures = ["-itsoffset", "0.7", "-f", "lavfi", "-i", "testsrc2=s=96x64:r=24:d=1"]
    sound = [
        "-f",
        "lavfi",
        "-i",
        "sine=d=2:r=48000",
        "-map",
        "0",
        "-map",
        "1",
        "-fps_mode",
        "passthrough",
        "-c:a",
        codec,
    ]
    subprocess.run(["ffmpeg", "-v", "error", *pictures, *sound, source], check=True)
    whole, ended, cut = (tmp_path / f"{name}{suffix}" for name in ("whole", "ended", "cut"))
    upscale(source, whole, VideoOptions(preset="ultrafast"))
    notices = upscale(source, ended, VideoOptions(preset="ultrafast", end=Fraction(9))).notices
    assert sounding(ended) == sounding(whole)
    assert sounding(whole)[0] == sounding(source)[0]
    upscale(source, cut, VideoOptions(preset="ultrafast", end=Fraction(1, 2)))
    samples, firsts = sounding(cut)
    assert firsts == sounding(whole)[1]
    assert 1.15 < samples / 48000 < 1.3  # the sound before the first picture, and half a second
    assert not any("a part of the video" in notice for notice in notices)


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="FFmpeg is not installed")
def test_the_end_of_opus_is_kept_or_named(tmp_path: Path) -> None:
    clip, source = make_clip(tmp_path / "clip.mkv"), tmp_path / "in.mkv"
    parts = ["-i", clip, "-f", "lavfi", "-i", "sine=d=1:r=48000", "-c:v", "copy", "-c:a", "libopus"]
    subprocess.run(["ffmpeg", "-v", "error", *parts, source], check=True)
    heard = sounding(source)[0]
    for suffix, more in ((".mkv", False), (".mp4", True)):
        notices = upscale(source, tmp_path / f"out{suffix}").notices
        extra = sounding(tmp_path / f"out{suffix}")[0] - heard
        named = [notice for notice in notices if "ends inside its last packet" in notice]
        assert (extra > 0, len(named)) == (more, int(more))
        told_ms = [int(notice.split("about ")[1].split()[0]) for notice in named]
        assert told_ms == [pytest.approx(1000 * extra / 48000, abs=1) for _ in named]


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="FFmpeg is not installed")
@pytest.mark.parametrize(("suffix", "sound_rate"), [(".mp4", 48000), (".mp4", 44100), (".mov", 44100)])
def test_streams_of_mp4_begin_exactly_where_they_did(tmp_path: Path, suffix: str, sound_rate: int) -> None:
    source, target = tmp_path / "in.mp4", tmp_path / f"out{suffix}"
    clip = make_clip(tmp_path / "clip.mp4", options={"bf": "3"})
    late = ["-itsoffset", "0.0625", "-i", clip, "-f", "lavfi", "-i", f"sine=d=1:r={sound_rate}"]
    parts = ["-c:v", "copy", "-c:a", "aac", "-movflags", "frag_keyframe+empty_moov"]
    subprocess.run(["ffmpeg", "-v", "error", *late, *parts, source], check=True)
    upscale(source, target)

    def begins(path: Path) -> list[Fraction]:
        asked = ["ffprobe", "-v", "error", "-show_entries", "stream=start_pts,time_base", "-of", "json", path]
        found = json.loads(subprocess.run(asked, check=True, capture_output=True).stdout)["streams"]
        return [stream["start_pts"] * Fraction(stream["time_base"]) for stream in found]

    assert begins(source)[0].denominator > 1
    assert begins(target) == begins(source)


def _fields(number: int, width: int, height: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Interlaced: the lines of the second field show the box a sixtieth of a second later."""
    frame = np.full((height, width, 3), 60, np.uint8)
    for field in range(2):
        left = (number * 2 + field) * 5 % (width - 40)
        frame[field::2, left : left + 40] = 200
    return frame


def _steady(number: int, width: int, height: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    frame = np.full((height, width, 3), 60, np.uint8)
    frame[::2, width // 2 :] = 90  # a drawing with fine lines
    left = number * 6 % (width - 40)
    frame[:, left : left + 40] = 200
    return frame


@pytest.mark.parametrize("params", ["tff=1:bframes=3", "bff=1:bframes=3:b-pyramid=none", "tff=1:keyint=8:open-gop=1"])
@pytest.mark.parametrize("suffix", [".mkv", ".ts"])
def test_field_pairs_in_one_coded_frame_keep_number_and_times(tmp_path: Path, params: str, suffix: str) -> None:
    """Interlaced H.264 (MBAFF); no encoder here writes one field to a picture (PAFF), so that is not tested."""
    source = make_clip(
        tmp_path / f"in{suffix}",
        frames=40,
        size=(320, 240),
        rate=Fraction(30000, 1001),
        pictures=_fields,
        options={"x264-params": params, "flags": "+ildct+ilme", "crf": "12"},
    )
    opened = VideoSource.open(source)
    assert opened.info.video.interlaced
    outcome = upscale(source, tmp_path / f"out{suffix}", VideoOptions(preset="ultrafast", segment_frames=8))
    assert outcome.frames_in == outcome.frames_out == 40
    assert any("deinterlaced (bwdif): it is flagged as interlaced" in notice for notice in outcome.notices)
    assert VideoSource.open(tmp_path / f"out{suffix}").combed_share() < 0.1
    assert read_back(tmp_path / f"out{suffix}").times == read_back(source).times


def test_interlacing_is_seen_in_the_pictures_and_reported(tmp_path: Path) -> None:
    rate = Fraction(30000, 1001)
    combed = make_clip(tmp_path / "combed.mkv", codec="ffv1", frames=30, size=(320, 240), rate=rate, pictures=_fields)
    clean = make_clip(tmp_path / "clean.mkv", codec="ffv1", frames=30, size=(320, 240), rate=rate, pictures=_steady)
    assert VideoSource.open(combed).combed_share() > 0.8
    assert VideoSource.open(clean).combed_share() < 0.1
    outcome = upscale(combed, tmp_path / "out.mkv")
    assert outcome.frames_out == 30
    assert any("deinterlaced (bwdif)" in notice for notice in outcome.notices)
    result = VideoSource.open(tmp_path / "out.mkv")
    assert result.combed_share() < 0.1
    kept = upscale(combed, tmp_path / "kept.mkv", VideoOptions(preset="ultrafast", deinterlace="off"))
    assert not any("deinterlaced" in notice for notice in kept.notices)
    times = read_back(tmp_path / "out.mkv").times
    assert times == read_back(combed).times
    assert not any("interlac" in notice for notice in upscale(clean, tmp_path / "out2.mkv").notices)


def test_three_two_pulldown_is_undone_on_request(tmp_path: Path) -> None:
    film = [_film(number) for number in range(40)]

    def pulled(number: int, width: int, height: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        group, place = divmod(number, 5)
        top = group * 4 + (0, 1, 1, 2, 3)[place]
        bottom = group * 4 + (0, 1, 2, 3, 3)[place]
        frame = film[top].copy()
        frame[1::2] = film[bottom][1::2]
        return frame

    rate = Fraction(30000, 1001)
    source = make_clip(tmp_path / "in.mkv", codec="ffv1", frames=50, size=(320, 240), rate=rate, pictures=pulled)
    options = VideoOptions(preset="ultrafast", detelecine=True, segment_frames=12)
    outcome = upscale(source, tmp_path / "out.mkv", options)
    assert any("3:2 pulldown is undone" in notice for notice in outcome.notices)
    after = read_back(tmp_path / "out.mkv")
    assert 38 <= len(after.times) <= 41
    steps = np.diff([float(time) for time in after.times])
    assert np.abs(steps[2:-2] - 1001 / 24000).max() < 0.009
    assert VideoSource.open(tmp_path / "out.mkv").combed_share() < 0.1


def _film(number: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    frame = np.full((240, 320, 3), 60, np.uint8)
    left = number * 6
    frame[40:200, left : left + 40] = 200
    return frame


def test_bar_codes_can_be_read() -> None:
    rgb = np.zeros((64, 96, 3), np.uint8)
    assert number_of(rgb) == 0
