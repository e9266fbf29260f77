"""Numbered pictures in and out."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from video_clips import Nearest, make_clip, picture, read_back, upscale_video

from apisr.core.errors import InputError
from apisr.image import read_picture, write_picture
from apisr.upscale.options import VideoOptions
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
