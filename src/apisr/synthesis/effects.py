"""Effects of a scene: particles, glows, speed lines, printed dots, and blur out of focus."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

from apisr.synthesis.pixels import Layer, random_colour


def add_effects(scene: Layer, rng: Generator) -> Layer:
    """Particles, glows, light beams, speed lines, bloom: each now and then."""
    height, width = scene.shape[:2]
    if rng.random() < 0.14:
        layer = np.zeros_like(scene)
        colour = random_colour(rng, (0.5, 1)).tolist()
        for _ in range(int(rng.integers(20, 300))):
            spot = (int(rng.integers(width)), int(rng.integers(height)))
            cv2.circle(layer, spot, int(rng.integers(1, 7)), colour, -1, cv2.LINE_AA)
        scene = np.maximum(scene, layer) if rng.random() < 0.5 else scene + layer
        scene = scene + cv2.GaussianBlur(layer, (0, 0), float(rng.uniform(3, 12))) * rng.uniform(0.3, 1.2)
    if rng.random() < 0.1:
        spot = np.zeros((height, width), np.float32)
        cv2.circle(
            spot,
            (int(rng.integers(width)), int(rng.integers(height))),
            int(rng.integers(10, height // 3 + 11)),
            1.0,
            -1,
            cv2.LINE_AA,
        )
        glow = _fast_blur(spot, float(rng.uniform(8, 60)))[..., None]
        scene = scene + glow * random_colour(rng, (0.4, 1)) * rng.uniform(0.3, 1)
    if rng.random() < 0.06:
        draw_speed_lines(scene, rng)
    if rng.random() < 0.1:
        scene = scene + _fast_blur(np.clip(scene - 0.6, 0, 1), float(rng.uniform(6, 30))) * rng.uniform(0.3, 1)
    if rng.random() < 0.12:
        scene = scene * rng.uniform(0.25, 0.8)
    return np.clip(scene, 0, 1).astype(np.float32)


def draw_speed_lines(scene: Layer, rng: Generator) -> None:
    """Draw lines that run from the rim towards a point in the middle, in place."""
    height, width = scene.shape[:2]
    centre = (width * rng.uniform(0.3, 0.7), height * rng.uniform(0.3, 0.7))
    colour = [0.0] * 3 if rng.random() < 0.5 else [1.0] * 3
    for _ in range(int(rng.integers(30, 160))):
        angle, near = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.7) * width
        far = near + width
        start = (int(centre[0] + near * np.cos(angle)), int(centre[1] + near * np.sin(angle)))
        end = (int(centre[0] + far * np.cos(angle)), int(centre[1] + far * np.sin(angle)))
        cv2.line(scene, start, end, colour, int(rng.integers(1, 6)), cv2.LINE_AA)


def screentone(rng: Generator, height: int, width: int) -> Layer:
    """Printed dots, 1 = paper, as ``(height, width)``."""
    angle, period = np.pi / 4 if rng.random() < 0.7 else rng.uniform(0, np.pi), rng.uniform(4.5, 14)
    ys, xs = np.mgrid[:height, :width].astype(np.float32)
    u = (xs * np.cos(angle) + ys * np.sin(angle)) * np.float32(2 * np.pi / period)
    v = (ys * np.cos(angle) - xs * np.sin(angle)) * np.float32(2 * np.pi / period)
    level = float(rng.uniform(0.2, 1.4))
    if rng.random() < 0.3:
        level = level * (ys / height)
    return np.clip((np.cos(u) + np.cos(v) + level) * period / 6 + 0.5, 0, 1).astype(np.float32)


def defocus(scene: Layer, rng: Generator, radius_px: float) -> Layer:
    """Out of focus: a disc (highlights become discs) or a Gaussian."""
    if rng.random() < 0.5:
        return _fast_blur(scene, radius_px)
    side = 2 * int(np.ceil(radius_px)) + 1
    ys, xs = np.mgrid[:side, :side] - side // 2
    disc = np.clip(radius_px + 0.5 - np.hypot(xs, ys), 0, 1).astype(np.float32)
    linear = cv2.filter2D(np.clip(scene, 0, 1) ** 2.2, -1, disc / disc.sum())
    return np.clip(linear, 0, 1) ** np.float32(1 / 2.2)


def _fast_blur(values: Layer, sigma: float) -> Layer:
    """Gaussian blur; wide ones at a reduced size, where they are the same picture and many times cheaper."""
    factor = int(sigma // 4)
    if factor < 2:
        return cv2.GaussianBlur(values, (0, 0), max(sigma, 0.3))
    height, width = values.shape[:2]
    small = cv2.resize(values, (max(1, width // factor), max(1, height // factor)), interpolation=cv2.INTER_AREA)
    return cv2.resize(cv2.GaussianBlur(small, (0, 0), sigma / factor), (width, height), interpolation=cv2.INTER_CUBIC)
