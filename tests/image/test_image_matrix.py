"""Every format, depth and kind of channels, with sizes above and below every buffer, judged by ImageMagick."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from image_judges import by_imagemagick, frames_by_imagemagick

from apisr.image import Picture, open_picture, open_writer, read_picture, write_picture

# Strips and IDAT chunks are of 1 MiB: one pixel, a few rows, just below, just above, several and an uneven rest.
SIZES = [(1, 1), (3, 5), (349, 1001), (350, 1001), (1201, 997)]
KINDS = {1: "gray", 3: "rgb", 4: "rgba"}


def pixels_of(height: int, width: int, channels: int, dtype: type) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    peak = np.iinfo(dtype).max
    planes = [(rows * 31 * (index + 1) + columns * 17 + rows * columns) % (peak + 1) for index in range(channels)]
    return np.stack(planes, axis=2).astype(dtype)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_lossless_formats(tmp_path: Path, suffix: str, dtype: type, channels: int, size: tuple[int, int]) -> None:
    pixels = pixels_of(*size, channels, dtype)
    path = tmp_path / f"a{suffix}"
    write_picture(path, pixels)
    np.testing.assert_array_equal(read_picture(path).pixels, pixels)
    if channels in KINDS:
        judged = by_imagemagick(path, kind=KINDS[channels], deep=dtype == np.uint16)
        np.testing.assert_array_equal(judged, pixels)
    else:
        judged = by_imagemagick(path, kind="rgba", deep=dtype == np.uint16)
        np.testing.assert_array_equal(judged[..., [0, 3]], pixels)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (700, 1001)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("suffix", "tolerance"), [(".bmp", 0), (".webp", 0), (".jpg", 12), (".avif", 12)])
def test_eight_bit_formats(tmp_path: Path, suffix: str, tolerance: int, channels: int, size: tuple[int, int]) -> None:
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    planes = [(rows * 200 // height + columns * 50 // width + index) for index in range(channels)]
    pixels = np.stack(planes, axis=2).astype(np.uint8)
    path = tmp_path / f"a{suffix}"
    write_picture(path, pixels)
    expected = pixels
    if channels in (2, 4) and suffix in (".jpg", ".bmp"):
        alpha = pixels[..., -1:] / 255
        expected = np.floor(pixels[..., :-1] * alpha + 255 * (1 - alpha) + 0.5).astype(np.uint8)
    kind = "rgba" if expected.shape[2] in (2, 4) else "rgb"
    judged = by_imagemagick(path, kind=kind).astype(int)
    wide = np.repeat(expected[..., :1], 3, axis=2) if expected.shape[2] <= 2 else expected[..., :3]
    assert np.abs(judged[..., :3] - wide).max() <= max(tolerance, 1 if expected is not pixels else 0)
    if kind == "rgba":
        seen = judged if suffix != ".avif" else read_picture(path).pixels.astype(int)  # ImageMagick 6 drops its alpha
        assert np.abs(seen[..., -1] - expected[..., -1]).max() <= tolerance


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".avif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_animations_as_others_read_them(tmp_path: Path, suffix: str, channels: int) -> None:
    frames = []
    for index in range(4):
        frame = np.full((37, 53, channels), 40 * index + 20, np.uint8)
        frame[5 : 9 + 3 * index, 7:20] = 200
        if channels == 4:
            frame[..., 3] = 255
            frame[:10, 30:, 3] = 0
        frames.append(frame)
    path = tmp_path / f"a{suffix}"
    write_picture(path, Picture(tuple(frames), (100.0, 50.0, 200.0, 70.0), 3))
    got = read_picture(path)
    assert got.durations_ms == (100.0, 50.0, 200.0, 70.0)
    for before, after in zip(frames, got.frames, strict=True):
        solid = before[..., 3] == 255 if channels == 4 else np.ones(before.shape[:2], bool)
        assert np.abs(before.astype(int) - after.astype(int))[solid].max() <= 4
    if suffix == ".gif":
        assert frames_by_imagemagick(path) == 4


def test_pages_of_different_sizes_stay_pages(tmp_path: Path) -> None:
    pages = (pixels_of(40, 60, 3, np.uint8), pixels_of(700, 900, 4, np.uint16), pixels_of(3, 5, 1, np.uint8))
    path = tmp_path / "a.tif"
    write_picture(path, Picture(pages))
    got = read_picture(path)
    assert got.kind == "pages"
    assert frames_by_imagemagick(path) == 3
    for index, (before, after) in enumerate(zip(pages, got.frames, strict=True)):
        np.testing.assert_array_equal(after, before)
        kind = KINDS[before.shape[2]]
        judged = by_imagemagick(path, frame=index, kind=kind, deep=before.dtype == np.uint16)
        np.testing.assert_array_equal(judged, before)


def test_rows_in_uneven_bands_make_the_same_file(tmp_path: Path) -> None:
    pixels = pixels_of(500, 900, 3, np.uint16)
    info = Picture((pixels,)).info
    for suffix in (".png", ".tif"):
        write_picture(tmp_path / f"whole{suffix}", pixels)
        with open_writer(tmp_path / f"bands{suffix}", info) as writer:
            writer.start_frame(500, 900, 3, pixels.dtype)
            start = 0
            for rows in (1, 7, 200, 291, 1):
                writer.write(pixels[start : start + rows])
                start += rows
        with open_picture(tmp_path / f"bands{suffix}") as source:
            np.testing.assert_array_equal(next(source.frames()).pixels, pixels)


def write_rows(path: Path, rows: np.ndarray) -> None:
    """Write the first rows of a picture that is one row higher."""
    with open_writer(path, Picture((rows,)).info) as writer:
        writer.start_frame(rows.shape[0] + 1, *rows.shape[1:], rows.dtype)
        writer.write(rows)


def test_missing_rows_leave_nothing(tmp_path: Path) -> None:
    pixels = pixels_of(20, 30, 3, np.uint8)
    for suffix in (".png", ".tif", ".jpg", ".gif", ".webp"):
        with pytest.raises(ValueError, match="rows"):
            write_rows(tmp_path / f"a{suffix}", pixels[:19])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".gif", ".png"])
def test_uneven_durations_do_not_drift(tmp_path: Path, suffix: str) -> None:
    frames = tuple(np.full((8, 8, 3), 20 * index, np.uint8) for index in range(9))
    write_picture(tmp_path / f"a{suffix}", Picture(frames, (1000 / 30,) * 9))
    durations = read_picture(tmp_path / f"a{suffix}").durations_ms
    assert sum(durations) == pytest.approx(300, abs=1)
    assert max(durations) - min(durations) <= 10
