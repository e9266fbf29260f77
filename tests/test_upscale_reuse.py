"""Exact reuse: the same bits as computing everything, on the motions where others go wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from apisr.engines import open_engine
from apisr.engines.base import Engine, ModelTraits
from apisr.upscale.reuse import CanvasUpscaler, changed_blocks, merge_blocks
from apisr.upscale.tiles import rim_of
from apisr.weights import choose_model

Frames = list[NDArray[np.uint8]]


class ShapeBound:
    """A real network behind an engine that does not promise the same bits for every shape."""

    shape_exact = False

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name = engine.name
        self.traits: ModelTraits = engine.traits
        self.shapes: set[tuple[int, ...]] = set()

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self.shapes.add(batch.shape)
        return self._engine.run(batch)


def background(height: int = 150, width: int = 234) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([(rows * 2 + columns) % 256, (columns * 3) % 256, (rows * columns // 50) % 256], axis=2).astype(
        np.uint8
    )


def held() -> Frames:
    return [background()] * 6


def mouth() -> Frames:
    frames: Frames = []
    for index in range(9):
        frame = background()
        frame[90:104, 100:130] = (index // 3 % 2) * 90 + 40
        frames.append(frame)
    return frames


def returning() -> Frames:
    a, b = background(), background()
    b[20:90, 30:150] = 255 - b[20:90, 30:150]
    c = background()[::-1].copy()
    return [a, b, a, c, a, b, b, c]


def pan() -> Frames:
    wide = background(150, 300)
    return [np.ascontiguousarray(wide[:, x : x + 234]) for x in range(0, 30, 3)]


def fade() -> Frames:
    return [(background() * weight).astype(np.uint8) for weight in np.linspace(1, 0, 8)]


def grain() -> Frames:
    generator = np.random.default_rng(0)
    return [
        np.clip(background() // 8 + generator.integers(0, 6, (150, 234, 3)), 0, 255).astype(np.uint8) for _ in range(5)
    ]


def corner_dots() -> Frames:
    """Single changed pixels on block corners and picture corners: the places where careless halos leave traces."""
    frames = [background()]
    for row, column in ((0, 0), (149, 233), (15, 15), (16, 16), (64, 128), (149, 0), (0, 233)):
        frame = frames[-1].copy()
        frame[row, column] = 255 - frame[row, column]
        frames.append(frame)
    return frames


MOTIONS = [held, mouth, returning, pan, fade, grain, corner_dots]


@pytest.fixture(scope="module", params=["tiny-x2", "tiny-x4", "tiny-x4-unshuffled", "tiny-lite", "shape-bound"])
def engine(request: pytest.FixtureRequest) -> Engine:
    folder = Path(__file__).parent / "data" / "models"
    name = "tiny-x2" if request.param == "shape-bound" else request.param
    loaded = open_engine(choose_model(folder / f"{name}.onnx"), device="cpu")
    return ShapeBound(loaded) if request.param == "shape-bound" else loaded


@pytest.mark.parametrize("motion", MOTIONS, ids=lambda motion: motion.__name__)
def test_same_bits_as_without(engine: Engine, motion: Callable[[], Frames]) -> None:
    exact, off = CanvasUpscaler(engine), CanvasUpscaler(engine, reuse="off")
    for index, frame in enumerate(motion()):
        assert np.array_equal(exact.process(frame), off.process(frame)), f"frame {index}"
    assert off.stats.computed_px >= off.stats.total_px


def test_sixteen_bit_frames(engine: Engine) -> None:
    exact, off = CanvasUpscaler(engine), CanvasUpscaler(engine, reuse="off")
    for frame in mouth():
        deep = frame.astype(np.uint16) * 257
        high = exact.process(deep)
        assert high.dtype == np.uint16
        assert np.array_equal(high, off.process(deep))


@pytest.mark.parametrize(("height", "width"), [(151, 235), (149, 64), (33, 17), (1, 1)])
def test_odd_sizes(engine: Engine, height: int, width: int) -> None:
    """The right and bottom borders are no multiple of what an un-shuffled network needs."""
    exact, off = CanvasUpscaler(engine), CanvasUpscaler(engine, reuse="off")
    frames = [background(height, width) for _ in range(4)]
    frames[1][-1, -1] += 9
    frames[2][height // 2 : height // 2 + 7, width // 3 : width // 3 + 5] = 31
    for frame in frames:
        assert np.array_equal(exact.process(frame), off.process(frame))


def test_a_new_size_starts_anew(engine: Engine) -> None:
    exact = CanvasUpscaler(engine)
    scale = engine.traits.scale
    assert exact.process(background()).shape == (150 * scale, 234 * scale, 3)
    assert exact.process(background(40, 50)).shape == (40 * scale, 50 * scale, 3)


def test_what_is_saved(tiny_x2: Path) -> None:
    engine = open_engine(choose_model(tiny_x2), device="cpu")
    shares: dict[str, float] = {}
    for motion in (held, mouth, returning, pan):
        upscaler = CanvasUpscaler(engine)
        frames = motion()
        for frame in frames:
            upscaler.process(frame)
        first = (150 + 2 * rim_of(engine.traits)) * (234 + 2 * rim_of(engine.traits))
        shares[motion.__name__] = upscaler.stats.computed_px / first
    assert shares["held"] == 1.0  # the first frame only
    assert 1.0 < shares["mouth"] < 1.5
    assert shares["returning"] < 3.2  # three drawings, eight frames
    assert shares["pan"] == pytest.approx(10.0)


def test_fixed_windows_have_one_shape(tiny_x2: Path) -> None:
    bound = ShapeBound(open_engine(choose_model(tiny_x2), device="cpu"))
    upscaler = CanvasUpscaler(bound)
    for frame in mouth() + corner_dots():
        upscaler.process(frame)
    assert len(bound.shapes) == 1


def test_the_store_stays_within_its_bound(tiny_x2: Path) -> None:
    engine = open_engine(choose_model(tiny_x2), device="cpu")
    small, off = CanvasUpscaler(engine, store_bytes=200_000), CanvasUpscaler(engine, reuse="off")
    large = CanvasUpscaler(engine)
    for frame in returning() * 2:
        assert np.array_equal(small.process(frame), off.process(frame))
        large.process(frame)
    assert large.stats.computed_px < small.stats.computed_px  # what did not fit was computed again


def test_delivered_frames_are_not_modified_later(tiny_x2: Path) -> None:
    upscaler = CanvasUpscaler(open_engine(choose_model(tiny_x2), device="cpu"))
    frames = mouth()
    delivered = [upscaler.process(frame) for frame in frames]
    copies = [high.copy() for high in delivered]
    for frame in returning():
        upscaler.process(frame)
    assert all(np.array_equal(high, copy) for high, copy in zip(delivered, copies, strict=True))


@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    row=st.integers(0, 69),
    column=st.integers(0, 69),
    channel=st.integers(0, 2),
)
def test_changed_blocks_finds_any_single_value(height: int, width: int, row: int, column: int, channel: int) -> None:
    row, column = row % height, column % width
    before = np.zeros((height, width, 3), np.uint8)
    now = before.copy()
    now[row, column, channel] = 1
    blocks = changed_blocks(before, now)
    assert blocks.shape == (-(-height // 16), -(-width // 16))
    assert blocks.sum() == 1
    assert blocks[row // 16, column // 16]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 17)), max_size=40), st.integers(0, 40))
def test_merged_rectangles_cover_every_marked_block(marked: list[tuple[int, int]], halo: int) -> None:
    blocks = np.zeros((12, 18), bool)
    for place in marked:
        blocks[place] = True
    height, width = 12 * 16 - 5, 18 * 16 - 3
    covered = np.zeros((height, width), bool)
    rectangles = merge_blocks(blocks, height, width, halo_px=halo)
    for rectangle in rectangles:
        covered[rectangle.slices] = True
    wanted = blocks.repeat(16, axis=0).repeat(16, axis=1)[:height, :width]
    assert (covered >= wanted).all()
    assert bool(rectangles) == bool(marked)


@pytest.mark.slow
def test_real_clips(shared: Path) -> None:
    """The first frames of every clip, lossless and compressed, with a shipped network."""
    import av

    engine = open_engine("apisr-x2-fast", device="cpu")
    for clip in sorted((shared / "data/clips").glob("*/low.mkv")):
        for path in (clip, clip.with_name("web.mkv")):
            exact, off = CanvasUpscaler(engine), CanvasUpscaler(engine, reuse="off")
            with av.open(str(path)) as container:
                for index, frame in enumerate(container.decode(video=0)):
                    rgb = frame.to_ndarray(format="rgb24")
                    assert np.array_equal(exact.process(rgb), off.process(rgb)), f"{path} frame {index}"
                    if index == 4:
                        break
