"""Pictures of rare kinds: read right, or refused by what they are. ImageMagick and LittleCMS judge."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tifffile
from image_judges import by_imagemagick
from PIL import Image, ImageCms

from apisr.core.errors import InputError
from apisr.image import read_picture
from apisr.image.colour import lab_to_rgb
from apisr.image.stderr import LIBTIFF, captured_stderr

ROWS, COLUMNS = np.mgrid[0:37, 0:53]
RGB = np.stack([COLUMNS * 4, ROWS * 6, (COLUMNS + ROWS) * 2], axis=2).astype(np.uint8)


def made(path: Path, *options: str) -> Path:
    """Let ImageMagick write the picture."""
    Image.fromarray(RGB).save(path.with_suffix(".source.png"))
    subprocess.run(["convert", str(path.with_suffix(".source.png")), *options, str(path)], check=True)
    return path


HALF = ("-alpha", "set", "-channel", "A", "-evaluate", "set", "50%", "+channel")
LAYOUTS = [(), ("-compress", "none"), ("-compress", "LZW"), ("-compress", "RLE"), ("-endian", "MSB")]


@pytest.mark.parametrize("options", [*LAYOUTS, ("-interlace", "plane"), ("-define", "tiff:tile-geometry=16x32")])
@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("kind", ["gray", "rgb", "rgba"])
def test_tiff_of_odd_depths(tmp_path: Path, kind: str, bits: int, options: tuple[str, ...]) -> None:
    colours = {"gray": ("-colorspace", "Gray"), "rgb": (), "rgba": HALF}[kind]
    path = made(tmp_path / "a.tif", *colours, "-depth", str(bits), *options)
    with tifffile.TiffFile(path) as file:
        assert file.pages[0].aspage().bitspersample == bits
    pixels = read_picture(path).pixels
    judged = by_imagemagick(path, kind=kind, deep=True).astype(int)
    if kind == "rgba":  # ImageMagick rounds transparency of few bits in its own way
        assert np.abs(pixels[..., 3].astype(int) - judged[..., 3]).max() <= 65535 >> bits
        pixels, judged = pixels[..., :3], np.where(judged[..., 3:] > 0, judged[..., :3], 0)
    assert np.abs(pixels.astype(int) - judged).max() <= (65535 >> bits)
    assert pixels.dtype == np.uint16


def test_tiff_of_six_bits_and_of_twenty_four(tmp_path: Path) -> None:
    six = made(tmp_path / "six.tif", "-depth", "6")
    pixels = read_picture(six).pixels
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - by_imagemagick(six)).max() <= 1
    picture = read_picture(made(tmp_path / "a.tif", "-depth", "24"))  # which ImageMagick cannot read back itself
    np.testing.assert_array_equal(picture.pixels, RGB.astype(np.uint16) * 257)
    assert any("24 bit" in notice for notice in picture.notices)


@pytest.mark.parametrize("options", LAYOUTS)
@pytest.mark.parametrize("bits", [8, 16])
def test_tiff_in_cmyk_with_alpha(tmp_path: Path, bits: int, options: tuple[str, ...]) -> None:
    path = made(tmp_path / "a.tif", *HALF, "-colorspace", "CMYK", "-depth", str(bits), *options)
    pixels = read_picture(path).pixels
    assert pixels.shape == (*RGB.shape[:2], 4)
    assert np.abs(pixels.astype(int) - by_imagemagick(path, kind="rgba")).max() <= 1


def by_littlecms(lab: np.ndarray) -> np.ndarray:
    """Convert Lab of 8 bits, a and b with a sign, without its tables."""
    image = Image.frombytes("LAB", (lab.shape[1], lab.shape[0]), lab.tobytes())
    converted = ImageCms.profileToProfile(
        image,
        ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")),
        ImageCms.createProfile("sRGB"),
        outputMode="RGB",
        flags=ImageCms.Flags.NOOPTIMIZE,
    )
    return np.asarray(converted, int)


def some_lab() -> np.ndarray:
    random = np.random.default_rng(1)
    a, b = (random.integers(-60, 60, (64, 64)) % 256 for _ in range(2))
    return np.stack([random.integers(0, 256, (64, 64)), a, b], axis=2).astype(np.uint8)


def as_sixteen_bit(lab: np.ndarray, *, signed: bool) -> np.ndarray:
    offset = (lab[..., 1:].astype(np.int64) * 256 + (0 if signed else 32768)) % 65536
    return np.concatenate([lab[..., :1].astype(np.int64) * 257, offset], axis=2).astype(np.uint16)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("photometric", [8, 9])
@pytest.mark.parametrize("alpha", [False, True])
def test_tiff_in_lab(tmp_path: Path, bits: int, photometric: int, alpha: bool) -> None:
    lab, path = some_lab(), tmp_path / "a.tif"
    signed = photometric == 8
    middle = np.uint8([0, 0, 0] if signed else [0, 128, 128])
    stored = as_sixteen_bit(lab, signed=signed) if bits == 16 else lab + middle
    if alpha:
        stored = np.dstack([stored, np.full((64, 64), np.iinfo(stored.dtype).max // 3, stored.dtype)])
    extra = {"extrasamples": ["unassalpha"]} if alpha else {}
    tifffile.imwrite(path, stored, photometric=photometric, planarconfig="contig", metadata=None, **extra)
    picture = read_picture(path)
    assert picture.pixels.dtype == (np.uint16 if bits == 16 else np.uint8)
    levels = picture.pixels[..., :3] / (257 if bits == 16 else 1)
    assert np.abs(levels - by_littlecms(lab)).max() <= 1
    if alpha:
        np.testing.assert_array_equal(picture.pixels[..., 3], stored[..., 3])


@pytest.mark.parametrize(("colours", "kind"), [((), "rgb"), (("-colorspace", "Gray"), "gray")])
@pytest.mark.parametrize("packed", ["RLE", "none"])
def test_photoshop_of_sixteen_bits(tmp_path: Path, colours: tuple[str, ...], kind: str, packed: str) -> None:
    path = made(tmp_path / "a.psd", *colours, "-depth", "16", "-compress", packed, "-resize", "150%")
    picture = read_picture(path)
    assert picture.pixels.dtype == np.uint16
    np.testing.assert_array_equal(picture.pixels, by_imagemagick(path, kind=kind, deep=True))


def test_photoshop_of_sixteen_bits_in_cmyk(tmp_path: Path) -> None:
    path = made(tmp_path / "a.psd", "-colorspace", "CMYK", "-depth", "16")
    assert np.abs(read_picture(path).pixels.astype(int) - by_imagemagick(path)).max() <= 1


def photoshop(pixels: np.ndarray, mode: int, bits: int) -> bytes:
    height, width, channels = pixels.shape
    head = struct.pack(">4sH6xHIIHH", b"8BPS", 1, channels, height, width, bits, mode) + bytes(12)
    return head + bytes(2) + np.moveaxis(pixels, 2, 0).astype(f">u{bits // 8}").tobytes()


def test_photoshop_of_sixteen_bits_in_lab(tmp_path: Path) -> None:
    lab, path = some_lab(), tmp_path / "a.psd"
    path.write_bytes(photoshop(as_sixteen_bit(lab, signed=False), 9, 16))
    assert np.abs(read_picture(path).pixels / 257 - by_littlecms(lab)).max() <= 1


def test_a_cut_off_photoshop_file_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.psd"
    path.write_bytes(photoshop(RGB.astype(np.uint16), 3, 16)[:-1])
    with pytest.raises(InputError) as refused:
        read_picture(path)
    assert refused.value.code == "damaged-picture"


ZEROS = np.zeros((8, 8), np.uint16)


@pytest.mark.parametrize(
    ("stored", "photometric", "words"),
    [
        (ZEROS.astype(np.int16), 1, "gray, 16 bit with a sign"),
        (ZEROS.astype(np.complex64), 1, "gray, 64 bit complex"),
        (ZEROS, 32803, "raw camera data (CFA), 16 bit"),
        (np.zeros((8, 8, 3), np.uint16), 32845, "LogLuv, 16 bit"),
        (np.zeros((8, 8, 3), np.uint16), 6, "YCbCr, 16 bit"),
    ],
)
def test_what_is_not_read_is_named(tmp_path: Path, stored: np.ndarray, photometric: int, words: str) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stored, photometric=photometric, metadata=None, planarconfig="contig")
    with pytest.raises(InputError) as refused:
        read_picture(path)
    assert refused.value.code == "unsupported-picture"
    assert words in str(refused.value)


def test_photoshop_of_thirty_two_bits_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.psd"
    path.write_bytes(photoshop(RGB.astype(np.uint32), 3, 32))
    with pytest.raises(InputError) as refused:
        read_picture(path)
    assert refused.value.code == "unsupported-picture"
    assert "RGB, 32 bit" in str(refused.value)


def test_lab_keeps_black_and_white() -> None:
    ends = np.array([[[0, 0, 0], [65535, 0, 0]]], np.uint16)
    assert lab_to_rgb(ends, signed=True).tolist() == [[[0, 0, 0], [65535, 65535, 65535]]]


def test_libtiff_is_heard_and_not_seen(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A fax whose codes are broken is filled up by libtiff, which says so on standard error alone."""
    path = made(tmp_path / "a.tif", "-resize", "400%", "-monochrome", "-compress", "Group4")
    assert read_picture(path).pixels.shape == (148, 212, 1)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        page = file.pages[0].aspage()
        middle = page.dataoffsets[0] + page.databytecounts[0] // 2
    data[middle : middle + 8] = b"\x02\x40\x02\x41\x02\x40\x02\x41"
    path.write_bytes(data)
    judged = subprocess.run(["identify", "-verbose", str(path)], capture_output=True, text=True, check=False)
    assert "Bad code word" in judged.stderr
    with pytest.raises(InputError) as refused:
        read_picture(path)
    assert refused.value.code == "damaged-picture"
    assert capfd.readouterr().err == ""


def test_what_others_say_meanwhile_is_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    with captured_stderr(LIBTIFF) as lines:
        os.write(2, b"step 1 of 2\nFax4Decode: Bad code word at line 3 of strip 0 (x 9).\n")
        os.write(2, b"Note: the disk is nearly full.\n")
    assert lines == ["Fax4Decode: Bad code word at line 3 of strip 0 (x 9)"]
    assert capfd.readouterr().err == "step 1 of 2\nNote: the disk is nearly full.\n"


@pytest.mark.parametrize("compression", ["webp", "jpeg2000", "png", "jpegxl"])
def test_tiff_in_new_compressions(tmp_path: Path, compression: str, capfd: pytest.CaptureFixture[str]) -> None:
    """libtiff, as Pillow brings it, does not know them."""
    pytest.importorskip("imagecodecs")
    path = tmp_path / "a.tif"
    options = {} if compression == "png" else {"compressionargs": {"lossless": True}}
    options = {"compressionargs": {"level": 0}} if compression == "jpeg2000" else options
    tifffile.imwrite(path, RGB, photometric="rgb", compression=compression, metadata=None, **options)
    np.testing.assert_array_equal(read_picture(path).pixels, RGB)
    assert capfd.readouterr().err == ""
