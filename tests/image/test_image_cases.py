"""Pictures that went wrong once, each for its kind, against what other programs make of them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from image_judges import assert_same_animation, by_exiftool, by_imagemagick, composed_by_imagemagick

from apisr.core.errors import InputError, MissingExtra
from apisr.image import read_picture, write_picture


@pytest.fixture
def cases(data: Path) -> Path:
    return data / "cases"


@pytest.mark.parametrize("name", ["t_big8.tif", "valid_bigtiff.tif", "t_lzw16.tif", "a.tga", "sd_params.png"])
def test_pixels_are_those_of_imagemagick(cases: Path, name: str) -> None:
    pixels = read_picture(cases / name).pixels
    deep = pixels.dtype == np.uint16
    assert deep == ("16" in name)
    np.testing.assert_array_equal(pixels, by_imagemagick(cases / name, deep=deep))


def test_both_pages_are_read_and_written(cases: Path, tmp_path: Path) -> None:
    picture = read_picture(cases / "t_multi.tif")
    assert picture.kind == "pages"
    write_picture(tmp_path / "a.tif", picture)
    for index, page in enumerate(picture.frames):
        np.testing.assert_array_equal(page, by_imagemagick(cases / "t_multi.tif", frame=index))
        np.testing.assert_array_equal(page, by_imagemagick(tmp_path / "a.tif", frame=index))
    assert not np.array_equal(*picture.frames)


def test_associated_alpha_is_undone(cases: Path) -> None:
    pixels = read_picture(cases / "t_assoc16.tif").pixels.astype(int)
    judged = by_imagemagick(cases / "t_assoc16.tif", kind="rgba", deep=True).astype(int)
    np.testing.assert_array_equal(pixels[..., 3], judged[..., 3])
    visible = judged[..., 3] > 6000
    assert visible.any()
    assert np.abs(pixels - judged)[visible].max() <= 12


def test_the_transparent_level_of_sixteen_bit_gray(cases: Path, tmp_path: Path) -> None:
    pixels = read_picture(cases / "g16_trns.png").pixels
    judged = by_imagemagick(cases / "g16_trns.png", kind="rgba", deep=True)
    np.testing.assert_array_equal(pixels, judged[..., [0, 3]])
    assert (pixels[..., 1] == 0).any()
    write_picture(tmp_path / "a.png", pixels)
    np.testing.assert_array_equal(by_imagemagick(tmp_path / "a.png", kind="rgba", deep=True)[..., [0, 3]], pixels)


def test_what_is_disposed_of_becomes_transparent(cases: Path) -> None:
    picture = read_picture(cases / "gA.gif")
    assert_same_animation(picture.frames, composed_by_imagemagick(cases / "gA.gif"))
    assert (picture.frames[-1][..., 3] == 0).any()


def test_ten_bit_avif_is_read_deep(cases: Path) -> None:
    pixels = read_picture(cases / "avif10.avif").pixels
    assert pixels.dtype == np.uint16
    assert len(np.unique(pixels)) > 256
    imagecodecs = pytest.importorskip("imagecodecs")
    other = imagecodecs.avif_decode((cases / "avif10.avif").read_bytes())
    assert np.abs(pixels / 65535 - other / 1023).max() < 0.003


def test_the_signalling_of_avif_goes_to_png(cases: Path, tmp_path: Path) -> None:
    content = (cases / "avif10.avif").read_bytes()
    at = content.index(b"colrnclx") + 8
    wide = content[:at] + b"\0\x09\0\x10" + content[at + 4 :]  # BT.2020, PQ
    (tmp_path / "a.avif").write_bytes(wide)
    picture = read_picture(tmp_path / "a.avif")
    assert picture.metadata.cicp == b"\x09\x10\0\x01"
    write_picture(tmp_path / "a.png", picture)
    assert b"cICP\x09\x10\0\x01" in (tmp_path / "a.png").read_bytes()
    assert read_picture(cases / "avif10.avif").metadata.cicp is None


def test_texts_of_image_generators_are_kept(cases: Path, tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", read_picture(cases / "sd_params.png"))
    before, after = by_exiftool(cases / "sd_params.png"), by_exiftool(tmp_path / "a.png")
    names = ("PNG:Parameters", "PNG:Title-ja", "PNG:Comment")
    texts = [key for key in before if key in names]
    assert len(texts) == 3
    assert {key: after[key] for key in texts} == {key: before[key] for key in texts}
    assert after["PNG:Software"] == before["PNG:Software"] == "NovelAI"


def test_provenance_leaves_the_texts_of_image_generators(cases: Path, tmp_path: Path) -> None:
    from PIL import Image

    source = cases / "sd_params.png"
    for _ in range(2):  # a second time our own texts are replaced, not doubled
        write_picture(tmp_path / "a.png", read_picture(source), overwrite=True, provenance={"Software": "apisr 9.9"})
        source = tmp_path / "a.png"
        texts = [(entry.keyword, entry.text) for entry in read_picture(source).metadata.text]
        assert [text for keyword, text in texts if keyword == "Software"] == ["apisr 9.9", "NovelAI"]
        with Image.open(cases / "sd_params.png") as before, Image.open(source) as after:
            assert after.text == before.text  # what readers of prompts see


def test_linear_light_stays_linear_light(cases: Path, tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", read_picture(cases / "gama10.png"))
    assert by_exiftool(tmp_path / "a.png")["PNG:Gamma"] == by_exiftool(cases / "gama10.png")["PNG:Gamma"]


def test_a_turned_picture_is_turned_once(cases: Path, tmp_path: Path) -> None:
    from PIL import Image, ImageOps

    picture = read_picture(cases / "xmp_orient.jpg")
    np.testing.assert_array_equal(
        picture.pixels, np.asarray(ImageOps.exif_transpose(Image.open(cases / "xmp_orient.jpg")))
    )
    for suffix in (".jpg", ".png", ".webp"):
        write_picture(tmp_path / f"a{suffix}", picture)
        found = by_exiftool(tmp_path / f"a{suffix}")
        assert {key for key in found if key.endswith(":Orientation")} == set()
        with Image.open(tmp_path / f"a{suffix}") as image:
            assert ImageOps.exif_transpose(image).size == (72, 96)


def test_cmyk_without_a_profile_of_its_own_becomes_rgb(cases: Path, tmp_path: Path) -> None:
    picture = read_picture(cases / "cmyk_srgbprofile.jpg")
    write_picture(tmp_path / "a.jpg", picture)
    found = by_exiftool(tmp_path / "a.jpg")
    assert found.get("ICC_Profile:ColorSpaceData", "RGB ") == "RGB "
    assert found["File:ColorComponents"] == 3
    judged = by_imagemagick(tmp_path / "a.jpg").astype(int)
    assert np.abs(picture.pixels.astype(int) - judged).mean() < 3


def test_cmyk_with_a_profile_becomes_srgb(shared: Path, tmp_path: Path) -> None:
    import io

    from PIL import Image, ImageCms

    picture = read_picture(shared / "cases" / "cmyk_profile.jpg")
    assert picture.metadata.icc_profile is None
    with Image.open(shared / "cases" / "cmyk_profile.jpg") as image:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        shown = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    np.testing.assert_array_equal(picture.pixels, np.asarray(shown))
    write_picture(tmp_path / "a.jpg", picture)
    assert "ICC_Profile:ColorSpaceData" not in by_exiftool(tmp_path / "a.jpg")


def test_jpeg_xl(cases: Path) -> None:
    if importlib.util.find_spec("imagecodecs") is None:
        with pytest.raises(MissingExtra) as caught:
            read_picture(cases / "a.jxl")
        assert caught.value.extra == "formats"
        return
    assert read_picture(cases / "a.jxl").pixels.shape == (72, 96, 3)
    with pytest.raises(InputError) as too_large:
        read_picture(cases / "a.jxl", max_pixels=72 * 96 - 1)
    assert too_large.value.code == "too-large"


def test_heic(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    from PIL import Image

    rows, columns = np.mgrid[:64, :80]
    pixels = np.stack([rows * 3, columns * 3, rows + columns], axis=2).astype(np.uint8)
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(tmp_path / "a.heic", quality=95)
    got = read_picture(tmp_path / "a.heic")
    assert got.format == "HEIF"
    assert np.abs(got.pixels.astype(int) - pixels).mean() < 1.6
    with pytest.raises(InputError) as caught:
        read_picture(tmp_path / "a.heic", max_pixels=5000)
    assert caught.value.code == "too-large"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("bmp_60000.bmp", "damaged-picture"),
        ("jpg_65500_prog.jpg", "damaged-picture"),
        ("png_60000_trunc.png", "too-large"),
        ("gif_65535.gif", "too-large"),
        ("g4_tif_flip10_05.tif", "damaged-picture"),
        ("raw_tif_ifd_24.tif", "damaged-picture"),
        ("zero_size_tif.tif", "damaged-picture"),
        ("still_avif_box_20.avif", "damaged-picture"),
        ("a.svg", "not-a-picture"),
    ],
)
def test_what_cannot_be_read_is_one_line_with_a_code(cases: Path, name: str, code: str) -> None:
    from fuzz.child import decode_in_children

    (outcome,) = decode_in_children([cases / name], memory_mb=4096)
    assert (outcome.kind, outcome.code) == ("refused", code)
    assert name in outcome.detail
