"""What pictures of other programs hold and must not lose: words, captions, depth, speed; exiftool and others judge."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from image_judges import by_exiftool, by_imagemagick

from apisr.image import losses, open_picture, read_picture, write_picture

PIXELS = np.random.default_rng(1).integers(0, 256, (24, 33, 3)).astype(np.uint8)
WORDS = {"Artist": "Zoë Ü", "Copyright": "© 題", "LensModel": "Ünïx", "ImageDescription": "日本"}


def described(path: Path) -> Path:
    """Let exiftool write words of all languages, and keywords, into a picture."""
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed")
    write_picture(path, PIXELS)
    words = [f"-EXIF:{tag}={value}" for tag, value in WORDS.items()]
    command = ["exiftool", "-q", "-overwrite_original", *words, "-IPTC:Keywords=line", "-IPTC:Keywords=cel", str(path)]
    subprocess.run(command, check=True)
    return path


@pytest.mark.parametrize("source", [".jpg", ".tif"])
@pytest.mark.parametrize("target", [".jpg", ".tif", ".png", ".webp", ".avif"])
def test_words_of_all_languages_and_keywords(tmp_path: Path, source: str, target: str) -> None:
    """Pillow writes question marks for what is not ASCII, and leaves IPTC out."""
    path = described(tmp_path / f"in{source}")
    write_picture(tmp_path / f"out{target}", read_picture(path))
    found = by_exiftool(tmp_path / f"out{target}")
    assert {tag: found.get(f"EXIF:{tag}", found.get(f"PNG:{tag}")) for tag in WORDS} == WORDS
    assert "ExifTool:Warning" not in found, found
    with open_picture(path) as opened:
        said = [line for line in losses(opened.info, tmp_path / f"out{target}") if "IPTC" in line]
    if target in (".jpg", ".tif"):
        assert found["IPTC:Keywords"] == ["line", "cel"]
    assert len(said) == (target not in (".jpg", ".tif"))


@pytest.mark.parametrize("name", ["a.jp2", "a.j2k"])
@pytest.mark.parametrize(("kind", "channels"), [("gray", 1), ("rgb", 3), ("rgba", 4)])
@pytest.mark.parametrize("bits", [12, 16])
def test_deep_jpeg2000_is_read_deep(tmp_path: Path, name: str, kind: str, channels: int, bits: int) -> None:
    """White at the right, which a decoder that rounds upwards wraps to black."""
    program = shutil.which("convert")
    if program is None:
        pytest.skip("ImageMagick is not installed")
    if name == "a.j2k" and channels == 4:
        pytest.skip("a bare codestream does not say that its fourth channel is transparency")
    ramp = np.linspace(0, 65535, 64).round().astype(np.uint16)
    write_picture(tmp_path / "source.png", np.repeat(np.tile(ramp, (48, 1))[..., None], channels, axis=2))
    command = [program, str(tmp_path / "source.png"), "-depth", str(bits), "-quality", "100", str(tmp_path / name)]
    subprocess.run(command, check=True, capture_output=True)
    read = read_picture(tmp_path / name)
    assert (read.pixels.dtype, read.notices) == (np.uint16, ())
    judged = by_imagemagick(tmp_path / name, kind=kind, deep=True)
    assert np.abs(read.pixels.astype(int) - judged).max() <= 16


def test_a_rate_that_is_no_whole_millisecond_does_not_drift(tmp_path: Path) -> None:
    """30 frames a second; libav counts the times of APNG in 10 microseconds, and the lengths of WebP are summed."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=s=32x24:r=30:d=1", str(tmp_path / "in.apng")]
    subprocess.run(command, check=True)
    picture = read_picture(tmp_path / "in.apng")
    write_picture(tmp_path / "out.png", picture)
    show = ["ffprobe", "-v", "error", "-show_entries", "packet=pts_time", "-of", "json", "-f", "apng"]
    told = subprocess.run([*show, str(tmp_path / "out.png")], check=True, capture_output=True).stdout
    times = [float(packet["pts_time"]) for packet in json.loads(told)["packets"]]
    assert times == pytest.approx([number / 30 for number in range(30)], abs=2e-4)
    write_picture(tmp_path / "out.webp", picture)
    content = (tmp_path / "out.webp").read_bytes()
    lengths = [int.from_bytes(part[16:19], "little") for part in content.split(b"ANMF")[1:]]
    assert (len(lengths), sum(lengths)) == (30, 1000)


@pytest.mark.parametrize("repeats", [None, 3])
def test_how_often_an_animation_is_played(tmp_path: Path, repeats: int | None) -> None:
    """A GIF that says nothing is played once; PNG and WebP must say so, AVIF cannot."""
    program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("ffmpeg is not installed")
    loop = ["-loop", "-1" if repeats is None else str(repeats)]
    command = [program, "-v", "error", "-f", "lavfi", "-i", "testsrc=s=32x24:r=10:d=0.5", *loop]
    subprocess.run([*command, str(tmp_path / "in.gif")], check=True)
    picture = read_picture(tmp_path / "in.gif")
    write_picture(tmp_path / "out.png", picture)
    write_picture(tmp_path / "out.webp", picture)
    assert by_exiftool(tmp_path / "out.png")["PNG:AnimationPlays"] == (repeats or 1)
    content = (tmp_path / "out.webp").read_bytes()
    at = content.index(b"ANIM")
    assert int.from_bytes(content[at + 12 : at + 14], "little") == (repeats or 1)
    assert any("repetitions" in line for line in losses(picture.info, tmp_path / "out.avif"))
