"""Line enhancement: library components against a breadth-first search in Python.

The same 1280x720 drawing is enhanced by `apisr.enhance` and by the method of the released reference implementation:
full 51x51 Gaussians, XDoG with its hyperbolic tangent, and outlier filter and passive dilation pixel by pixel in
Python. Both use one thread; times are processor time in milliseconds. The maps of both must agree in 99.9 % of the
pixels, or the suite fails.

Run: python -m benchmarks enhance --dry-run
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from apisr.enhance import GAMMA, enhance_steps, passively_dilated, unsharp_mask, without_outliers, xdog
from benchmarks.degrade import scene

Row = dict[str, object]


def run(*, quick: bool = False) -> list[Row]:
    """Measure; see the module's text."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        picture = scene(0)
        if quick:
            picture = np.ascontiguousarray(picture[:360, :640])
        reference_map, theirs = _spent(lambda: reference_method(picture))
        ours: list[float] = []
        for _ in range(5):
            steps, spent = _spent(lambda: enhance_steps(picture, preset="reference"))
            ours.append(spent)
        if (steps.map == reference_map).mean() < 0.999:
            raise RuntimeError("the maps of both methods differ in more than a thousandth of the pixels")
        values = picture.astype(np.float32) / 255
        gray = cv2.cvtColor(values, cv2.COLOR_RGB2GRAY)
        parts: dict[str, Callable[[], object]] = {
            "of ours: three rounds of sharpening": lambda: [unsharp_mask(values) for _ in range(3)],
            "of ours: XDoG": lambda: xdog(gray),
            "of ours: outlier filter and dilation": lambda: passively_dilated(without_outliers(steps.map_raw)),
        }
        size = f"{picture.shape[1]}x{picture.shape[0]}"
        rows = [_row(f"enhance, {size}", float(np.median(ours)), theirs)]
        for name, work in parts.items():
            rows.append(_row(name, float(np.median([_spent(work)[1] for _ in range(5)])), None))
        return rows
    finally:
        cv2.setNumThreads(threads)


def reference_method(picture: np.ndarray) -> np.ndarray:
    """Enhance as the reference implementation does; returns the line map."""
    values = picture.astype(np.float32) / 255
    sharp = values
    for _ in range(3):
        blurred = cv2.GaussianBlur(sharp, (51, 51), 0)
        residual = sharp - blurred
        mask = (np.abs(residual) * 255 > 10).astype("float32")
        soft = cv2.GaussianBlur(mask, (51, 51), 0)
        sharp = soft * np.clip(sharp + 0.5 * residual, 0, 1) + (1 - soft) * sharp
    gray = cv2.cvtColor(sharp, cv2.COLOR_RGB2GRAY)
    difference = cv2.GaussianBlur(gray, (0, 0), 0.6) - GAMMA * cv2.GaussianBlur(gray, (0, 0), 1.5)
    difference /= difference.max()
    level = 1 + np.tanh(1e9 * (difference + 15 / 255))
    level[level >= 1] = 1
    found = (1 - level).astype(np.uint8)
    return _dilated(_filtered(found))


def _filtered(found: np.ndarray) -> np.ndarray:
    height, width = found.shape
    seen = np.zeros((height, width), bool)
    kept = found.copy()
    for row in range(height):
        for column in range(width):
            if not found[row, column] or seen[row, column]:
                continue
            component = [(row, column)]
            queue = deque(component)
            seen[row, column] = True
            while queue:
                y, x = queue.popleft()
                for down in (-1, 0, 1):
                    for right in (-1, 0, 1):
                        ny, nx = y + down, x + right
                        if 0 <= ny < height and 0 <= nx < width and found[ny, nx] and not seen[ny, nx]:
                            seen[ny, nx] = True
                            queue.append((ny, nx))
                            component.append((ny, nx))
            if len(component) < 32:
                for y, x in component:
                    kept[y, x] = 0
    return kept


def _dilated(found: np.ndarray) -> np.ndarray:
    height, width = found.shape
    grown = found.copy()
    for row in range(height):
        for column in range(width):
            if found[row, column]:
                continue
            count = 0
            for down in (-1, 0, 1):
                for right in (-1, 0, 1):
                    y, x = row + down, column + right
                    if (down or right) and 0 <= y < height and 0 <= x < width:
                        count += found[y, x]
            if count >= 3:
                grown[row, column] = 1
    return grown


def _spent(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    result = work()
    return result, 1000 * (time.process_time() - start)


def _row(what: str, ours: float, theirs: float | None) -> Row:
    return {
        "what": what,
        "ours ms": ours,
        "reference's method ms": theirs,
        "times faster": None if theirs is None else theirs / ours,
    }
