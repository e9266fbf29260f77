"""Composed scenes: varied, seeded training pictures made of a small collection of art.

Characters stand over backgrounds in several sizes, with shadows, depth of field (a blurred background must stay
blurred), times of day, titles in many scripts, manga panels with screentone, particles and glows. Nothing is ever
enlarged: a composed picture is as sharp as its art.

A scene is a function of the assets and of one random generator, so a seed names a picture:

    >>> import numpy as np
    >>> compose(Assets.none(), np.random.default_rng(1), height=90, width=160).shape
    (90, 160, 3)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from apisr.synthesis.assets import Assets
from apisr.synthesis.backgrounds import background, painting, plain
from apisr.synthesis.effects import add_effects, defocus, draw_speed_lines, screentone
from apisr.synthesis.lettering import write_lines
from apisr.synthesis.pixels import Layer, draw_over, paste, reduce, rotate, vary_colours


def compose(assets: Assets, rng: Generator, *, height: int = 720, width: int = 1280) -> NDArray[np.uint8]:
    """Compose one scene.

    Args:
        assets: what to compose from.
        rng: the only source of randomness; equal states give equal scenes.
        height: of the scene, in pixels.
        width: of the scene, in pixels.

    Returns:
        uint8 RGB ``(height, width, 3)``.
    """
    kinds: tuple[Callable[..., Layer], ...] = (_story, _illustration, _collage, _manga, _credits)
    kind = kinds[int(rng.choice(len(kinds), p=(0.58, 0.12, 0.14, 0.09, 0.07)))]
    scene = np.clip(kind(assets, rng, height, width), 0, 1)
    if rng.random() < 0.06:
        scene = scene + rng.normal(0, rng.uniform(0.004, 0.02), scene.shape).astype(np.float32)
    return (np.clip(scene, 0, 1) * 255 + 0.5).astype(np.uint8)


def _story(assets: Assets, rng: Generator, height: int, width: int) -> Layer:
    """Characters over a background, as in a film or a visual novel."""
    scene = background(assets, rng, height, width)
    if rng.random() < 0.3:
        scene = defocus(scene, rng, rng.uniform(1.5, 9) * height / 720)
    light = np.ones(3, np.float32)
    if rng.random() < 0.35:
        light = rng.uniform(0.55, 1.1, 3).astype(np.float32)
        scene = scene * light
    for _ in range(int(rng.choice(4, p=(0.08, 0.4, 0.35, 0.17)))):
        sprite = assets.pick("sprites" if rng.random() < 0.85 else "vector", rng)
        if sprite is None:
            break
        sprite = vary_colours(sprite, rng)
        sprite[..., :3] *= light
        _place_character(scene, sprite, rng)
    scene = add_effects(scene, rng)
    if rng.random() < 0.3:
        write_lines(scene, assets, rng, lines=int(rng.integers(1, 3)))
    return scene


def _illustration(assets: Assets, rng: Generator, height: int, width: int) -> Layer:
    """One picture, alone and large: a finished drawing, or a close-up of a character on a plain ground."""
    picture = assets.pick("backgrounds" if rng.random() < 0.4 else "sprites", rng)
    if picture is None:
        return painting(rng, height, width)
    scene = plain(rng, height, width)
    scale = max(height / picture.shape[0], width / picture.shape[1])
    scale = min(1.0, scale * float(rng.uniform(1.0, 2.0)))
    paste(scene, reduce(vary_colours(picture, rng), scale), rng)
    return scene


def _collage(assets: Assets, rng: Generator, height: int, width: int) -> Layer:
    """Many vector drawings and sprites at any size and angle: edges of every direction and thickness."""
    scene = background(assets, rng, height, width) if rng.random() < 0.4 else plain(rng, height, width)
    for _ in range(int(rng.integers(4, 14))):
        picture = assets.pick("vector" if rng.random() < 0.75 else "sprites", rng)
        if picture is None:
            return painting(rng, height, width)
        size = float(np.exp(rng.uniform(np.log(60), np.log(700)))) * height / 720
        picture = reduce(vary_colours(picture, rng), min(1.0, size / max(picture.shape[:2])))
        if rng.random() < 0.4:
            picture = rotate(picture, float(rng.uniform(-180, 180)))
        paste(scene, picture, rng)
    if rng.random() < 0.3:
        write_lines(scene, assets, rng, lines=2)
    return scene


def _manga(assets: Assets, rng: Generator, height: int, width: int) -> Layer:
    """Black and white panels: line drawings, screentone, speed lines, hard black lettering."""
    scene = np.ones((height, width, 3), np.float32)
    columns = int(rng.integers(1, 4))
    edges = np.linspace(0, width, columns + 1).astype(int)
    for left, right in itertools.pairwise(edges):
        panel = scene[:, left + 4 : right - 4]
        if panel.shape[1] < 32:
            continue
        if rng.random() < 0.5:
            panel[...] = screentone(rng, height, panel.shape[1])[..., None]
        elif rng.random() < 0.4:
            draw_speed_lines(panel, rng)
        drawing = assets.pick("lineart" if rng.random() < 0.6 else "sprites", rng)
        if drawing is not None:
            gray = cv2.cvtColor(drawing[..., :3], cv2.COLOR_RGB2GRAY)
            if rng.random() < 0.4:
                tone = screentone(rng, *gray.shape)
                gray = np.where(gray < 0.75, np.minimum(gray * 1.4, tone), gray).astype(np.float32)
            drawing = np.dstack([gray, gray, gray, drawing[..., 3]])
            fit = max(panel.shape[0] / drawing.shape[0], panel.shape[1] / drawing.shape[1])
            paste(panel, reduce(drawing, min(1.0, fit * float(rng.uniform(0.7, 1.5)))), rng)
        cv2.rectangle(scene, (left + 4, 4), (right - 5, height - 5), (0, 0, 0), int(rng.integers(1, 5)))
    if rng.random() < 0.6:
        write_lines(scene, assets, rng, lines=int(rng.integers(1, 4)), bubble=True)
    if rng.random() < 0.3:
        scene = scene * rng.uniform(0.75, 1, 3).astype(np.float32)
    return scene


def _credits(assets: Assets, rng: Generator, height: int, width: int) -> Layer:
    """Titles, credits and text cards."""
    scene = background(assets, rng, height, width) if rng.random() < 0.4 else plain(rng, height, width)
    if rng.random() < 0.3:
        scene = defocus(scene, rng, rng.uniform(2, 8) * height / 720)
    write_lines(scene, assets, rng, lines=int(rng.integers(4, 14)))
    return add_effects(scene, rng) if rng.random() < 0.3 else scene


def _place_character(scene: Layer, sprite: Layer, rng: Generator) -> None:
    height, width = scene.shape[:2]
    requested = height * float(np.exp(rng.uniform(np.log(0.5), np.log(2.6))))
    sprite = reduce(sprite, min(1.0, requested / sprite.shape[0]))
    if rng.random() < 0.12:
        sprite = rotate(sprite, float(rng.uniform(-25, 25)))
    if rng.random() < 0.1:
        sprite = np.clip(cv2.GaussianBlur(sprite, (0, 0), float(rng.uniform(1, 5))), 0, 1)
    rows, columns = sprite.shape[:2]
    left = int(rng.integers(-columns // 3, max(width - 2 * columns // 3, 1 - columns // 3)))
    top = (
        height - rows + int(rng.integers(0, rows // 4 + 1))
        if rows < height
        else -int(rng.integers(0, max(1, (rows - height) // 2 + 1)))
    )
    if rng.random() < 0.3:
        shadow = np.zeros_like(sprite)
        shadow[..., 3] = cv2.GaussianBlur(sprite[..., 3], (0, 0), float(rng.uniform(2, 14))) * rng.uniform(0.2, 0.7)
        draw_over(scene, shadow, top + int(rng.integers(0, 16)), left + int(rng.integers(-20, 20)))
    draw_over(scene, sprite, top, left)
