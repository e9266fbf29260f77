"""Files that end too early, or are damaged in the middle: refused, or what is missing is said. ImageMagick judges."""

from __future__ import annotations

import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from image_judges import by_imagemagick
from PIL import Image, PngImagePlugin

from apisr.core.errors import InputError
from apisr.image import Picture, open_picture, read_picture
from apisr.image.endings import cut_off

ROWS, COLUMNS = np.mgrid[0:48, 0:64]
RGB = np.stack([COLUMNS * 4, ROWS * 5, (COLUMNS * 7 + ROWS * 11) % 256], axis=2).astype(np.uint8)
NOISE = Image.fromarray(np.random.default_rng(3).integers(0, 256, (12, 16, 3)).astype(np.uint8)).resize((256, 192))
FRAMES = [Image.fromarray(np.roll(RGB, 9 * number, axis=1)) for number in range(4)]


def made(path: Path, *options: str) -> bytes:
    """Let ImageMagick write the picture."""
    FRAMES[0].save(path.with_suffix(".source.png"))
    subprocess.run(["convert", str(path.with_suffix(".source.png")), *options, str(path)], check=True)
    return path.read_bytes()


def read_of(path: Path, data: bytes) -> Picture:
    """Write and read the bytes."""
    path.write_bytes(data)
    return read_picture(path)


def is_cut(picture: Picture) -> bool:
    """Whether a notice says that the end is missing."""
    return any("cut off" in notice for notice in picture.notices)


ENDS: dict[str, tuple[tuple[str, ...], int]] = {
    "a.png": (("PNG24:{}",), 12),  # the end chunk
    "b.png": (("-depth", "16", "PNG48:{}"), 12),
    "a.gif": ((), 1),
    "a.bmp": (("-colors", "200", "-type", "palette", "-compress", "RLE", "BMP3:{}"), 1),
    "a.ico": ((), 20),  # rows of the mask
    "a.tif": (("-compress", "LZW", "-density", "72"), 12),
    "a.psd": (("-compress", "RLE"), 1),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_is_missing_behind_the_pixels_is_said(tmp_path: Path, name: str) -> None:
    options, bytes_cut = ENDS[name]
    path = tmp_path / name
    written = [option for option in options if "{}" not in option]
    FRAMES[0].save(tmp_path / "source.png")
    target = next((option.format(path) for option in options if "{}" in option), str(path))
    subprocess.run(["convert", str(tmp_path / "source.png"), *written, target], check=True)
    data, whole = path.read_bytes(), read_picture(path)
    assert not is_cut(whole)
    eight = whole.pixels[..., :3] // (257 if whole.pixels.dtype == np.uint16 else 1)
    np.testing.assert_array_equal(eight, by_imagemagick(path))
    cut = read_of(path, data[:-bytes_cut])
    assert is_cut(cut)
    np.testing.assert_array_equal(cut.pixels, whole.pixels)


def test_end_mark_of_qoi(tmp_path: Path) -> None:
    FRAMES[0].save(tmp_path / "a.qoi")
    assert not is_cut(read_picture(tmp_path / "a.qoi"))
    assert is_cut(read_of(tmp_path / "b.qoi", (tmp_path / "a.qoi").read_bytes()[:-4]))


@pytest.mark.parametrize("name", ["a.jp2", "a.j2k"])
def test_end_mark_of_jpeg_2000(tmp_path: Path, name: str) -> None:
    """Some decoders take zeros for the rest of the picture; the mark is looked for whatever they do."""
    data = made(tmp_path / name)
    assert read_picture(tmp_path / name).notices == ()
    broken = tmp_path / f"broken{Path(name).suffix}"
    broken.write_bytes(data[:-2] + bytes(2))
    with broken.open("rb") as file:
        assert "cut off" in (cut_off(file, "JPEG 2000") or "")
    judged = subprocess.run(["identify", "-verbose", str(broken)], capture_output=True, text=True, check=False)
    assert "does not end with EOC" in judged.stderr


def test_frames_of_a_gif_that_breaks_off_between_two(tmp_path: Path) -> None:
    FRAMES[0].save(tmp_path / "a.gif", save_all=True, append_images=FRAMES[1:], duration=100)
    data = (tmp_path / "a.gif").read_bytes()
    whole = read_picture(tmp_path / "a.gif")
    assert (len(whole.frames), is_cut(whole)) == (4, False)
    third = [at for at in range(len(data)) if data.startswith(b"!\xf9\x04", at)][2]
    cut = read_of(tmp_path / "cut.gif", data[:third])
    assert (len(cut.frames), is_cut(cut)) == (2, True)
    ended = read_of(tmp_path / "ended.gif", data[:third] + b";" + data[third:])
    assert len(ended.frames) == 2
    assert any("behind the end" in notice for notice in ended.notices)


def test_pages_of_a_tiff_behind_its_end(tmp_path: Path) -> None:
    data = made(tmp_path / "a.tif", "(", "-clone", "0", "-negate", ")", "(", "-clone", "0", ")", "-compress", "LZW")
    whole = read_picture(tmp_path / "a.tif")
    assert (len(whole.frames), is_cut(whole)) == (3, False)
    cut = read_of(tmp_path / "cut.tif", data[: len(data) * 2 // 5])
    assert (len(cut.frames), is_cut(cut)) == (1, True)
    np.testing.assert_array_equal(cut.pixels, RGB)


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_with_extras(path: Path) -> bytes:
    """A PNG of a palette with a text and a gamma."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "the right words")
    info.add(b"gAMA", struct.pack(">I", 100_000))
    FRAMES[0].quantize(16).save(path, pnginfo=info)
    return path.read_bytes()


def zeroed(data: bytes) -> bytes:
    """Half of the pixels are zeros, as after a download into a file of the final size."""
    at = data.index(b"IDAT")
    length = int.from_bytes(data[at - 4 : at], "big")
    return data[: at + length // 2] + bytes(len(data) - at - length // 2)


@pytest.mark.parametrize(
    "damage",
    [
        zeroed,
        lambda data: data.replace(b"PLTE", b"PLmE"),
        lambda data: data.replace(b"IDAT", b"IDaT", 1),
        lambda data: data.replace(data[data.index(b"IDAT") + 20 :][:2], b"\1\2", 1),
        lambda data: data[: data.index(b"gAMA") - 4] + chunk(b"NEED", b"?") + data[data.index(b"gAMA") - 4 :],
    ],
    ids=["zeros", "palette", "pixels", "codes", "unknown"],
)
def test_chunks_that_draw_a_png_are_right_or_it_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    data = png_with_extras(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png").metadata.gamma == 1.0
    with pytest.raises(InputError) as caught:
        read_of(tmp_path / "b.png", damage(data))
    assert caught.value.code == "damaged-picture"


def test_zeros_inside_true_colour(tmp_path: Path) -> None:
    FRAMES[0].save(tmp_path / "a.png")
    with pytest.raises(InputError) as caught:
        read_of(tmp_path / "b.png", zeroed((tmp_path / "a.png").read_bytes()))
    assert caught.value.code == "damaged-picture"


def test_damaged_texts_and_gamma_are_left_out(tmp_path: Path) -> None:
    data = png_with_extras(tmp_path / "a.png")
    text = read_of(tmp_path / "b.png", data.replace(b"the right", b"the wrong"))
    assert text.metadata.text == ()
    assert any("'tEXt'" in notice for notice in text.notices)
    at = data.index(b"gAMA") + 4
    gamma = read_of(tmp_path / "c.png", data[:at] + struct.pack(">I", 12_345) + data[at + 4 :])
    assert gamma.metadata.gamma is None
    assert any("'gAMA'" in notice for notice in gamma.notices)
    np.testing.assert_array_equal(gamma.pixels, read_picture(tmp_path / "a.png").pixels)


def test_missing_frames_of_an_apng(tmp_path: Path) -> None:
    FRAMES[0].save(tmp_path / "a.png", save_all=True, append_images=FRAMES[1:], duration=100)
    data = (tmp_path / "a.png").read_bytes()
    last = data.rindex(b"fcTL") - 4
    with pytest.raises(InputError) as caught:
        read_of(tmp_path / "b.png", data[:last] + chunk(b"IEND", b""))
    assert caught.value.code == "damaged-picture"


@pytest.mark.parametrize("progressive", [False, True])
def test_bytes_lost_inside_a_jpeg(tmp_path: Path, progressive: bool) -> None:
    NOISE.save(tmp_path / "a.jpg", quality=90, progressive=progressive)
    data = (tmp_path / "a.jpg").read_bytes()
    assert read_picture(tmp_path / "a.jpg").notices == ()
    half = len(data) // 2
    lost = read_of(tmp_path / "b.jpg", data[:half] + data[half + 64 :])
    assert any("damaged in places" in notice for notice in lost.notices)
    judged = subprocess.run(["identify", "-verbose", str(tmp_path / "b.jpg")], capture_output=True, check=False)
    assert b"Corrupt JPEG data" in judged.stderr


@pytest.mark.parametrize("sampling", ["1x1", "2x2", "4x1", "1x2"])
@pytest.mark.parametrize("kind", [(), ("-colorspace", "Gray"), ("-colorspace", "CMYK"), ("-interlace", "JPEG")])
def test_whole_jpegs_are_not_called_damaged(tmp_path: Path, sampling: str, kind: tuple[str, ...]) -> None:
    made(tmp_path / "a.jpg", *kind, "-sampling-factor", sampling, "-quality", "85")
    assert read_picture(tmp_path / "a.jpg").notices == ()


@pytest.mark.parametrize("kind", [(), ("-colorspace", "Gray"), ("-colorspace", "CMYK")])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_header_of_a_jpeg_says_what_decoding_gives(tmp_path: Path, kind: tuple[str, ...], orientation: int) -> None:
    made(tmp_path / "a.jpg", *kind)
    with Image.open(tmp_path / "a.jpg") as image:
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.save(tmp_path / "b.jpg", exif=exif)
    with open_picture(tmp_path / "b.jpg") as decoded, open_picture(tmp_path / "b.jpg", header_only=True) as header:
        assert header.info == decoded.info
        (first,), (second,) = decoded.frames(), header.frames()
    assert np.array_equal(first.pixels, second.pixels)


def test_pixels_of_a_jpeg_are_not_decoded_for_its_header(tmp_path: Path) -> None:
    NOISE.save(tmp_path / "a.jpg", quality=90)
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: data.index(b"\xff\xda") + 14])
    with pytest.raises(InputError), open_picture(tmp_path / "a.jpg"):
        pass
    with open_picture(tmp_path / "a.jpg", header_only=True) as header:
        assert (header.info.width, header.info.height) == NOISE.size
        with pytest.raises(InputError) as caught:
            list(header.frames())
    assert caught.value.code == "damaged-picture"
