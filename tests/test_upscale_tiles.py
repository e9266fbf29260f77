"""Tiles: a cut picture gives the values of the whole picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from apisr.engines import open_engine
from apisr.engines.base import Engine, ModelTraits
from apisr.image import read_picture, to_float
from apisr.upscale import tiles, upscale_pixels
from apisr.upscale.picture import resize_bands
from apisr.upscale.reuse import CanvasUpscaler, plan_fixed_tiles
from apisr.upscale.sizes import SizeRequest
from apisr.upscale.tiles import Rectangle, bounds_of, plan_tiles, rim_of, run_window, window_of
from apisr.weights import choose_model, list_models, resolve_model
from apisr.weights.rim import smallest_rim_px

MODELS = Path(__file__).parent / "data" / "models"
ENGINES: dict[str, Engine] = {}


def engine_named(name: str) -> Engine:
    if name not in ENGINES:
        ENGINES[name] = open_engine(choose_model(MODELS / f"{name}.onnx"), device="cpu")
    return ENGINES[name]


@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    tile=st.integers(8, 64),
    halo=st.integers(0, 30),
    multiple=st.sampled_from([1, 2, 4, 8]),
)
def test_cores_cover_the_picture_once(height: int, width: int, tile: int, halo: int, multiple: int) -> None:
    seen = np.zeros((height, width), int)
    for piece in plan_tiles(height, width, tile_px=tile, halo_px=halo, multiple_px=multiple):
        seen[piece.core.slices] += 1
        assert piece.window.top % multiple == piece.window.left % multiple == 0
        assert piece.window.top == max(0, piece.window.top)
        assert piece.window.top <= max(0, piece.core.top - halo)
        assert piece.window.bottom >= min(height, piece.core.bottom + halo)
        assert piece.window.right >= min(width, piece.core.right + halo)
    assert (seen == 1).all()


@given(
    height=st.integers(1, 400), width=st.integers(1, 400), halo=st.integers(0, 40), multiple=st.sampled_from([1, 2, 8])
)
def test_fixed_windows_have_one_shape_and_enough_margin(height: int, width: int, halo: int, multiple: int) -> None:
    tiles = plan_fixed_tiles(height, width, core_px=64, halo_px=halo, multiple_px=multiple)
    seen = np.zeros((height, width), int)
    shapes = set()
    for piece in tiles:
        seen[piece.core.slices] += 1
        window = piece.window
        # the last window may end at a border that is no multiple; it is padded to the same shape before the network
        shapes.add((-(-window.height // multiple) * multiple, -(-window.width // multiple) * multiple))
        assert window.top <= max(0, piece.core.top - halo)
        assert window.bottom >= min(height, piece.core.bottom + halo)
        assert window.left <= max(0, piece.core.left - halo)
        assert window.right >= min(width, piece.core.right + halo)
        assert window.top % multiple == window.left % multiple == 0
    assert (seen == 1).all()
    assert len(shapes) == 1


@pytest.mark.parametrize("name", ["tiny-x2", "tiny-x4", "tiny-x4-unshuffled", "tiny-lite"])
@settings(deadline=None, max_examples=40)
@given(height=st.integers(1, 70), width=st.integers(1, 70), tile=st.integers(8, 48), seed=st.integers(0, 9))
def test_tiled_equals_whole(name: str, height: int, width: int, tile: int, seed: int) -> None:
    engine = engine_named(name)
    pixels = np.random.default_rng(seed).integers(0, 65536, (height, width, 3)).astype(np.uint16)
    rim, scale = rim_of(engine.traits), engine.traits.scale
    continued = np.pad(to_float(pixels), ((rim, rim), (rim, rim), (0, 0)), mode="edge")
    inner = slice(scale * rim, -scale * rim)
    whole = run_window(engine, continued)[inner, inner]
    tiled = upscale_pixels(pixels, engine, tile_px=tile)
    assert tiled.shape == (height * engine.traits.scale, width * engine.traits.scale, 3)
    expected = np.clip(whole, 0, 1) * 65535
    assert np.abs(tiled - expected).max() < 1.0  # rounding to 16 bit, and floating point


@given(
    top=st.integers(0, 50),
    left=st.integers(0, 50),
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    margin=st.integers(0, 60),
)
def test_grown_stays_inside(top: int, left: int, height: int, width: int, margin: int) -> None:
    grown = Rectangle(top, top + height, left, left + width).grown(margin, bounds_of(100, 100, 0))
    assert 0 <= grown.top <= top
    assert top + height <= grown.bottom <= 100
    assert grown.area_px >= height * width


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 60),
    width=st.integers(1, 40),
    new_height=st.integers(1, 130),
    band=st.integers(1, 20),
    dtype=st.sampled_from([np.uint8, np.uint16]),
)
def test_resampling_in_bands_equals_resampling_whole(
    height: int, width: int, new_height: int, band: int, dtype: type
) -> None:
    from apisr.image import from_float, resize

    pixels = (
        np.random.default_rng(height * 1000 + width).integers(0, np.iinfo(dtype).max, (height, width, 3)).astype(dtype)
    )
    new_width = max(1, round(width * new_height / height))
    pieces = [pixels[row : row + band] for row in range(0, height, band)]
    got = np.concatenate(list(resize_bands(iter(pieces), height, width, new_height, new_width)))
    whole = from_float(resize(to_float(pixels), new_height, new_width), dtype)
    assert got.shape == whole.shape
    assert np.abs(got.astype(int) - whole.astype(int)).max() <= (1 if dtype == np.uint8 else 4)


def test_output_size() -> None:
    assert SizeRequest().of_picture(10, 20, scale=4) == (40, 80)
    assert SizeRequest(height=1080).of_picture(720, 1280, scale=2) == (1080, 1920)
    assert SizeRequest(3).of_picture(3, 5, scale=4) == (9, 15)
    assert SizeRequest(0.1).of_picture(1, 1, scale=2) == (1, 1)


@settings(deadline=None, max_examples=25)
@given(height=st.integers(1, 90), width=st.integers(1, 90))
def test_a_network_of_one_size_takes_any_picture(height: int, width: int) -> None:
    """The same network, once free and once with a fixed input of 48x40, agree away from the filled-up borders."""
    free = engine_named("tiny-x2")

    class OneSize:
        name = "fixed"
        shape_exact = False
        traits = replace(free.traits, fixed_size=(48, 40))

        def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
            assert batch.shape[2:] == (48, 40)
            return free.run(batch)

    pixels = np.random.default_rng(height * 100 + width).integers(0, 256, (height, width, 3)).astype(np.uint8)
    fixed, whole = upscale_pixels(pixels, OneSize()), upscale_pixels(pixels, free)
    assert fixed.shape == whole.shape
    assert free.traits.halo_px is not None
    border = 2 * free.traits.halo_px
    inner = (slice(0, max(0, 2 * height - border)), slice(0, max(0, 2 * width - border)))
    if fixed[inner].size:
        assert np.abs(fixed[inner].astype(int) - whole[inner]).max() <= 1


@pytest.mark.parametrize(
    ("memory_gib", "bytes_per_px", "expected"),
    [(24, 420, 512), (1, 420, 512), (24, 23_000, 464), (8, 23_000, 240), (0.5, 23_000, 64)],
)
def test_default_tiles_follow_the_memory(
    monkeypatch: pytest.MonkeyPatch, memory_gib: float, bytes_per_px: int, expected: int
) -> None:
    monkeypatch.setattr(tiles, "total_memory", lambda: int(memory_gib * 2**30))
    assert tiles.default_tile_px(ModelTraits(4, 32, 8, bytes_per_px=bytes_per_px)) == expected


def test_models_that_need_much_memory_say_so() -> None:
    assert resolve_model("grl-x4").traits.bytes_per_px > 10 * resolve_model("apisr-x4-fast").traits.bytes_per_px


@given(top=st.integers(-9, 20), left=st.integers(-9, 20), height=st.integers(1, 30), width=st.integers(1, 30))
def test_a_window_goes_on_with_the_outermost_pixels(top: int, left: int, height: int, width: int) -> None:
    window = Rectangle(top, top + height, left, left + width)
    for shape, dtype in (((21, 17, 3), np.uint8), ((21, 17, 1), np.uint16), ((21, 17), np.float32)):
        pixels = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
        padded = np.pad(pixels, ((9, 40), (9, 40)) + ((0, 0),) * (len(shape) - 2), mode="edge")
        expected = padded[9 + top : 9 + top + height, 9 + left : 9 + left + width]
        got = window_of(pixels, window)
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)


COLOURS = [(243, 123, 31), (255, 255, 255)]
SHIPPED = [model.name for model in list_models()]
#: Those that take seconds for a small picture.
DEEP = {"apisr-x4-max", "apisr-x4-max-vivid", "grl-x4", "grl-x4-vivid"}
TWINS = [name for name in SHIPPED if f"{name}-vivid" in SHIPPED and name not in DEEP]


@pytest.mark.parametrize("model", SHIPPED)
def test_flat_colour_stays_flat_to_the_rim(model: str) -> None:
    """Every shipped network: whole, in tiles and on a canvas, the rim is what the middle is, within one level."""
    # The deep ones in fp32: their bf16 alone moves a flat area by up to two levels, wherever in the picture.
    precision = "fp32" if model in DEEP else "auto"
    engine = open_engine(choose_model(model), device="cpu", precision=precision, threads=1)
    scale, step = engine.traits.scale, engine.traits.scale * engine.traits.multiple_px
    for colour in COLOURS:
        flat = np.full((40, 56, 3), colour, np.uint8)
        whole = upscale_pixels(flat, engine).astype(int)
        middle = whole[16 * scale : 16 * scale + step, 24 * scale : 24 * scale + step]  # one period of the network
        pattern = np.tile(middle, (-(-40 * scale // step), -(-56 * scale // step), 1))[: 40 * scale, : 56 * scale]
        assert np.abs(whole - pattern).max() <= 1, colour
        for other in (upscale_pixels(flat, engine, tile_px=16), CanvasUpscaler(engine).process(flat)):
            assert np.abs(other.astype(int) - pattern).max() <= 1, colour


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in DEEP else name for name in SHIPPED]
)
def test_cards_say_the_smallest_rim_that_is_enough(name: str) -> None:
    """``python scripts/measure_rims.py --write`` mends a card that does not."""
    model = choose_model(name)
    engine = open_engine(model, engine="onnx", device="cpu", precision="fp32", threads=1)
    assert smallest_rim_px(engine.run, model.traits) == model.traits.rim_px


@pytest.mark.parametrize("name", TWINS)
def test_between_twins_the_wider_rim_is_enough(name: str) -> None:
    model = choose_model(name, strength=0.5)
    rims = [known.traits.rim_px for known in list_models() if known.name in (name, f"{name}-vivid")]
    assert model.traits.rim_px == max(rim for rim in rims if rim is not None)
    engine = open_engine(model, engine="onnx", device="cpu", precision="fp32", threads=1)
    needed = smallest_rim_px(engine.run, model.traits)
    assert needed is not None
    assert needed <= model.traits.rim_px


def test_the_border_of_a_flat_file(shared: Path) -> None:
    picture = read_picture(shared / "cases" / "orange.png").pixels
    engine = open_engine(choose_model(None, scale=2), device="cpu", threads=1)
    large = upscale_pixels(picture, engine).astype(int)
    border = np.ones(large.shape[:2], bool)
    border[16:-16, 16:-16] = False  # a line is drawn in the middle
    assert np.ptp(large[border], axis=0).max() <= 1
