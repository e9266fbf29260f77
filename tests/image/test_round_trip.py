"""Picture files: every format, depth and kind comes back as it was, and bad files are named."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from apisr.core.errors import InputError
from apisr.image import Metadata, Picture, from_float, read_picture, read_rgb, resize, to_float, write_picture

RANDOM = np.random.default_rng(0)


def srgb_profile() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_lossless_round_trip(tmp_path: Path, suffix: str, channels: int, dtype: type) -> None:
    pixels = RANDOM.integers(0, np.iinfo(dtype).max + 1, (37, 53, channels)).astype(dtype)
    metadata = Metadata(icc_profile=srgb_profile() if channels >= 3 else None, dpi=(72, 72))
    write_picture(tmp_path / f"a{suffix}", Picture((pixels,), metadata=metadata))
    got = read_picture(tmp_path / f"a{suffix}")
    assert got.pixels.dtype == dtype
    assert np.array_equal(got.pixels, pixels)
    assert got.metadata.icc_profile == metadata.icc_profile
    assert got.metadata.dpi == pytest.approx((72, 72), abs=0.02)


def test_our_png_is_read_the_same_by_two_other_decoders(tmp_path: Path) -> None:
    import av
    import cv2

    pixels = RANDOM.integers(0, 256, (65, 31, 4)).astype(np.uint8)
    write_picture(tmp_path / "a.png", pixels)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), pixels)
    assert np.array_equal(cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)[..., [2, 1, 0, 3]], pixels)
    deep = RANDOM.integers(0, 65536, (65, 31, 3)).astype(np.uint16)
    write_picture(tmp_path / "b.png", deep)
    with av.open(str(tmp_path / "b.png")) as container:
        frame = next(container.decode(video=0))
        assert frame.format.name == "rgb48be"
        assert np.array_equal(frame.to_ndarray(format="rgb48le"), deep)


@pytest.mark.parametrize(("suffix", "limit"), [(".jpg", 6.0), (".webp", 0.0), (".avif", 8.0), (".bmp", 0.0)])
def test_eight_bit_formats(tmp_path: Path, suffix: str, limit: float) -> None:
    rows, columns = np.mgrid[:40, :60]
    pixels = np.stack([rows * 4, columns * 3, rows + columns], axis=2).astype(np.uint8)
    write_picture(tmp_path / f"a{suffix}", pixels)
    got = read_picture(tmp_path / f"a{suffix}").pixels
    assert got.shape == pixels.shape
    assert np.abs(got.astype(float) - pixels).mean() <= limit / 4
    assert np.abs(got.astype(float) - pixels).max() <= limit * 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("deep", [False, True])
def test_exif_rotation_is_applied_and_the_rest_of_exif_kept(tmp_path: Path, orientation: int, deep: bool) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "a description"
    eight = RANDOM.integers(0, 256, (4, 6, 3)).astype(np.uint8)
    pixels = eight.astype(np.uint16) * 257 if deep else eight
    write_picture(tmp_path / "a.png", Picture((pixels,), metadata=Metadata(exif=exif.tobytes())))
    got = read_picture(tmp_path / "a.png")
    stored = Image.fromarray(eight)
    stored.info["exif"] = exif.tobytes()
    buffer = io.BytesIO()
    stored.save(buffer, "PNG", exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(buffer)))
    assert np.array_equal(got.pixels // (257 if deep else 1), upright)
    assert got.metadata.exif is not None
    kept = Image.Exif()
    kept.load(got.metadata.exif)
    assert kept[0x010E] == "a description"
    assert 0x0112 not in kept


@pytest.mark.parametrize(("suffix", "loop_expected"), [(".gif", 3), (".png", 3), (".webp", 3), (".avif", None)])
def test_animations_keep_frames_durations_and_loops(tmp_path: Path, suffix: str, loop_expected: int | None) -> None:
    frames = tuple(np.full((20, 30, 3), value, np.uint8) for value in (10, 40, 90, 200))
    source = Picture(frames, (100.0, 50.0, 200.0, 70.0), 3, "PNG")
    write_picture(tmp_path / f"a{suffix}", source)
    got = read_picture(tmp_path / f"a{suffix}")
    assert len(got.frames) == 4
    assert got.durations_ms == source.durations_ms
    assert got.loop == loop_expected
    for before, after in zip(frames, got.frames, strict=True):
        assert np.abs(before.astype(int) - after.astype(int)).max() <= 3


def test_palettes_gray_bilevel_and_cmyk(tmp_path: Path) -> None:
    palette = Image.fromarray(RANDOM.integers(0, 4, (8, 8)).astype(np.uint8)).convert("P")
    palette.info["transparency"] = 0
    palette.save(tmp_path / "p.png")
    assert read_picture(tmp_path / "p.png").pixels.shape == (8, 8, 4)
    Image.new("1", (5, 5), 1).save(tmp_path / "one.png")
    assert read_picture(tmp_path / "one.png").pixels.tolist() == [[[255]] * 5] * 5
    Image.new("CMYK", (5, 5)).save(tmp_path / "k.jpg")
    assert (read_picture(tmp_path / "k.jpg").pixels == 255).all()


def test_read_rgb_composes_alpha_over_white(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", np.array([[[10, 20, 30, 0], [10, 20, 30, 255]]], np.uint8))
    assert read_rgb(tmp_path / "a.png").tolist() == [[[255, 255, 255], [10, 20, 30]]]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 24), st.integers(1, 24))
def test_resize_keeps_constants(height: int, width: int, new_height: int, new_width: int) -> None:
    values = np.full((height, width, 3), 0.25, np.float32)
    got = resize(values, new_height, new_width)
    assert got.shape == (new_height, new_width, 3)
    assert np.allclose(got, 0.25, atol=1e-6)


@given(st.integers(0, 65535))
def test_float_conversion_is_exact(value: int) -> None:
    deep = np.full((1, 1, 1), value, np.uint16)
    assert from_float(to_float(deep), np.uint16)[0, 0, 0] == value
    eight = np.full((1, 1, 1), value % 256, np.uint8)
    assert from_float(to_float(eight), np.uint8)[0, 0, 0] == value % 256


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(RANDOM.integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def png16() -> bytes:
    import cv2

    return cv2.imencode(".png", RANDOM.integers(0, 65536, (64, 64, 3)).astype(np.uint16))[1].tobytes()


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("empty.png", b"", "empty-file"),
        ("text.png", b"hello there", "not-a-picture"),
        ("cut.jpg", jpeg()[:1500], "damaged-picture"),
        ("cut16.png", png16()[:9000], "damaged-picture"),
    ],
)
def test_bad_files_are_named_in_one_line(tmp_path: Path, name: str, content: bytes, code: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_picture(tmp_path / name)
    assert caught.value.code == code
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_existing_files_are_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "a.png"
    target.write_bytes(b"mine")
    with pytest.raises(InputError) as caught:
        write_picture(target, np.zeros((2, 2, 3), np.uint8))
    assert caught.value.code == "output-exists"
    assert target.read_bytes() == b"mine"
    write_picture(target, np.zeros((2, 2, 3), np.uint8), overwrite=True)
    assert read_picture(target).pixels.shape == (2, 2, 3)


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        write_picture(tmp_path / "a.webp", np.zeros((2, 17000, 3), np.uint8))
    assert caught.value.code == "side-too-long"
    with pytest.raises(InputError) as caught:
        write_picture(tmp_path / "a.bmp", Picture((np.zeros((2, 2, 3), np.uint8),) * 2, (10, 10)))
    assert caught.value.code == "no-animation"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("alpha", [True, False])
@pytest.mark.parametrize("animated", [True, False])
def test_webp_tells_whether_it_is_lossless(tmp_path: Path, lossless: bool, alpha: bool, animated: bool) -> None:
    frames = [Image.fromarray(RANDOM.integers(0, 256, (20, 30, 4 if alpha else 3)).astype(np.uint8)) for _ in range(2)]
    extra = {"save_all": True, "append_images": frames[1:]} if animated else {}
    frames[0].save(tmp_path / "a.webp", lossless=lossless, icc_profile=srgb_profile(), **extra)
    assert read_picture(tmp_path / "a.webp").lossless == lossless


@pytest.mark.parametrize("suffix", [".webp", ".png", ".gif", ".avif"])
def test_a_clear_rim_around_opaque_frames_stays_clear(tmp_path: Path, suffix: str) -> None:
    """libwebp cuts such frames to what is opaque, and then does not say that the picture is transparent."""
    frames = []
    for number in range(3):
        frame = np.zeros((48, 56, 4), np.uint8)
        frame[8:24, 10:26] = (40 * number, 200, 90, 255)
        frames.append(frame)
    write_picture(tmp_path / f"a{suffix}", Picture(tuple(frames), (50.0,) * 3, 0))
    for made in read_picture(tmp_path / f"a{suffix}").frames:
        np.testing.assert_array_equal(made[..., 3], frames[0][..., 3])


def test_a_clear_rim_of_other_programs_is_clear(tmp_path: Path) -> None:
    images = []
    for number in range(3):
        frame = np.zeros((48, 56, 4), np.uint8)
        frame[8:24, 10:26] = (40 * number, 200, 90, 255)
        images.append(Image.fromarray(frame))
    images[0].save(tmp_path / "a.webp", save_all=True, append_images=images[1:], duration=50, lossless=True)
    for made in read_picture(tmp_path / "a.webp").frames:
        np.testing.assert_array_equal(made[..., 3], np.asarray(images[0])[..., 3])
