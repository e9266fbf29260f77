"""Reading pictures: two threads against one

Six pictures of 2000x1500 of each format, read by one thread and by two (`read_picture`), the fastest of several
rounds that alternate. A ratio near 2 means that decoding lets go of the interpreter; near 1, that two threads wait for
each other. It needs two cores that are free.

Run: python -m benchmarks reading
"""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from apisr.image import read_picture, write_picture

#: Lines and columns: a page of a manga, a frame of a film.
SIZE = (1500, 2000)
PICTURES = 6


def run(*, quick: bool = False) -> list[dict[str, object]]:
    """Return one row per format."""
    draw = np.random.default_rng(0)
    smooth = cv2.GaussianBlur(draw.integers(0, 256, (*SIZE, 3)).astype(np.float32), (0, 0), 3)
    low, high = float(smooth.min()), float(smooth.max())
    pixels = np.asarray((smooth - low) * (255 / (high - low)), np.uint8)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="reading-") as folder:
        for suffix in (".jpg", ".png", ".webp", ".tif", ".avif"):
            path = Path(folder) / f"a{suffix}"
            write_picture(path, pixels)
            one, two = _fastest(path, rounds=2 if quick else 5)
            rows.append(
                {
                    "format": suffix.removeprefix("."),
                    "one thread, pictures/s": PICTURES / one,
                    "two threads, pictures/s": PICTURES / two,
                    "ratio": one / two,
                }
            )
    return rows


def _fastest(path: Path, *, rounds: int) -> tuple[float, float]:
    """Return the seconds of one thread and of two."""
    seconds = {1: float("inf"), 2: float("inf")}
    for _ in range(rounds):
        for threads in seconds:
            with ThreadPoolExecutor(threads) as pool:
                began = time.perf_counter()
                for picture in pool.map(read_picture, [path] * PICTURES):
                    if picture.pixels.shape[:2] != SIZE:
                        raise RuntimeError(f"read {picture.pixels.shape}")
                seconds[threads] = min(seconds[threads], time.perf_counter() - began)
    return seconds[1], seconds[2]
