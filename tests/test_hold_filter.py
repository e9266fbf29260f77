"""The hold filter: nothing lost, no drift, no ghosts, on plain frames and on clips that were really compressed."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from apisr.metrics import flicker, psnr
from apisr.upscale.hold import LOOKAHEAD_FRAMES, HoldFilter
from apisr.upscale.hold_difference import BLOCK_PX, differences
from apisr.upscale.reuse import changed_blocks

Frame = NDArray[Any]

HEIGHT, WIDTH = 144, 208


def scene(*, mouth: int = 0, walker: int | None = None, light: float = 1.0, night: bool = False) -> NDArray[np.uint8]:
    """A little drawing: graded sky, textured ground, a face with lines; a figure may walk through."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    picture = np.stack([90 + rows * 0.5, 140 + rows * 0.3, 230 - rows * 0.2 + 0 * columns], axis=2)
    ground = 120 + 25 * np.sin(columns * 0.7) * np.sin(rows * 0.9)
    picture[100:] = ground[100:, :, None] * np.array([0.9, 0.8, 0.6])
    canvas = np.ascontiguousarray(picture.clip(0, 255).astype(np.uint8))
    cv2.circle(canvas, (60, 60), 34, (240, 200, 170), -1, cv2.LINE_AA)
    cv2.circle(canvas, (60, 60), 34, (40, 20, 20), 2, cv2.LINE_AA)
    cv2.circle(canvas, (48, 52), 4, (30, 30, 60), -1, cv2.LINE_AA)
    cv2.circle(canvas, (72, 52), 4, (30, 30, 60), -1, cv2.LINE_AA)
    cv2.ellipse(canvas, (60, 76), (10, 1 + 3 * mouth), 0, 0, 360, (150, 40, 50), -1, cv2.LINE_AA)
    if walker is not None:
        cv2.rectangle(canvas, (walker, 60), (walker + 18, 130), (200, 40, 60), -1)
        cv2.line(canvas, (walker + 26, 60), (walker + 22, 130), (20, 20, 20), 1, cv2.LINE_AA)
    if night:
        canvas = (canvas // 8 + 6).astype(np.uint8)
    return np.rint(canvas * light).astype(np.uint8)


def compress(frames: list[NDArray[np.uint8]], path: Path, **options: object) -> list[NDArray[np.uint8]]:
    """Write frames as H.264 and read what became of them."""
    settings_ = {"crf": "25", "preset": "medium", "threads": "1"} | {key: str(value) for key, value in options.items()}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(24000, 1001), options=settings_)
        stream.width, stream.height, stream.pix_fmt = frames[0].shape[1], frames[0].shape[0], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return decode(path)


def decode(path: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def gain_db(before: list[Frame], after: list[Frame], truth: list[Frame]) -> float:
    return float(np.mean([psnr(b, t) - psnr(a, t) for a, b, t in zip(before, after, truth, strict=True)]))


def area(frames: list[Frame]) -> float:
    """The share of blocks that can change from frame to frame, grown by 16 pixels; the first frame counts."""
    grown = np.ones((3, 3), np.uint8)
    pairs = itertools.pairwise(frames)
    return float(np.mean([1.0, *(cv2.dilate(changed_blocks(a, b).astype(np.uint8), grown).mean() for a, b in pairs)]))


def farthest(held: list[Frame], given_: list[Frame]) -> float:
    """The largest distance of a held block from the frame it stands for, in units of the limits."""
    worst = 0.0
    for now, source in zip(held, given_, strict=True):
        rows, columns = now.shape[0] // BLOCK_PX, now.shape[1] // BLOCK_PX
        cut = [
            p[: rows * BLOCK_PX, : columns * BLOCK_PX]
            .reshape(rows, BLOCK_PX, columns, BLOCK_PX, 3)
            .swapaxes(1, 2)
            .reshape(-1, BLOCK_PX, BLOCK_PX, 3)
            for p in (now, source)
        ]
        worst = max(worst, float(differences(cut[0], cut[1]).max()))
    return worst


def test_off_hands_frames_through() -> None:
    frames = [scene(mouth=index % 3) for index in range(4)]
    held = list(HoldFilter("off").run(frames))
    assert all(a is b for a, b in zip(held, frames, strict=True))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=40))
def test_exact_drawings_stay_exact(numbers: list[int]) -> None:
    drawings = [scene(), scene(light=0.5), scene()[:, ::-1].copy()]
    for corner in (10, 50, 97):  # hard edges only: a faint edge may be taken for noise
        drawing = scene()
        drawing[corner : corner + 40, corner : corner + 70] //= 5
        drawings.append(drawing)
    frames = [drawings[number] for number in numbers]
    held = list(HoldFilter().run(frames))
    assert len(held) == len(frames)
    assert all(np.array_equal(a, b) for a, b in zip(held, frames, strict=True))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 4, 12]), st.sampled_from([0, 5, LOOKAHEAD_FRAMES]))
def test_never_far_from_the_frame(seed: int, noise: int, lookahead: int) -> None:
    rng = np.random.default_rng(seed)
    frames: list[Frame] = []
    for index in range(14):
        drawing = scene(mouth=index // 3 % 3, walker=10 * index if index > 7 else None)
        around = rng.integers(-noise, noise + 1, drawing.shape)
        frames.append((drawing.astype(int) + around).clip(0, 255).astype(np.uint8))
    held = list(HoldFilter(lookahead_frames=lookahead).run(frames))
    # 1.4 times the limits, times at most 2 for a noisy stream, and what rounding and the look-ahead's mean may add
    assert farthest(held, frames) <= 1.4 * 2.0 * 1.1


def test_order_count_and_latency() -> None:
    frames = [np.full((40, 56, 3), 5 * index, np.uint8) for index in range(45)]
    filter_ = HoldFilter()
    sizes = [len(filter_.push(frame)) for frame in frames]
    assert sizes == [0] * LOOKAHEAD_FRAMES + [1] * (45 - LOOKAHEAD_FRAMES)
    assert len(filter_.finish()) == LOOKAHEAD_FRAMES
    assert filter_.stats.frames == 45
    assert filter_.finish() == []
    assert all(np.array_equal(a, b) for a, b in zip(HoldFilter().run(frames), frames, strict=True))


def test_size_and_depth_may_change() -> None:
    frames = [np.zeros((32, 48, 3), np.uint8)] * 3 + [np.full((50, 34, 3), 900, np.uint16)] * 3
    held = list(HoldFilter().run(frames))
    assert [(f.shape, f.dtype) for f in held] == [(f.shape, f.dtype) for f in frames]
    assert all(np.array_equal(a, b) for a, b in zip(held, frames, strict=True))


def test_sixteen_bits_like_eight() -> None:
    rng = np.random.default_rng(5)
    frames = [
        (scene(mouth=i // 4).astype(int) + rng.integers(-1, 2, (HEIGHT, WIDTH, 3))).clip(0, 255).astype(np.uint8)
        for i in range(12)
    ]
    eight = list(HoldFilter(lookahead_frames=0).run(frames))
    sixteen = list(HoldFilter(lookahead_frames=0).run([frame.astype(np.uint16) * 257 for frame in frames]))
    same = np.mean([np.array_equal(a.astype(np.uint16) * 257, b) for a, b in zip(eight, sixteen, strict=True)])
    assert same == 1.0


def test_noise_is_held_and_the_same_object_comes_again() -> None:
    rng = np.random.default_rng(1)
    frames = [
        (scene().astype(int) + rng.integers(-1, 2, (HEIGHT, WIDTH, 3))).clip(0, 255).astype(np.uint8) for _ in range(30)
    ]
    filter_ = HoldFilter()
    held = list(filter_.run(frames))
    assert all(frame is held[0] for frame in held)
    assert filter_.stats.whole_frames == 29
    assert psnr(held[0], scene()) > psnr(frames[0], scene()) + 5, "the mean of the hold must be nearer to the drawing"


@pytest.mark.parametrize("step", [0.05, 0.2, 1.0])
def test_slow_fades_do_not_drift(step: float) -> None:
    start = scene(light=0.5).astype(float)
    frames = [np.rint(start + step * index).clip(0, 255).astype(np.uint8) for index in range(60)]
    held = list(HoldFilter().run(frames))
    levels = [abs(float(a.mean()) - float(b.mean())) for a, b in zip(held, frames, strict=True)]
    assert max(levels) < 0.6, "a fade must be followed within a level"


def test_compressed_talk(tmp_path: Path) -> None:
    drawings = [0] * 6 + [1] * 3 + [2] * 3 + [1] * 3 + [0] * 9 + [2] * 3 + [1] * 3 + [0] * 12
    truth = [scene(mouth=number) for number in drawings]
    web = compress(truth, tmp_path / "talk.mkv")
    held = list(HoldFilter().run(web))
    assert area(held) < 0.6 * area(web)
    assert flicker(web, drawings) > 5 * flicker(held, drawings)
    assert gain_db(web, held, truth) > -0.005
    for index, number in enumerate(drawings):  # the mouth is that of the frame, not an old one
        mouth = np.s_[68:86, 48:74]
        errors = [float(np.abs(held[index][mouth].astype(int) - scene(mouth=m)[mouth]).mean()) for m in range(3)]
        assert int(np.argmin(errors)) == number


def test_returning_drawings_get_their_bits_back(tmp_path: Path) -> None:
    drawings = [0, 0, 0, 2, 2, 2] * 8
    web = compress([scene(mouth=number) for number in drawings], tmp_path / "returning.mkv")
    filter_ = HoldFilter()
    held = list(filter_.run(web))
    assert len({frame.tobytes() for frame in web[24:]}) > 4
    assert len({frame.tobytes() for frame in held[24:]}) == 2
    assert filter_.stats.returned_blocks > 0


def test_shots_and_flashes_come_back(tmp_path: Path) -> None:
    shots = ([scene()] * 8 + [scene()[::-1, ::-1].copy()] * 8) * 3
    filter_ = HoldFilter()
    web = compress(shots, tmp_path / "shots.mkv")
    held = list(filter_.run(web))
    assert filter_.stats.returned_shots == 4
    assert changed_blocks(held[20], held[36]).mean() < changed_blocks(web[20], web[36]).mean() / 2
    flash = [scene()] * 10 + [np.minimum(scene().astype(int) + 70, 255).astype(np.uint8)] * 2 + [scene()] * 10
    web = compress(flash, tmp_path / "flash.mkv")
    lit = list(HoldFilter().run(web))
    for index in (9, 10, 11, 12):
        assert abs(float(lit[index].mean()) - float(web[index].mean())) < 0.05
    assert np.array_equal(lit[9], lit[15])


def test_nothing_trails_behind_what_moves(tmp_path: Path) -> None:
    places = [6 + 4 * (index // 2) for index in range(76)]
    truth = [scene(walker=place) for place in places]
    web = compress(truth, tmp_path / "walk.mkv")
    held = list(HoldFilter().run(web))
    assert gain_db(web, held, truth) > 0
    for index in range(30, 76, 5):  # where the figure was: as near to the truth as the frame itself
        behind = np.s_[56:134, : places[index] - 24]
        far = [
            cv2.blur(np.abs(f[index][behind].astype(np.float32) - truth[index][behind]), (3, 3)).max()
            for f in (web, held)
        ]
        assert far[1] <= far[0] + 6


def test_fade_follows_frame_by_frame(tmp_path: Path) -> None:
    light = [1.0] * 10 + list(np.linspace(1, 0.05, 25)) + [0.05] * 5
    truth = [scene(light=value) for value in light]
    web = compress(truth, tmp_path / "fade.mkv")
    held = list(HoldFilter().run(web))
    each = [psnr(b, t) - psnr(a, t) for a, b, t in zip(web[10:34], held[10:34], truth[10:34], strict=True)]
    assert min(each) > -0.1
    assert gain_db(web, held, truth) > -0.01
    assert max(abs(float(a.mean()) - float(b.mean())) for a, b in zip(held, web, strict=True)) < 0.1


def test_dark_grain_shows_no_grid(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    night = scene(night=True).astype(float)
    truth = [(night + rng.normal(0, 1.5, night.shape)).clip(0, 255).astype(np.uint8) for _ in range(24)]
    web = compress(truth, tmp_path / "grain.mkv", crf=18, tune="grain")
    held = list(HoldFilter().run(web))

    def grid(frames: list[Frame]) -> float:
        """Steps at the borders of blocks over steps elsewhere."""
        steps = np.mean([np.abs(np.diff(f.astype(float), axis=1)).mean(axis=(0, 2)) for f in frames], axis=0)
        border = np.arange(len(steps)) % BLOCK_PX == BLOCK_PX - 1
        return float(steps[border].mean() / steps[~border].mean())

    # the scene itself has lines: only what the filter adds counts
    assert grid(held) < grid(web) + 0.05
    assert gain_db(web, held, truth) > -0.01


@pytest.mark.slow
@pytest.mark.parametrize(("name", "most"), [("talk", 0.03), ("returning", 0.03), ("action", 0.15), ("fade", 0.53)])
def test_real_clips(shared: Path, name: str, most: float) -> None:
    folder = shared / "data" / "clips" / name
    web, low = decode(folder / "web.mkv"), decode(folder / "low.mkv")
    drawings = [int(word) for word in (folder / "drawings.txt").read_text().split()]
    held = list(HoldFilter().run(web))
    assert area(held) <= most
    assert gain_db(web, held, low) > 0
    assert flicker(web, drawings) > 5 * flicker(held, drawings)
