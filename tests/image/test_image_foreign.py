"""Files that other programs wrote, read as those programs read them."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from image_judges import assert_same_animation, by_imagemagick, composed_by_imagemagick

from apisr.core.errors import MissingExtra
from apisr.image import read_picture, write_picture

CONVERT = shutil.which("convert")
pytestmark = pytest.mark.skipif(CONVERT is None, reason="ImageMagick is not installed")


def made(tmp_path: Path, name: str, *options: str, channels: int = 3, deep: bool = False) -> Path:
    """Let ImageMagick write a picture of 70 x 50 with these options."""
    dtype = np.uint16 if deep else np.uint8
    rows, columns = np.mgrid[:50, :70]
    step = 257 if deep else 1
    planes = [
        ((rows * (index + 2) + columns * 3) % 256 * step + (rows % 7 if deep else 0)) for index in range(channels)
    ]
    write_picture(tmp_path / "source.png", np.stack(planes, axis=2).astype(dtype))
    path = tmp_path / name
    target = f"TIFF64:{path}" if "big" in name else str(path)
    subprocess.run([str(CONVERT), str(tmp_path / "source.png"), *options, target], check=True, capture_output=True)
    return path


@pytest.mark.parametrize("compression", ["None", "LZW", "Zip", "RLE"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("layout", [(), ("-interlace", "plane"), ("-endian", "MSB")])
def test_tiff(tmp_path: Path, compression: str, channels: int, deep: bool, layout: tuple[str, ...]) -> None:
    path = made(tmp_path, "a.tif", "-compress", compression, *layout, channels=channels, deep=deep)
    kind = {1: "gray", 3: "rgb", 4: "rgba"}[channels]
    pixels = read_picture(path).pixels
    assert pixels.dtype == (np.uint16 if deep else np.uint8)
    np.testing.assert_array_equal(pixels, by_imagemagick(path, kind=kind, deep=deep))


@pytest.mark.parametrize("predictor", ["1", "2"])
@pytest.mark.parametrize("tiles", [(), ("-define", "tiff:tile-geometry=32x16")])
def test_tiff_with_predictor_and_tiles(tmp_path: Path, predictor: str, tiles: tuple[str, ...]) -> None:
    path = made(tmp_path, "a.tif", "-compress", "LZW", "-define", f"tiff:predictor={predictor}", *tiles, deep=True)
    np.testing.assert_array_equal(read_picture(path).pixels, by_imagemagick(path, deep=True))


def test_big_tiff(tmp_path: Path) -> None:
    path = made(tmp_path, "big.tif", deep=True)
    assert path.read_bytes()[2:4] == b"+\0"
    np.testing.assert_array_equal(read_picture(path).pixels, by_imagemagick(path, deep=True))


@pytest.mark.parametrize("options", [("-depth", "32"), ("-depth", "32", "-define", "quantum:format=floating-point")])
def test_tiff_of_thirty_two_bits_is_read_with_sixteen_and_says_so(tmp_path: Path, options: tuple[str, ...]) -> None:
    path = made(tmp_path, "a.tif", *options, deep=True)
    if "quantum:format=floating-point" in options and importlib.util.find_spec("imagecodecs") is None:
        with pytest.raises(MissingExtra) as missing:
            read_picture(path)
        assert missing.value.extra == "formats"
        return
    picture = read_picture(path)
    assert picture.pixels.dtype == np.uint16
    assert len(picture.notices) == 1
    judged = by_imagemagick(path, deep=True).astype(int)
    assert np.abs(picture.pixels.astype(int) - judged).max() <= 1


@pytest.mark.parametrize(
    ("name", "options", "channels", "deep"),
    [
        ("a.ppm", (), 3, False),
        ("a.ppm", (), 3, True),
        ("a.pgm", (), 1, True),
        ("a.pgm", ("-compress", "none"), 1, False),
        ("a.pbm", ("-threshold", "50%"), 1, False),
        ("a.pam", (), 4, False),
        ("a.tga", (), 3, False),
        ("a.tga", ("-compress", "RLE"), 4, False),
        ("a.psd", (), 3, False),
        ("a.bmp", (), 3, False),
        ("a.bmp", ("-colors", "16", "-type", "palette"), 3, False),
        ("a.gif", ("-colors", "50"), 3, False),
        ("a.png", ("-interlace", "line"), 4, True),
        ("a.png", ("-type", "palette", "-colors", "9"), 3, False),
        ("a.webp", ("-define", "webp:lossless=true"), 3, False),
        ("a.jp2", ("-quality", "0"), 3, False),
    ],
)
def test_other_formats(tmp_path: Path, name: str, options: tuple[str, ...], channels: int, deep: bool) -> None:
    path = made(tmp_path, name, *options, channels=channels, deep=deep)
    pixels = read_picture(path).pixels
    kind = {1: "gray", 3: "rgb", 4: "rgba"}[pixels.shape[2]]
    np.testing.assert_array_equal(pixels, by_imagemagick(path, kind=kind, deep=deep))


@pytest.mark.parametrize("disposal", ["None", "Background", "Previous"])
def test_animated_gif(tmp_path: Path, disposal: str) -> None:
    parts = [["-size", "40x30", "xc:none"]]
    parts += [
        ["(", "-size", "12x9", f"xc:{name}", "-repage", f"40x30+{5 * index}+{3 * index}", ")"]
        for index, name in enumerate(("red", "lime", "blue"))
    ]
    arguments = [word for part in parts for word in part]
    path = tmp_path / "a.gif"
    subprocess.run([str(CONVERT), "-dispose", disposal, "-delay", "7", *arguments, "-loop", "4", str(path)], check=True)
    picture = read_picture(path)
    assert (len(picture.frames), picture.loop, set(picture.durations_ms)) == (4, 3, {70.0})  # 4 plays are 3 repetitions
    assert_same_animation(picture.frames, composed_by_imagemagick(path))
