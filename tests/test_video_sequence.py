"""Numbered pictures in and out."""

from __future__ import annotations

import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from video_clips import Nearest, make_clip, picture, read_back, upscale_video

from apisr.core.errors import InputError
from apisr.image import Picture, read_picture, write_picture
from apisr.upscale.jobs import plan_jobs, run_jobs
from apisr.upscale.options import UpscaleOptions, VideoOptions
from apisr.upscale.results import VideoResult
from apisr.video.sequence import is_sequence, numbers_of, picture_at
from apisr.video.source import VideoSource


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(12):
        write_picture(folder / f"{1001 + number:05d}.png", picture(number, 96, 64))
    return folder / "%05d.png"


def test_pictures_become_a_video(pictures: Path, tmp_path: Path) -> None:
    options = VideoOptions(codec="ffv1", rate=Fraction(12), segment_frames=5)
    outcome = upscale_video(pictures, tmp_path / "out.mkv", Nearest, options, scale=2)
    assert outcome.frames_out == 12
    after = read_back(tmp_path / "out.mkv", scale=2)
    assert after.numbers == list(range(12))
    assert after.times == [Fraction(round(number * 1000 / 12), 1000) for number in range(12)]


def test_pictures_become_pictures_bit_for_bit(pictures: Path, tmp_path: Path) -> None:
    target = tmp_path / "large" / "%04d.png"
    outcome = upscale_video(pictures, target, Nearest, VideoOptions(segment_frames=5), scale=2)
    assert outcome.frames_out == 12
    assert numbers_of(target) == list(range(1, 13))
    for number in range(12):
        large = read_picture(picture_at(target, number + 1)).pixels
        assert np.array_equal(large, picture(number, 96, 64).repeat(2, 0).repeat(2, 1))
    assert sorted(path.name for path in (tmp_path / "large").iterdir()) == [f"{n:04d}.png" for n in range(1, 13)]
    with pytest.raises(InputError) as refused:
        upscale_video(pictures, target, Nearest, VideoOptions(), scale=2)
    assert refused.value.code == "output-exists"


def test_a_video_becomes_pictures_and_sixteen_bits_stay(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", codec="ffv1", pix_fmt="yuv420p10le", frames=4, audio="libopus")
    target = tmp_path / "out" / "f%d.png"
    outcome = upscale_video(source, target, Nearest, VideoOptions(), scale=2)
    assert any("left out: pictures hold nothing else" in notice for notice in outcome.notices)
    info = VideoSource.open(source)
    frames = list(info.frames(dtype=np.uint16))
    for number, frame in enumerate(frames):
        large = read_picture(picture_at(target, number + 1)).pixels
        assert large.dtype == np.uint16
        assert np.array_equal(large[::2, ::2], frame.rgb)


def test_bad_sequences(pictures: Path, tmp_path: Path) -> None:
    assert is_sequence(pictures)
    picture_at(pictures, 1005).unlink()
    for pattern, code in ((pictures, "picture-missing"), (tmp_path / "none" / "%03d.png", "no-such-file")):
        with pytest.raises(InputError) as caught:
            VideoSource.open(pattern)
        assert caught.value.code == code
    clip = make_clip(tmp_path / "in.mkv", frames=2)
    with pytest.raises(InputError) as caught:
        VideoSource.open(clip, rate=Fraction(30))
    assert caught.value.code == "rate-not-applicable"
    with pytest.raises(InputError) as refused:
        upscale_video(clip, tmp_path / "o" / "%d.png", Nearest, VideoOptions(codec="libx264"), scale=2)
    assert refused.value.code == "option-does-not-apply"


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".apng"])
def test_a_video_becomes_an_animation(tmp_path: Path, suffix: str) -> None:
    times = [0, 40, 120, 160, 240, 300]
    source = make_clip(tmp_path / "in.mkv", frames=6, times=times, time_base=Fraction(1, 1000), audio="libopus")
    result = upscale_video(source, tmp_path / f"out{suffix}", Nearest, VideoOptions())
    assert result.frames_out == 6
    assert any("left out" in notice for notice in result.notices)
    with Image.open(tmp_path / f"out{suffix}") as animation:
        assert (animation.size, getattr(animation, "n_frames", 1)) == ((192, 128), 6)
        lengths = []
        for number in range(6):
            animation.seek(number)
            animation.load()
            lengths.append(animation.info["duration"])
    assert lengths[:5] == pytest.approx([40, 80, 40, 80, 60], abs=1)


@pytest.mark.parametrize(("suffix", "target"), [(".gif", ".mp4"), (".gif", ".webm"), (".apng", ".mkv")])
def test_an_animation_becomes_a_video(tmp_path: Path, suffix: str, target: str) -> None:
    frames = [Image.fromarray(picture(number, 96, 64)) for number in range(5)]
    lengths = [100, 200, 100, 300, 100]
    name, kind = tmp_path / f"in{suffix}", "PNG" if suffix == ".apng" else "GIF"
    frames[0].save(name, format=kind, save_all=True, append_images=frames[1:], duration=lengths, loop=0)
    result = upscale_video(name, tmp_path / f"out{target}", Nearest, VideoOptions())
    assert result.frames_out == 5
    assert result.duration_s == pytest.approx(0.8, abs=0.11)
    read = read_back(tmp_path / f"out{target}")
    starts = [float(time - read.times[0]) for time in read.times]
    assert starts == pytest.approx([0, 0.1, 0.3, 0.4, 0.7], abs=0.0011)


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".apng"])
def test_an_animation_becomes_a_video_and_pictures(tmp_path: Path, tiny_x2: Path, suffix: str, alpha: bool) -> None:
    """With the times of its frames, as ffprobe reads them; transparency is said."""
    lengths = [40.0, 80.0, 40.0, 200.0, 40.0, 100.0]
    frames = [
        np.pad(np.full((16, 16, 3), (40 * number, 200, 90), np.uint8), ((8, 24), (10, 30), (0, 0)))
        for number in range(len(lengths))
    ]
    if alpha:
        frames = [np.dstack([frame, np.where(frame.any(-1), 255, 0).astype(np.uint8)]) for frame in frames]
    source = tmp_path / f"in{suffix}"
    written = source.with_suffix(".png") if suffix == ".apng" else source
    write_picture(written, Picture(tuple(frames), tuple(lengths), 0))
    written.replace(source)
    options = UpscaleOptions(model=tiny_x2)
    for target in (tmp_path / "out.mkv", tmp_path / "out.mp4", tmp_path / "out" / "%03d.png"):
        (result,) = run_jobs(plan_jobs([source], target, options).jobs, options)
        assert (result.status, result.message) == ("done", "")
        assert isinstance(result.result, VideoResult)
        assert (result.result.frames_in, result.result.frames_out) == (6, 6)
        reported = any("transparency" in notice for notice in result.result.notices)
        assert reported == alpha or suffix == ".gif"  # libav decodes every GIF as if it had some
    assert len(list((tmp_path / "out").iterdir())) == 6
    if shutil.which("ffprobe") is None:
        pytest.skip("ffprobe is not installed")
    command = ["ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", "packet=pts_time", "-of", "csv=p=0"]
    for name in ("out.mkv", "out.mp4"):
        shown = subprocess.run([*command, str(tmp_path / name)], check=True, capture_output=True, text=True).stdout
        times = sorted(float(line.strip(",")) for line in shown.split())
        assert [time - times[0] for time in times] == pytest.approx([0, 0.04, 0.12, 0.16, 0.36, 0.4], abs=0.002)


def test_the_frames_of_an_animated_webp_are_those_of_pillow(tmp_path: Path) -> None:
    frames = [np.random.default_rng(number).integers(0, 256, (24, 36, 3)).astype(np.uint8) for number in range(4)]
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(tmp_path / "a.webp", save_all=True, append_images=images[1:], duration=50, lossless=True)
    with VideoSource.open(tmp_path / "a.webp") as source:
        assert source.path == tmp_path / "a.webp"
        for frame, shown in zip(source.frames(), frames, strict=True):
            np.testing.assert_array_equal(frame.rgb, shown)
        stand_in = source.info.path
        assert stand_in.exists()
    assert not stand_in.exists()
