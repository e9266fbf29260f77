"""Hold: what the hold filter saves and costs, on clips whose true drawings are known

Input: the compressed twin of each clip (H.264, CRF 25, 640x360). *Area*: blocks that differ from the frame before,
grown by 16 pixels; *changed*: blocks whose output can differ with the shipped network's halo; *computed*: pixels that
went through the network, halos included, after the store of earlier results was asked. All are shares of all frames.
*Input*: PSNR and SSIM against the lossless original, hold minus frame by frame (PSNR over all frames, SSIM on every
sixth). *Output*: the shipped x2 network on both, against the true drawings, on four frames a clip. *Flicker*: mean
absolute difference of successive frames of one drawing, frame by frame over hold (a dash: no whole drawing is held).
*ms*: processor time of the filter alone for a frame of 640x360.

Run: python -m benchmarks hold
"""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from apisr.engines import open_engine
from apisr.engines.base import Engine, ModelTraits
from apisr.image import from_float, from_tensor, to_float, to_tensor
from apisr.metrics import psnr, ssim
from apisr.upscale.hold import HoldFilter
from apisr.upscale.reuse import CanvasUpscaler, changed_blocks
from apisr.weights import choose_model
from benchmarks import Skip

CLIPS = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "clips"
NAMES = ("talk", "returning", "action", "fade", "flash", "pan", "grain")
GROWN = np.ones((3, 3), np.uint8)

Frame = NDArray[np.uint8]


class _Through:
    """Gives back its input, with the halo of a real network: counts what that network would have to do."""

    name = "through"
    shape_exact = True

    def __init__(self, halo_px: int | None) -> None:
        self.traits = ModelTraits(1, halo_px=halo_px)

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return batch


def run(*, quick: bool = False) -> list[dict[str, object]]:
    """Measure every clip; quick runs leave the network out."""
    if not CLIPS.is_dir():
        raise Skip("the clips (../shared/data/clips) are not on this machine")
    engine = open_engine(choose_model(None, scale=2))
    return [_row(name, engine, quick=quick) for name in (NAMES[:2] if quick else NAMES)]


def _row(name: str, engine: Engine, *, quick: bool) -> dict[str, object]:
    web, low = _frames(CLIPS / name / "web.mkv"), _frames(CLIPS / name / "low.mkv")
    drawings = [int(word) for word in (CLIPS / name / "drawings.txt").read_text().split()]
    again = [index for index in range(1, len(web)) if drawings[index] == drawings[index - 1]]
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    start = time.process_time()
    held = list(HoldFilter().run(web))
    seconds = time.process_time() - start
    cv2.setNumThreads(threads)
    counted = CanvasUpscaler(_Through(engine.traits.halo_px))
    for frame in held:
        counted.process(frame)
    total = counted.stats.total_px
    row: dict[str, object] = {
        "clip": name,
        "area exact %": 100 * _area(web),
        "area hold %": 100 * _area(held),
        "changed %": 100 * counted.stats.changed_px / total,
        "computed %": 100 * counted.stats.computed_px / total,
        "input dB": _mean_gain(psnr, web, held, low),
        "input SSIM": _mean_gain(ssim, web[::6], held[::6], low[::6]),
        "input flicker ratio": _flicker_ratio(web, held, again),
    }
    if not quick:
        row |= _through_network(name, engine, web, held, again)
    return row | {"ms": 1000 * seconds / len(web)}


def _through_network(
    name: str, engine: Engine, web: list[Frame], held: list[Frame], again: list[int]
) -> dict[str, object]:
    """Enlarge two pairs of successive frames (of one drawing where there is one) both ways."""
    seconds = [again[len(again) // 3], again[2 * len(again) // 3]] if again else [len(web) // 3, 2 * len(web) // 3]
    chosen = [index for second in seconds for index in (second - 1, second)]
    truth = _frames(CLIPS / name / "gt.mkv", set(chosen))
    plain, steady = ([_enlarge(engine, frames[index]) for index in chosen] for frames in (web, held))
    return {
        "output dB": _mean_gain(psnr, plain, steady, truth),
        "output SSIM": _mean_gain(ssim, plain, steady, truth),
        "output flicker ratio": _flicker_ratio(plain, steady, [1, 3] if again else []),
    }


def _enlarge(engine: Engine, frame: Frame) -> Frame:
    return from_float(from_tensor(engine.run(to_tensor(to_float(frame)))), np.uint8)


def _area(frames: list[Frame]) -> float:
    shares = [1.0]
    for before, now in itertools.pairwise(frames):
        shares.append(float(cv2.dilate(changed_blocks(before, now).astype(np.uint8), GROWN).mean()))
    return float(np.mean(shares))


def _mean_gain(metric: object, plain: list[Frame], steady: list[Frame], truth: list[Frame]) -> float:
    assert callable(metric)
    return float(
        np.mean(
            [
                0.0 if a is b or np.array_equal(a, b) else float(metric(b, t)) - float(metric(a, t))
                for a, b, t in zip(plain, steady, truth, strict=True)
            ]
        )
    )


def _flicker_ratio(plain: list[Frame], steady: list[Frame], again: list[int]) -> object:
    if not again:
        return None
    noise, rest = (float(np.mean([_apart(frames, index) for index in again])) for frames in (plain, steady))
    return noise / rest if rest > 0 else "no flicker left"


def _apart(frames: list[Frame], index: int) -> float:
    return float(cv2.absdiff(frames[index], frames[index - 1]).mean())


def _frames(path: Path, only: set[int] | None = None) -> list[Frame]:
    with av.open(str(path)) as container:
        return [
            frame.to_ndarray(format="rgb24")
            for index, frame in enumerate(container.decode(video=0))
            if only is None or index in only
        ]
