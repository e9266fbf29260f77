"""Containers x codecs: what goes in comes out, judged by reading the files back and by ffprobe."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from video_clips import Nearest, ffprobe, make_clip, read_back, upscale_video

from apisr.upscale.options import VideoOptions

SOURCES = {
    "h264": ("libx264", "yuv420p", {"g": "8"}),
    "hevc": ("libx265", "yuv420p", {"x265-params": "log-level=error:keyint=8"}),
    "hevc10": ("libx265", "yuv420p10le", {"x265-params": "log-level=error:keyint=8"}),
    "av1": ("libsvtav1", "yuv420p", {"preset": "12"}),
    "vp9": ("libvpx-vp9", "yuv420p", {"cpu-used": "8", "deadline": "realtime", "b": "200k"}),
    "mpeg2": ("mpeg2video", "yuv420p", {"b": "2M", "bf": "2"}),
    "mpeg4": ("mpeg4", "yuv420p", {"b": "1M", "bf": "2"}),
    "huffyuv": ("huffyuv", "yuv422p", {}),
    "wmv2": ("wmv2", "yuv420p", {"b": "1M"}),
}
CONTAINERS = {
    ".mkv": ("aac", ["h264", "hevc", "hevc10", "av1", "vp9", "mpeg2", "mpeg4", "huffyuv", "wmv2"]),
    ".mp4": ("aac", ["h264", "hevc", "hevc10", "av1", "vp9", "mpeg2", "mpeg4"]),
    ".mov": ("aac", ["h264", "hevc", "hevc10", "mpeg2", "mpeg4"]),
    ".webm": ("libopus", ["av1", "vp9"]),
    ".ts": ("mp2", ["h264", "hevc", "hevc10", "mpeg2", "mpeg4"]),
    ".avi": ("mp2", ["h264", "mpeg2", "mpeg4", "huffyuv", "wmv2"]),
}
CASES = [(suffix, codec) for suffix, (_, codecs) in CONTAINERS.items() for codec in codecs]
FAST = {".webm": {"preset": "8", "encoder_options": (("deadline", "realtime"),)}}


@pytest.mark.parametrize(("suffix", "codec"), CASES, ids=[f"{codec}{suffix}" for suffix, codec in CASES])
def test_everything_comes_through(tmp_path: Path, suffix: str, codec: str) -> None:
    encoder, pix_fmt, options = SOURCES[codec]
    options = dict(options)
    if suffix == ".avi" and codec != "huffyuv":
        options["bf"] = "0"
    rate = (
        Fraction(25)
        if codec in ("mpeg2", "mpeg4", "wmv2") or codec == "huffyuv" or suffix == ".avi"
        else Fraction(24000, 1001)
    )
    # Matroska has no mark of its own for these two: they come from AVI.
    origin = ".avi" if suffix == ".mkv" and codec in ("huffyuv", "wmv2") else suffix
    source = make_clip(
        tmp_path / f"in{origin}",
        codec=encoder,
        pix_fmt=pix_fmt,
        options=options,
        frames=20,
        rate=rate,
        audio=CONTAINERS[origin][0],
        tags={"title": "A title"},
    )
    target = tmp_path / f"out{suffix}"
    wishes = VideoOptions(segment_frames=6, **FAST.get(suffix, {"preset": "ultrafast"}))
    outcome = upscale_video(source, target, Nearest, wishes, scale=2)
    assert outcome.frames_in == outcome.frames_out == 20
    before, after = read_back(source), read_back(target, scale=2)
    assert after.numbers == before.numbers == list(range(20))
    assert after.sizes == {(192, 128)}
    # Every frame at its time; transport streams may move everything together (their clock starts where it likes).
    shift = after.times[0] - before.times[0] if origin in (".ts", ".avi") else 0
    unit = max(Fraction(1, 1000), Fraction(0)) if suffix in (".mkv", ".webm") else Fraction(1, 10_000)
    for one, two in zip(before.times, after.times, strict=True):
        assert abs(two - one - shift) <= unit
    sound_before, sound_after = before.packets["audio", 0], after.packets["audio", 0]
    assert [data for _, data in sound_before] == [data for _, data in sound_after]
    for (one, _), (two, _) in zip(sound_before, sound_after, strict=True):
        assert abs(two - one - shift) <= Fraction(1, 900)
    report = ffprobe(target, "streams", "format")
    video = next(stream for stream in report["streams"] if stream["codec_type"] == "video")
    assert (video["width"], video["height"]) == (192, 128)
    assert int(video["nb_read_frames"]) == 20
    if suffix not in (".avi", ".ts") and origin == suffix:
        assert report["format"]["tags"]["title"] == "A title"
    if codec == "hevc10" and suffix != ".webm":
        assert video["pix_fmt"] == "yuv420p10le"
    assert video["pix_fmt"].startswith("yuv422p" if codec == "huffyuv" else "yuv420p")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"in{origin}", f"out{suffix}"]
