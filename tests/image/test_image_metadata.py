"""Metadata: texts, gamma, profiles, orientation and provenance, as exiftool and ImageMagick see them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from image_judges import by_exiftool, by_imagemagick
from PIL import Image, TiffImagePlugin

from apisr.image import (
    FORMATS,
    Metadata,
    Picture,
    PictureInfo,
    TextEntry,
    losses,
    open_picture,
    read_picture,
    write_picture,
)

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 33, 3)).astype(np.uint8)
XMP = (
    b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    b'tiff:Orientation="6" dc:format="image/png"/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
SUFFIXES = [".png", ".jpg", ".webp", ".avif", ".tif"]


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".gif"])
def test_provenance_is_where_others_look(tmp_path: Path, suffix: str) -> None:
    made = {"Software": "apisr 9.9", "Model": 'apisr-x2 <&">', "Source": "\u984c"}
    path = tmp_path / f"a{suffix}"
    write_picture(path, PIXELS, provenance=made)
    found = by_exiftool(path)
    assert "ExifTool:Warning" not in found, found
    values = [str(value) for value in found.values()]
    for value in made.values():
        assert any(value in text for text in values), found
    if suffix in (".jpg", ".webp", ".avif", ".tif"):
        assert found["EXIF:Software"] == "apisr 9.9"
        assert found["XMP:CreatorTool"] == "apisr 9.9"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_provenance_keeps_what_was_there(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    picture = Picture((PIXELS,), metadata=Metadata(xmp=XMP.replace(b' tiff:Orientation="6"', b"")))
    write_picture(path, picture, provenance={"Software": "apisr 9.9"})
    found = by_exiftool(path)
    assert found["XMP:Format"] == "image/png"
    assert "apisr 9.9" in str(found)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_picture_is_turned_once(tmp_path: Path, suffix: str) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    metadata = Metadata(exif=exif.tobytes(), xmp=XMP)
    write_picture(tmp_path / "a.png", Picture((PIXELS,), metadata=metadata))
    read = read_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(read.pixels, np.rot90(PIXELS, -1))
    write_picture(tmp_path / f"b{suffix}", read)
    found = by_exiftool(tmp_path / f"b{suffix}")
    assert found.get("EXIF:Orientation", 1) == 1
    assert "XMP:Orientation" not in found
    assert read_picture(tmp_path / f"b{suffix}").pixels.shape == (33, 24, 3)


def test_texts_are_kept_in_png(tmp_path: Path) -> None:
    texts = (
        TextEntry("parameters", "1girl\nSteps: 28"),
        TextEntry("Title", "\u984c\u540d", "ja", "\u30bf\u30a4\u30c8\u30eb"),
        TextEntry("Comment", '{"prompt": "x"}'),
    )
    write_picture(tmp_path / "a.png", Picture((PIXELS,), metadata=Metadata(text=texts)))
    assert read_picture(tmp_path / "a.png").metadata.text == texts
    found = by_exiftool(tmp_path / "a.png")
    assert found["PNG:Parameters"] == "1girl\nSteps: 28"
    assert found["PNG:Title-ja"] == "\u984c\u540d"
    assert found["PNG:Comment"] == '{"prompt": "x"}'


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif"])
def test_prompts_go_where_image_generators_look(tmp_path: Path, suffix: str) -> None:
    texts = (TextEntry("parameters", "1girl, \u984c"), TextEntry("workflow", "{}"), TextEntry("Author", "\u984c"))
    picture = Picture((PIXELS,), metadata=Metadata(text=texts))
    lost = losses(picture.info, tmp_path / f"a{suffix}")
    assert len(lost) == 1
    assert "workflow" in lost[0]
    assert "parameters" not in lost[0]
    write_picture(tmp_path / f"a{suffix}", picture)
    found = by_exiftool(tmp_path / f"a{suffix}")
    assert (found["EXIF:UserComment"], found["EXIF:Artist"]) == ("1girl, \u984c", "\u984c")


@pytest.mark.parametrize("suffix", [".jpg", ".gif"])
def test_comments_are_kept(tmp_path: Path, suffix: str) -> None:
    picture = Picture((PIXELS,), metadata=Metadata(text=(TextEntry("Comment", "drawn by hand"),)))
    write_picture(tmp_path / f"a{suffix}", picture)
    assert read_picture(tmp_path / f"a{suffix}").metadata.text == picture.metadata.text
    assert "drawn by hand" in by_exiftool(tmp_path / f"a{suffix}").values()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("gray", [False, True])
def test_gamma_looks_the_same(tmp_path: Path, suffix: str, gray: bool) -> None:
    # Linear light: the chunk is kept in PNG, elsewhere a profile says the same. ImageMagick converts by either.
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8)[None, :, None], (16, 1, 1 if gray else 3))
    metadata = Metadata(gamma=1.0, chromaticities=(0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06))
    path = tmp_path / f"a{suffix}"
    write_picture(path, Picture((ramp,), metadata=metadata), quality=100 if suffix == ".jpg" else None)
    found = by_exiftool(path)
    if suffix == ".png":
        assert found["PNG:Gamma"] == pytest.approx(1.0)
        assert read_picture(path).metadata.gamma == pytest.approx(1.0)
        return
    from PIL import Image, ImageCms

    assert found["ICC_Profile:ColorSpaceData"].strip() == ("GRAY" if gray and suffix != ".webp" else "RGB")
    profile = read_picture(path).metadata.icc_profile
    assert profile is not None
    import io

    with Image.open(path) as image:
        image.load()
        shown = ImageCms.profileToProfile(
            image if image.mode in ("L", "RGB") else image.convert("RGB"),
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            outputMode="RGB",
        )
    light = ramp[0, :, 0] / 255
    expected = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055) * 255
    assert np.abs(np.asarray(shown)[8, 8:, 0] - expected[8:]).max() <= 3


@pytest.mark.parametrize("suffix", sorted(set(FORMATS)))
def test_losses_are_said_and_are_all_there_is(tmp_path: Path, suffix: str) -> None:
    picture = Picture((np.full((8, 8, 4), 30000, np.uint16),), metadata=Metadata(dpi=(72, 72), cicp=b"\x09\x10\0\1"))
    said = losses(picture.info, tmp_path / f"a{suffix}")
    write_picture(tmp_path / f"a{suffix}", picture)
    got = read_picture(tmp_path / f"a{suffix}")
    assert any("16 bit" in line for line in said) == (got.pixels.dtype == np.uint8)
    assert any("transparency" in line for line in said) == (got.pixels.shape[2] == 3 or suffix == ".gif")
    assert any("cICP" in line for line in said) == (got.metadata.cicp is None)


def test_pages_are_named_before_the_work(tmp_path: Path) -> None:
    picture = Picture((PIXELS, PIXELS[::-1], PIXELS))
    assert losses(picture.info, tmp_path / "a.tif") == ()
    (said,) = losses(picture.info, tmp_path / "a.png")
    assert "first of 3 pages" in said
    write_picture(tmp_path / "a.png", picture)
    np.testing.assert_array_equal(by_imagemagick(tmp_path / "a.png"), PIXELS)


def test_texts_of_tiff_are_its_tags(tmp_path: Path) -> None:
    texts = (TextEntry("Description", "a scan"), TextEntry("Author", "somebody"), TextEntry("Copyright", "CC0"))
    write_picture(tmp_path / "a.tif", Picture((PIXELS,), metadata=Metadata(text=texts, dpi=(300, 300))))
    assert read_picture(tmp_path / "a.tif").metadata.text == texts
    found = by_exiftool(tmp_path / "a.tif")
    assert (found["EXIF:ImageDescription"], found["EXIF:Artist"], found["EXIF:Copyright"]) == (
        "a scan",
        "somebody",
        "CC0",
    )
    assert found["EXIF:XResolution"] == 300


def test_a_monstrous_text_does_not_stop_the_picture(tmp_path: Path) -> None:
    import zlib

    write_picture(tmp_path / "a.png", PIXELS)
    content = (tmp_path / "a.png").read_bytes()
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(80)) + packer.flush()
    body = b"zTXt" + b"bomb\0\0" + packed
    chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    (tmp_path / "b.png").write_bytes(content[:33] + chunk + content[33:])
    picture = read_picture(tmp_path / "b.png")
    np.testing.assert_array_equal(picture.pixels, PIXELS)
    assert picture.metadata.text == ()
    assert len(picture.notices) == 1


def test_a_profile_for_other_pixels_is_left_out(tmp_path: Path) -> None:
    from PIL import Image

    profile = bytearray(200)
    profile[16:20], profile[36:40] = b"CMYK", b"acsp"
    for suffix in (".jpg", ".png", ".webp", ".tif"):
        Image.fromarray(PIXELS).save(tmp_path / f"a{suffix}", icc_profile=bytes(profile))
        picture = read_picture(tmp_path / f"a{suffix}")
        assert picture.metadata.icc_profile is None
        assert len(picture.notices) == 1, suffix


@pytest.mark.parametrize("source", [".jpg", ".tif"])
@pytest.mark.parametrize("target", [".tif", ".jpg", ".png", ".webp"])
def test_exif_goes_from_format_to_format(tmp_path: Path, source: str, target: str) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x010F], exif[0x010E], exif[0x8298] = "a maker", "a description", "CC0"
    exif[0x8769] = {0x9003: "2026:01:02 03:04:05", 0x829A: 0.125, 0xA434: "a lens"}
    exif[0x8825] = {1: "N", 2: (1.0, 2.0, 3.0)}
    Image.fromarray(PIXELS).save(tmp_path / f"a{source}", exif=exif.tobytes())
    picture = read_picture(tmp_path / f"a{source}")
    assert picture.notices == losses(picture.info, tmp_path / f"b{target}") == ()
    write_picture(tmp_path / f"b{target}", picture)
    found = by_exiftool(tmp_path / f"b{target}")
    assert "ExifTool:Warning" not in found, found
    names = ("Make", "ImageDescription", "Copyright", "DateTimeOriginal", "ExposureTime", "LensModel", "GPSLatitudeRef")
    expected = ["a maker", "a description", "CC0", "2026:01:02 03:04:05", 0.125, "a lens", "N"]
    assert [found[f"EXIF:{name}"] for name in names] == expected


def test_blocks_too_long_for_jpeg_are_named(tmp_path: Path) -> None:
    long = XMP.replace(b"image/png", b"x" * 70_000).replace(b' tiff:Orientation="6"', b"")
    picture = Picture((PIXELS,), metadata=Metadata(xmp=long))
    (said,) = losses(picture.info, tmp_path / "a.jpg")
    assert "XMP" in said
    assert losses(picture.info, tmp_path / "a.webp") == ()
    for suffix in (".jpg", ".webp"):
        write_picture(tmp_path / f"a{suffix}", picture)
        assert ("XMP:Format" in by_exiftool(tmp_path / f"a{suffix}")) == (suffix == ".webp")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate"])
def test_a_turned_tiff_is_turned_once(tmp_path: Path, orientation: int, compression: str) -> None:
    """Its tag counts, else its XMP; in every way to store the pixels, and in 16 bit."""
    from PIL import Image, ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(PIXELS)
    stored.save(tmp_path / "tag.tif", compression=compression, exif=exif)
    with Image.open(tmp_path / "tag.tif") as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(read_picture(tmp_path / "tag.tif").pixels, upright)

    xmp = XMP.replace(b'tiff:Orientation="6"', f'tiff:Orientation="{orientation}"'.encode())
    stored.save(tmp_path / "xmp.tif", compression=compression, tiffinfo={700: xmp})
    np.testing.assert_array_equal(read_picture(tmp_path / "xmp.tif").pixels, upright)

    tags = [(700, "B", len(xmp), xmp, True)]
    tifffile.imwrite(tmp_path / "deep.tif", PIXELS.astype(np.uint16) * 257, photometric="rgb", extratags=tags)
    np.testing.assert_array_equal(read_picture(tmp_path / "deep.tif").pixels // 257, upright)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp", ".webp", ".avif"])
def test_dots_per_inch_are_kept(tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"a{suffix}"
    write_picture(target, Picture((PIXELS,), metadata=Metadata(dpi=(300.0, 300.0))))
    found = by_exiftool(target)
    if suffix in (".png", ".bmp"):
        assert next(value for key, value in found.items() if "PixelsPer" in key) == pytest.approx(11811, abs=1)
    else:
        keys = ("EXIF:XResolution", "JFIF:XResolution")
        assert next(float(found[key]) for key in keys if key in found) == pytest.approx(300, abs=0.01)


@pytest.mark.parametrize(
    ("source", "target", "place", "stated"),
    [
        ("a.webp", "b.tif", "EXIF:XResolution", 300),
        ("a.webp", "b.png", "PNG:PixelsPerUnitX", 11811),
        ("a.avif", "b.bmp", "File:PixelsPerMeterX", 11811),
        ("a.png", "b.bmp", "File:PixelsPerMeterX", 11811),
        ("a.jpg", "b.png", "PNG:PixelsPerUnitX", 11811),
    ],
)
@pytest.mark.parametrize(("unit", "number"), [(2, 300.0), (3, 300 / 2.54)])
def test_dots_per_inch_of_exif_are_kept(
    tmp_path: Path, source: str, target: str, place: str, stated: int, unit: int, number: float
) -> None:
    exif = Image.Exif()
    exif[282], exif[283], exif[296] = number, number, unit
    Image.fromarray(PIXELS).save(tmp_path / source, exif=exif)
    write_picture(tmp_path / target, read_picture(tmp_path / source))
    assert by_exiftool(tmp_path / target)[place] == pytest.approx(stated, abs=1)


@pytest.mark.parametrize("across", [0, None, TiffImagePlugin.IFDRational(0, 0)])
@pytest.mark.parametrize("unit", [1, 2, 7])
def test_a_resolution_of_exif_that_says_nothing_is_not_made_up(tmp_path: Path, across: object, unit: int) -> None:
    exif = Image.Exif()
    exif[271], exif[296] = "Maker", unit
    if across is not None:
        exif[282] = exif[283] = across
    for suffix in ("webp", "jpg"):
        Image.fromarray(PIXELS).save(tmp_path / f"a.{suffix}", exif=exif)
        assert read_picture(tmp_path / f"a.{suffix}").metadata.dpi is None


def test_gif_says_that_it_holds_no_dots_per_inch(tmp_path: Path) -> None:
    info = read_picture_info(tmp_path, Metadata(dpi=(300.0, 300.0)))
    assert any("dots per inch" in line for line in losses(info, Path("a.gif")))
    assert not any("dots per inch" in line for line in losses(info, Path("a.webp")))


def test_gif_says_that_it_holds_few_colours(tmp_path: Path) -> None:
    rgb = np.stack(np.meshgrid(np.arange(64), np.arange(64)), axis=2).astype(np.uint8) * 4
    rgb = np.concatenate([rgb, rgb[..., :1]], axis=2)
    write_picture(tmp_path / "a.png", rgb)
    with open_picture(tmp_path / "a.png") as picture:
        notices = losses(picture.info, tmp_path / "b.gif")
        assert [line for line in notices if "at most 256" in line and "GIF" in line]
        assert not losses(picture.info, tmp_path / "b.webp")
    write_picture(tmp_path / "b.gif", read_picture(tmp_path / "a.png"))
    assert len(np.unique(by_imagemagick(tmp_path / "b.gif").reshape(-1, 3), axis=0)) <= 256
    with open_picture(tmp_path / "b.gif") as picture:
        assert not losses(picture.info, tmp_path / "c.gif")


@pytest.mark.parametrize("kind", ["shaped", "imagej", "ome"])
def test_a_description_of_the_structure_is_left_out(tmp_path: Path, kind: str) -> None:
    pages = np.random.default_rng(0).integers(0, 256, (4, 24, 32)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack", imagej=kind == "imagej", ome=kind == "ome")
    picture = read_picture(tmp_path / "a.tif")
    assert [line for line in picture.notices if "laid out" in line]
    larger = tuple(frame.repeat(2, 0).repeat(2, 1) for frame in picture.frames)
    write_picture(tmp_path / "b.tif", replace(picture, frames=larger))
    with tifffile.TiffFile(tmp_path / "b.tif") as written:
        assert written.series[0].shape[-2:] == (48, 64)
        assert written.is_ome is written.is_imagej is written.is_shaped is False
    assert "EXIF:ImageDescription" not in by_exiftool(tmp_path / "b.tif")


@pytest.mark.parametrize(
    "text", ["A {shape} of a girl", '{"prompt": "1girl", "seed": 4}', "ImageJ made this", "<home/>"]
)
def test_a_description_of_the_picture_stays(tmp_path: Path, text: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="rgb", description=text, metadata=None)
    picture = read_picture(tmp_path / "a.tif")
    assert picture.notices == ()
    assert [entry.text for entry in picture.metadata.text if entry.keyword == "Description"] == [text]


@pytest.mark.parametrize("default", [False, True])
def test_a_default_image_of_an_animation_is_named(tmp_path: Path, default: bool) -> None:
    frames = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (10, 90, 170)]
    path = tmp_path / "a.png"
    frames[0].save(path, save_all=True, append_images=frames[1:], default_image=default)
    picture = read_picture(path)
    assert len(picture.frames) == 3 - default
    assert [("without animation" in line) for line in picture.notices] == [True] * default


def read_picture_info(folder: Path, metadata: Metadata) -> PictureInfo:
    write_picture(folder / "source.png", Picture((PIXELS,), metadata=metadata))
    with open_picture(folder / "source.png") as picture:
        return picture.info
