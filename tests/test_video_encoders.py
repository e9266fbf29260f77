"""Encoders: what is written is what was asked for, what cannot be is refused before any work."""

from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from video_clips import Nearest, ffprobe, make_clip, plan_video, read_back, upscale_video

from apisr.core.errors import InputError
from apisr.upscale.options import VideoOptions
from apisr.upscale.results import VideoResult
from apisr.upscale.sizes import SizeRequest
from apisr.video.encoders import ENCODERS, EncoderRequest, choose, encoder_named
from apisr.video.source import VideoSource

SOFTWARE = ["libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "prores_ks", "mpeg2video", "mpeg4"]
FAST = {"libx264": "ultrafast", "libx265": "ultrafast", "libsvtav1": "12", "libvpx-vp9": "8", "prores_ks": "proxy"}


def upscale(source: Path, target: Path, options: VideoOptions) -> VideoResult:
    return upscale_video(source, target, Nearest, options, scale=2)


@pytest.mark.parametrize("name", SOFTWARE)
def test_each_encoder_writes_its_codec_and_every_frame(tmp_path: Path, name: str) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=10, size=(128, 96), rate=Fraction(25))
    outcome = upscale(source, tmp_path / "out.mkv", VideoOptions(codec=name, preset=FAST.get(name), segment_frames=5))
    assert outcome.frames_out == 10
    video = ffprobe(tmp_path / "out.mkv", "streams")["streams"][0]
    assert video["codec_name"] == ENCODERS[name].codec
    assert int(video["nb_read_frames"]) == 10
    after = read_back(tmp_path / "out.mkv", scale=2)
    assert after.numbers == list(range(10))
    assert after.times == [Fraction(number, 25) for number in range(10)]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov", ".webm", ".ts", ".m2ts", ".avi", ".nut"])
def test_what_a_container_does_not_carry_is_refused_before_the_work(tmp_path: Path, suffix: str) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=4, rate=Fraction(25))
    written: list[str] = []
    for name in SOFTWARE:
        target, options = tmp_path / f"{name}{suffix}", VideoOptions(codec=name, preset=FAST.get(name))
        refusal = ""
        try:
            plan_video(source, target, scale=2, options=options)
        except InputError as error:
            refusal = error.code
        assert refusal in ("", "codec-not-in-container")
        if not refusal:
            assert upscale(source, target, options).frames_out == 4
            written.append(ffprobe(target, "streams")["streams"][0]["codec_name"])
    assert len(written) >= 2


def test_aliases_and_unknown_names() -> None:
    assert [encoder_named(name).name for name in ("h264", "HEVC", "av1", "vp9", "prores", "x265")] == [
        *("libx264", "libx265", "libsvtav1", "libvpx-vp9", "prores_ks", "libx265")
    ]
    for name in ("libx264x", "divx"):
        with pytest.raises(InputError) as caught:
            encoder_named(name)
        assert caught.value.code == "unknown-encoder"
        assert "libx264" in str(caught.value)


@pytest.mark.parametrize(
    ("wishes", "code"),
    [
        ({"crf": 90.0}, "bad-quality"),
        ({"preset": "quick"}, "unknown-encoder-preset"),
        ({"pixel_format": "yuv420p14le"}, "bad-pixel-format"),
        ({"extra": {"tunes": "animation"}}, "unknown-encoder-option"),
        ({"extra": {"tune": "manga"}}, "encoder-refused"),
        ({"size": (20000, 400)}, "too-large-to-encode"),
    ],
)
def test_impossible_wishes_are_refused(wishes: dict[str, object], code: str) -> None:
    settings: dict[str, object] = {"source_format": "yuv420p", "size": (640, 480), "rate": Fraction(24)} | wishes
    with pytest.raises(InputError) as caught:
        choose("libx264", EncoderRequest(**settings))  # type: ignore[arg-type]
    assert caught.value.code == code
    assert "\n" not in str(caught.value)


def test_quality_and_presets_that_an_encoder_does_not_have() -> None:
    for wishes, code in (({"crf": 10.0}, "no-quality-setting"), ({"preset": "slow"}, "unknown-encoder-preset")):
        with pytest.raises(InputError) as caught:
            choose("ffv1", EncoderRequest("yuv420p", (64, 64), Fraction(24), **wishes))  # type: ignore[arg-type]
        assert caught.value.code == code


def test_hardware_encoders_say_what_they_need_or_work() -> None:
    for name, encoder in ENCODERS.items():
        refusal: InputError | None = None
        try:
            assert choose(name, EncoderRequest("yuv420p", (256, 144), Fraction(24))).name == name
        except InputError as error:
            refusal = error
        if refusal is not None:
            assert refusal.code in ("encoder-refused", "encoder-not-installed")
            assert encoder.hardware or refusal.code == "encoder-not-installed"
            assert refusal.code != "encoder-refused" or f"It needs {encoder.hardware}" in str(refusal)


def test_encoder_options_reach_the_encoder(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=10)
    options = VideoOptions(preset="ultrafast", encoder_options=(("g", "2"), ("bf", "0")))
    upscale(source, tmp_path / "out.mkv", options)
    assert len(VideoSource.open(tmp_path / "out.mkv").index.keyframes) == 5


def test_archive_is_lossless(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=4)
    upscale(source, tmp_path / "out.mkv", VideoOptions(purpose="archive"))
    before, after = VideoSource.open(source), VideoSource.open(tmp_path / "out.mkv")
    assert after.info.video.codec == "ffv1"
    one = list(before.frames())
    two = list(after.frames())
    for small, large in zip(one, two, strict=True):
        middle = large.rgb[1::2, 1::2].astype(int)
        flat = np.abs(np.diff(small.rgb.astype(int), axis=1, append=0)).max(axis=2) + np.abs(
            np.diff(small.rgb.astype(int), axis=0, append=0)
        ).max(axis=2)
        assert np.abs(middle - small.rgb)[flat < 6].mean() < 1.0


@pytest.mark.parametrize(("purpose", "suffix", "codec"), [("share", ".mp4", "h264"), ("edit", ".mov", "prores")])
def test_purposes(tmp_path: Path, purpose: str, suffix: str, codec: str) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=4, pix_fmt="yuv444p", audio="aac")
    upscale(source, tmp_path / f"out{suffix}", VideoOptions(purpose=purpose))  # type: ignore[arg-type]
    video = ffprobe(tmp_path / f"out{suffix}", "streams")["streams"][0]
    assert video["codec_name"] == codec
    assert video["pix_fmt"] == {"share": "yuv420p", "edit": "yuv422p10le"}[purpose]


def test_a_wish_wins_over_the_purpose(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=4)
    plan = plan_video(source, tmp_path / "out.mp4", VideoOptions(purpose="share", crf=30.0, preset="fast"), 2)
    assert plan.format.encoder.options["crf"] == "30"
    assert plan.format.encoder.options["preset"] == "fast"


@pytest.mark.parametrize("how", ["side", "wipe"])
def test_comparison_clips(tmp_path: Path, how: str) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=3)
    upscale(source, tmp_path / "out.mkv", VideoOptions(codec="ffv1", compare=how))  # type: ignore[arg-type]
    after = VideoSource.open(tmp_path / "out.mkv")
    frames = list(after.frames())
    assert len(frames) == 3
    height, width = frames[0].rgb.shape[:2]
    assert (width, height) == ((384, 128) if how == "side" else (192, 128))
    if how == "side":
        left, right = frames[1].rgb[:, :192].astype(int), frames[1].rgb[:, 192:].astype(int)
        assert np.abs(left - right).mean() < 3
    else:
        assert frames[1].rgb[40:, 94:98].max() > 240


def test_the_plan_says_everything_before_work(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=30, audio="libopus", srt=True, options={"g": "5"})
    plan = plan_video(source, tmp_path / "out.mp4", VideoOptions(segment_frames=10), 2, SizeRequest(height=96))
    assert plan.frames == 30
    assert plan.format.size == (144, 96)
    assert [(stream.stream.kind, stream.action) for stream in plan.streams] == [
        *(("video", "upscale"), ("audio", "copy"), ("subtitle", "convert"))
    ]
    assert plan.rate == 24
    assert plan.duration_s == pytest.approx(30 / 24, abs=0.01)
    assert plan.format.encoder.name == "libx264"
    assert len(plan.segments) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]


def test_network_and_encoder_work_side_by_side(tmp_path: Path) -> None:
    """The encoder stands still after a frame until the network has begun the next one: it need not wait for it."""
    frames = 12
    begun = [threading.Event() for _ in range(frames)]
    seen: list[bool] = []

    class Announcing(Nearest):
        def process(self, rgb: np.ndarray) -> np.ndarray:  # type: ignore[override,type-arg]
            begun[self.frames].set()
            return super().process(rgb)

    def encoded(done: float, total: float | None) -> None:
        if 0 < done < frames and all(seen):
            seen.append(begun[int(done)].wait(timeout=60))

    source = make_clip(tmp_path / "in.mkv", frames=frames)
    upscale_video(source, tmp_path / "out.mkv", Announcing, VideoOptions(preset="ultrafast"), encoded, scale=2)
    assert seen == [True] * (frames - 1)
