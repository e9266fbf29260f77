"""Exact reuse: what is not computed again, and the time saved

Every clip is upscaled twice by the shipped `apisr-x2-fast` network, frame by frame in memory: every frame computed
whole, and with exact reuse. The outputs are compared bit by bit. "changed" is the share of the picture area whose
output could differ from the canvas, "computed" the share that went through the network, halos included, after the
store of earlier results was asked. "time" is the time with reuse over the time without, both in this run, per clip
alternating every 12 frames. Lossless twins hold drawings exactly; in compressed twins the codec changes held drawings
a little in every frame, which is what the hold filter is for.

Run: python -m benchmarks reuse
"""

from __future__ import annotations

import time
from pathlib import Path

import av
import numpy as np

from apisr.engines import open_engine
from apisr.upscale.reuse import CanvasUpscaler
from apisr.weights import choose_model
from benchmarks import Skip

CLIPS = Path(__file__).resolve().parents[2] / "shared" / "data" / "clips"
CHUNK = 12


def run(*, quick: bool = False) -> list[dict[str, object]]:
    """Measure every clip; one row each."""
    if not CLIPS.is_dir():
        raise Skip("the clips (../shared/data/clips) are not on this machine")
    engine = open_engine(choose_model("apisr-x2-fast"), device="cpu")
    rows: list[dict[str, object]] = []
    for folder in sorted(path.parent for path in CLIPS.glob("*/low.mkv")):
        for name, kind in (("low", "lossless"), ("web", "compressed")):
            with av.open(str(folder / f"{name}.mkv")) as container:
                limit = 12 if quick else 24
                frames = [
                    frame.to_ndarray(format="rgb24")
                    for _, frame in zip(range(limit), container.decode(video=0), strict=False)
                ]
            exact, off = CanvasUpscaler(engine), CanvasUpscaler(engine, reuse="off")
            seconds = {"exact": 0.0, "off": 0.0}
            equal = True
            for first in range(0, len(frames), CHUNK):
                part = frames[first : first + CHUNK]
                outputs = {}
                for label, upscaler in (("exact", exact), ("off", off)):
                    began = time.perf_counter()
                    outputs[label] = [upscaler.process(frame) for frame in part]
                    seconds[label] += time.perf_counter() - began
                equal &= all(np.array_equal(a, b) for a, b in zip(outputs["exact"], outputs["off"], strict=True))
            rows.append(
                {
                    "clip": folder.name,
                    "twin": kind,
                    "frames": len(frames),
                    "changed %": 100 * exact.stats.changed_px / exact.stats.total_px,
                    "computed %": 100 * exact.stats.computed_share,
                    "time with / without": seconds["exact"] / seconds["off"],
                    "frames/s without": len(frames) / seconds["off"],
                    "same bits": "yes" if equal else "NO",
                }
            )
    return rows
