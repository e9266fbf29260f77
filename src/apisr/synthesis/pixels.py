"""Layers of a scene: reduce, rotate, recolour and draw one over another.

A layer is float32 RGB ``(H, W, 3)`` or RGBA ``(H, W, 4)`` in [0, 1]; colours are not multiplied by alpha.

    >>> import numpy as np
    >>> reduce(np.ones((8, 8, 4), np.float32), 0.5).shape
    (4, 4, 4)
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

#: float32; the stubs of OpenCV do not say so of what they return.
Layer = NDArray[Any]


def vary_colours(picture: Layer, rng: Generator) -> Layer:
    """Shift hue, saturation, brightness and contrast, and mirror: one drawing serves as many."""
    picture = picture[:, ::-1] if rng.random() < 0.5 else picture
    colours = np.clip(picture[..., :3], 0, 1)
    if rng.random() < 0.6:
        hsv = cv2.cvtColor(np.ascontiguousarray(colours), cv2.COLOR_RGB2HSV)
        turn = rng.uniform(-180, 180) if rng.random() < 0.4 else rng.normal(0, 12)
        hsv[..., 0] = (hsv[..., 0] + turn) % 360
        hsv[..., 1] = np.clip(hsv[..., 1] * rng.uniform(0.3, 1.5), 0, 1)
        colours = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if rng.random() < 0.5:
        colours = np.clip(colours, 0, 1) ** np.float32(np.exp(rng.normal(0, 0.25))) * np.float32(rng.uniform(0.7, 1.1))
    result = picture.copy()
    result[..., :3] = np.clip(colours, 0, 1)
    return result


def reduce(picture: Layer, factor: float) -> Layer:
    """Reduce by area with colours weighted by alpha (no fringes); `factor` is at most 1."""
    if factor >= 1:
        return picture
    size = (max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor)))
    if picture.shape[2] == 3:
        return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    weighted = picture.copy()
    weighted[..., :3] *= picture[..., 3:]
    small = cv2.resize(weighted, size, interpolation=cv2.INTER_AREA)
    small[..., :3] /= np.maximum(small[..., 3:], 1e-4)
    return np.clip(small, 0, 1)


def rotate(picture: Layer, degrees: float) -> Layer:
    """Rotate an RGBA layer; the result is as large as it needs to be."""
    rows, columns = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D((columns / 2, rows / 2), degrees, 1.0)
    cos, sin = abs(matrix[0, 0]), abs(matrix[0, 1])
    size = (int(columns * cos + rows * sin) + 2, int(columns * sin + rows * cos) + 2)
    matrix[0, 2] += size[0] / 2 - columns / 2
    matrix[1, 2] += size[1] / 2 - rows / 2
    weighted = picture.copy()
    weighted[..., :3] *= picture[..., 3:]
    turned = np.clip(cv2.warpAffine(weighted, matrix, size, flags=cv2.INTER_CUBIC), 0, 1)
    turned[..., :3] = np.clip(turned[..., :3] / np.maximum(turned[..., 3:], 1e-4), 0, 1)
    return turned


def paste(scene: Layer, picture: Layer, rng: Generator) -> None:
    """Put a picture anywhere such that at least a third of it is inside where that is possible."""
    spots: list[int] = []
    for have, want in zip(scene.shape[:2], picture.shape[:2], strict=True):
        low, high = (have - want, 0) if want >= have else (-want // 3, have - 2 * want // 3)
        spots.append(int(rng.integers(low, max(low, high) + 1)))
    draw_over(scene, picture, spots[0], spots[1])


def draw_over(scene: Layer, picture: Layer, top: int, left: int) -> None:
    """Draw a layer over the scene, in place; what lies outside is cut off."""
    rows, columns = scene.shape[:2]
    y0, x0 = max(0, top), max(0, left)
    y1, x1 = min(rows, top + picture.shape[0]), min(columns, left + picture.shape[1])
    if y0 >= y1 or x0 >= x1:
        return
    part = picture[y0 - top : y1 - top, x0 - left : x1 - left]
    alpha = part[..., 3:] if part.shape[2] == 4 else np.float32(1)
    region = scene[y0:y1, x0:x1]
    region[...] = region * (1 - alpha) + part[..., :3] * alpha


def blend(scene: Layer, colour: Layer, alpha: Layer) -> None:
    """Blend one colour into the scene, in place; `alpha` is ``(H, W)``."""
    scene[...] = scene * (1 - alpha[..., None]) + colour * alpha[..., None]


def random_colour(rng: Generator, value_range: tuple[float, float] = (0.05, 1.0)) -> Layer:
    """A random RGB colour with its brightness in the range; saturation as drawn art has it."""
    hsv = np.array([[[rng.uniform(0, 360), rng.beta(1.4, 1.8), rng.uniform(*value_range)]]], np.float32)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0]


def fractal_noise(rng: Generator, height: int, width: int, *, roughness: float = 0.55) -> Layer:
    """Fractal value noise in [0, 1]: octaves of random grids, each finer one weaker by `roughness`."""
    total = np.zeros((height, width), np.float32)
    cells, weight = 3, 1.0
    while cells < max(height, width) / 2:
        grid = rng.random((max(2, cells * height // width), cells), dtype=np.float32)
        total += weight * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        cells, weight = cells * 2, weight * roughness
    return (total - total.min()) / max(1e-6, float(np.ptp(total)))
