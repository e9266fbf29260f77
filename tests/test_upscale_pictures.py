"""Pictures through the network: alpha without fringes, gray, depth, tiny and large sizes, animations."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from apisr.core.errors import InputError
from apisr.engines import Engine, open_engine
from apisr.image import Metadata, Picture, read_picture, write_picture
from apisr.upscale import upscale_pixels
from apisr.upscale.baselines import NearestEngine, ResampleEngine
from apisr.upscale.options import PictureOptions
from apisr.upscale.picture import upscale_picture_file
from apisr.upscale.sizes import SizeRequest
from apisr.weights import choose_model


@pytest.fixture(scope="module")
def engine() -> Engine:
    return open_engine(choose_model(Path(__file__).parent / "data/models/tiny-x2.onnx"), device="cpu")


@pytest.mark.parametrize("height", [1, 2, 3, 17])
@pytest.mark.parametrize("width", [1, 2, 5, 40])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_size_comes_out_exactly_scaled(engine: Engine, height: int, width: int, channels: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, channels)).astype(np.uint8)
    assert upscale_pixels(pixels, engine).shape == (2 * height, 2 * width, channels)


def test_gray_equals_the_mean_of_equal_channels(engine: Engine) -> None:
    gray = np.random.default_rng(2).integers(20000, 45000, (30, 40, 1)).astype(np.uint16)
    colour = upscale_pixels(np.repeat(gray, 3, axis=2), engine)
    assert np.abs(upscale_pixels(gray, engine)[..., 0] - colour.astype(float).mean(axis=2)).max() <= 1.0


def disc(inside: tuple[int, int, int], outside: tuple[int, int, int]) -> np.ndarray:
    rows, columns = np.mgrid[:64, :64]
    picture = np.empty((64, 64, 4), np.uint8)
    mask = (rows - 32) ** 2 + (columns - 32) ** 2 < 20**2
    picture[..., :3] = np.where(mask[..., None], inside, outside)
    picture[..., 3] = np.where(mask, 255, 0)
    return picture


@pytest.mark.parametrize("outside", [(0, 0, 0), (255, 255, 255), (0, 255, 0)])
def test_hidden_colours_do_not_bleed_into_the_edge(outside: tuple[int, int, int]) -> None:
    big = upscale_pixels(disc((200, 60, 90), outside), ResampleEngine(4, "lanczos"))
    visible = big[big[..., 3] > 0]
    assert np.abs(visible[:, :3].astype(int) - (200, 60, 90)).max() <= 2


def test_wrong_colours_of_faint_pixels_do_not_reach_the_outline() -> None:
    picture = disc((60, 20, 30), (255, 255, 255))
    rows, columns = np.mgrid[:64, :64]
    rim = np.abs(np.hypot(rows - 32, columns - 32) - 20.5) < 1
    picture[rim & (picture[..., 3] == 0), 3] = 8  # as a lossy codec leaves them: nearly clear, and white
    big = upscale_pixels(picture, ResampleEngine(4, "lanczos")).astype(int)
    seen = big[..., 3] > 100
    assert seen.any()
    assert np.abs(big[seen][:, :3] - (60, 20, 30)).max() <= 12


def test_a_faint_glow_keeps_its_own_colour() -> None:
    picture = np.zeros((48, 48, 4), np.uint8)
    picture[:, :24] = (200, 30, 30, 255)
    picture[:, 24:] = (20, 60, 220, 60)  # beside a solid shape
    big = upscale_pixels(picture, NearestEngine(2)).astype(int)
    assert np.abs(big[10:80, 52:, :3] - (20, 60, 220)).max() <= 3


def test_solid_and_clear_stay_solid_and_clear(engine: Engine) -> None:
    big = upscale_pixels(disc((200, 60, 90), (0, 0, 0)), engine)
    assert (big[60:68, 60:68, 3] == 255).all()
    assert (big[:16, :16, 3] == 0).all()
    opaque = np.random.default_rng(3).integers(0, 256, (20, 20, 4)).astype(np.uint8)
    opaque[..., 3] = 255
    got = upscale_pixels(opaque, engine)
    assert (got[..., 3] == 255).all()
    assert np.array_equal(got[..., :3], upscale_pixels(np.ascontiguousarray(opaque[..., :3]), engine))


def test_tiled_alpha_equals_whole(engine: Engine) -> None:
    picture = np.random.default_rng(4).integers(0, 256, (90, 110, 4)).astype(np.uint8)
    picture[..., 3] = np.where(picture[..., 3] > 128, picture[..., 3], 0)
    picture[20:60, 10:80, 3] = 0
    whole = upscale_pixels(picture, engine, tile_px=512).astype(int)
    tiled = upscale_pixels(picture, engine, tile_px=32).astype(int)
    assert np.abs(whole - tiled).max() <= 1


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg", ".avif", ".bmp", ".gif"])
def test_files_keep_profile_and_size(tmp_path: Path, engine: Engine, suffix: str) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pixels = np.random.default_rng(5).integers(0, 256, (21, 33, 3)).astype(np.uint8)
    write_picture(tmp_path / f"in{suffix}", Picture((pixels,), metadata=Metadata(icc_profile=profile)))
    outcome = upscale_picture_file(tmp_path / f"in{suffix}", tmp_path / f"out{suffix}", engine)
    got = read_picture(tmp_path / f"out{suffix}")
    assert got.pixels.shape[:2] == (42, 66)
    assert outcome.output_size == (66, 42)
    assert got.metadata.icc_profile == (None if suffix in (".gif", ".bmp") else profile)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_files_stay_sixteen(tmp_path: Path, suffix: str) -> None:
    pixels = np.random.default_rng(6).integers(0, 65536, (12, 10, 4)).astype(np.uint16)
    write_picture(tmp_path / f"in{suffix}", pixels)
    upscale_picture_file(tmp_path / f"in{suffix}", tmp_path / f"out{suffix}", NearestEngine(2))
    got = read_picture(tmp_path / f"out{suffix}").pixels
    assert got.dtype == np.uint16
    visible = pixels[..., 3] > 65535 // 2  # the colours of fainter pixels are mixed with their neighbours'
    assert np.array_equal(got[::2, ::2][visible], pixels[visible])
    assert np.array_equal(got[::2, ::2, 3], pixels[..., 3])


@pytest.mark.parametrize(
    ("suffix", "alpha"), [(".gif", False), (".png", False), (".webp", True), (".gif", True), (".png", True)]
)
def test_animations(tmp_path: Path, engine: Engine, suffix: str, alpha: bool) -> None:
    frames = [np.full((16, 24, 4 if alpha else 3), value, np.uint8) for value in (20, 80, 160)]
    for index, frame in enumerate(frames):
        frame[2 : 6 + index, 3:9] = 255
        if alpha:
            frame[..., 3] = 255
            frame[:4, :4, 3] = 0
    write_picture(tmp_path / f"in{suffix}", Picture(tuple(frames), (80, 120, 40), 2))
    outcome = upscale_picture_file(tmp_path / f"in{suffix}", tmp_path / f"out{suffix}", engine)
    got = read_picture(tmp_path / f"out{suffix}")
    assert outcome.frames == len(got.frames) == 3
    assert got.durations_ms == (80, 120, 40)
    assert got.loop == 2
    assert got.pixels.shape == (32, 48, 4 if alpha else 3)


def test_other_factors_are_resampled_and_said(tmp_path: Path, engine: Engine) -> None:
    write_picture(tmp_path / "in.png", np.zeros((20, 30, 3), np.uint8))
    outcome = upscale_picture_file(tmp_path / "in.png", tmp_path / "out.png", engine, size=SizeRequest(1.5))
    assert read_picture(tmp_path / "out.png").pixels.shape == (30, 45, 3)
    assert outcome.notices == ("x2 network, then to 30 lines (45x30, Lanczos).",)


def test_losses_of_a_format_are_said(tmp_path: Path, engine: Engine) -> None:
    write_picture(tmp_path / "in.png", np.full((8, 8, 4), 30000, np.uint16))
    outcome = upscale_picture_file(tmp_path / "in.png", tmp_path / "out.jpg", engine)
    assert len(outcome.notices) == 2, outcome.notices
    assert read_picture(tmp_path / "out.jpg").pixels.shape == (16, 16, 3)


@pytest.mark.slow
def test_a_large_picture_fits_in_two_gigabytes(tmp_path: Path, tiny_x2: Path) -> None:
    # VmHWM is the peak of that process alone: getrusage would begin with the peak of this one, which started it.
    import subprocess

    rows = np.arange(8000, dtype=np.uint16)[:, None]
    picture = np.empty((8000, 12000, 3), np.uint8)
    for channel in range(3):
        picture[..., channel] = (rows * (channel + 1) // 64 + np.arange(12000, dtype=np.uint16)[None] // 64) % 251
    write_picture(tmp_path / "in.bmp", picture)
    del picture
    code = (
        "import sys\n"
        "from apisr.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: code = end.code\n"
        "print('peak', int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) * 1024)\n"
        "sys.exit(code)\n"
    )
    arguments = ["upscale", str(tmp_path / "in.bmp"), "-o", str(tmp_path / "out.png"), "--model", str(tiny_x2)]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.rsplit("peak ", 1)[1]) < 2 * 2**30
    from PIL import Image

    with (tmp_path / "out.png").open("rb") as file:
        assert int.from_bytes(file.read(24)[16:20], "big") == 24000
    assert (tmp_path / "out.png").read_bytes()[-8:-4] == b"IEND"
    assert Image.MAX_IMAGE_PIXELS is not None


def test_every_page_is_upscaled(tmp_path: Path, engine: Engine) -> None:
    from apisr.image import open_picture

    pages = (np.full((8, 9, 3), 40, np.uint8), np.full((20, 5, 3), 900, np.uint16), np.full((6, 6, 1), 9, np.uint8))
    write_picture(tmp_path / "in.tif", Picture(pages))
    result = upscale_picture_file(tmp_path / "in.tif", tmp_path / "out.tif", engine)
    assert result.frames == 3
    with open_picture(tmp_path / "out.tif") as source:
        shapes = [(frame.pixels.shape, frame.pixels.dtype) for frame in source.frames()]
    assert shapes == [((16, 18, 3), np.uint8), ((40, 10, 3), np.uint16), ((12, 12, 1), np.uint8)]
    first = upscale_picture_file(tmp_path / "in.tif", tmp_path / "out.png", engine)
    assert first.frames == 1
    assert any("first of 3 pages" in notice for notice in first.notices)


def test_largest_input_and_provenance(tmp_path: Path, engine: Engine) -> None:
    write_picture(tmp_path / "in.png", np.zeros((20, 30, 3), np.uint8))
    with pytest.raises(InputError) as caught:
        upscale_picture_file(tmp_path / "in.png", tmp_path / "out.png", engine, PictureOptions(max_pixels=599))
    assert caught.value.code == "too-large"
    options = PictureOptions(max_pixels=600, provenance={"Software": "apisr 9.9"})
    upscale_picture_file(tmp_path / "in.png", tmp_path / "out.png", engine, options)
    assert [entry.text for entry in read_picture(tmp_path / "out.png").metadata.text] == ["apisr 9.9"]
