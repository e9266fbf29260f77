"""Backgrounds of a scene: from the assets, or drawn by the program.

Painted backgrounds (landscapes, leaves, interiors, brush strokes) have the texture that a small collection of art
lacks.

    >>> import numpy as np
    >>> painting(np.random.default_rng(0), 36, 64).shape
    (36, 64, 3)
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

from apisr.synthesis.assets import Assets
from apisr.synthesis.effects import screentone
from apisr.synthesis.pixels import Layer, fractal_noise, random_colour, reduce, vary_colours


def background(assets: Assets, rng: Generator, height: int, width: int) -> Layer:
    """One of the assets at a random place, reduced at will; or a painted or plain background."""
    picture = assets.pick("backgrounds", rng) if rng.random() < 0.62 else None
    if picture is None:
        return painting(rng, height, width) if rng.random() < 0.85 else plain(rng, height, width)
    picture = vary_colours(picture, rng)
    least = max(height / picture.shape[0], width / picture.shape[1])
    scaled = reduce(
        picture[..., :3], float(rng.uniform(min(least, 1.0), 1.0)) if rng.random() < 0.7 else min(least, 1.0)
    )
    short = (max(0, height - scaled.shape[0]), max(0, width - scaled.shape[1]))
    if any(short):
        scaled = cv2.copyMakeBorder(scaled, 0, short[0], 0, short[1], cv2.BORDER_REFLECT_101)
    top, left = (
        int(rng.integers(have - want + 1)) for have, want in zip(scaled.shape[:2], (height, width), strict=True)
    )
    scene = scaled[top : top + height, left : left + width].copy()
    return np.ascontiguousarray(scene[:, ::-1]) if rng.random() < 0.5 else scene


def painting(rng: Generator, height: int, width: int) -> Layer:
    """A background drawn by the program."""
    kinds = (_landscape, _leaves, _interior, _strokes)
    return kinds[int(rng.choice(4, p=(0.35, 0.2, 0.3, 0.15)))](rng, height, width)


def plain(rng: Generator, height: int, width: int) -> Layer:
    """A flat colour, a gradient, stripes, checks, dots, or screentone in colour."""
    choice = rng.random()
    if choice < 0.25:
        scene = np.empty((height, width, 3), np.float32)
        scene[...] = random_colour(rng)
        return scene
    if choice < 0.6:
        return _gradient(rng, height, width)
    first, second = random_colour(rng), random_colour(rng)
    if choice < 0.75:
        tone = screentone(rng, height, width)
    else:
        angle, period = rng.uniform(0, np.pi), rng.uniform(6, 90)
        ys, xs = np.mgrid[:height, :width].astype(np.float32)
        wave = np.sin((xs * np.cos(angle) + ys * np.sin(angle)) * np.float32(2 * np.pi / period))
        if rng.random() < 0.4:
            wave = wave * np.sin((xs * -np.sin(angle) + ys * np.cos(angle)) * np.float32(2 * np.pi / period))
        tone = np.clip(wave * period / 5 + 0.5, 0, 1)
    return (first * tone[..., None] + second * (1 - tone[..., None])).astype(np.float32)


def _landscape(rng: Generator, height: int, width: int) -> Layer:
    scene = _gradient(rng, height, width, sky=True)
    clouds = np.clip((fractal_noise(rng, height, width) - rng.uniform(0.45, 0.6)) * rng.uniform(3, 14), 0, 1)[..., None]
    scene = scene * (1 - clouds) + clouds * (1 - 0.25 * fractal_noise(rng, height, width)[..., None])
    horizon = int(height * rng.uniform(0.35, 0.8))
    for layer in range(int(rng.integers(1, 4))):
        base = horizon + layer * height // 12
        profile = fractal_noise(rng, 8, width)[4] * rng.uniform(0.1, 0.35) * height
        mask = (np.arange(height)[:, None] > base - profile[None, :]).astype(np.uint8) * 255
        smooth = cv2.GaussianBlur(mask, (0, 0), 0.6).astype(np.float32)[..., None] / 255
        colour = random_colour(rng, (0.15, 0.75))
        texture = 0.7 + 0.6 * fractal_noise(rng, height, width, roughness=float(rng.uniform(0.5, 0.85)))[..., None]
        scene = scene * (1 - smooth) + np.clip(colour * texture, 0, 1) * smooth
    if rng.random() < 0.6:
        scene = _scatter(scene, rng, top=horizon - height // 6, count=int(rng.integers(200, 2500)))
    if rng.random() < 0.4:
        for _ in range(int(rng.integers(1, 6))):
            x, thick = int(rng.integers(width)), int(rng.integers(1, 10))
            cv2.line(
                scene,
                (x, int(horizon * rng.uniform(0, 0.7))),
                (x + int(rng.integers(-9, 9)), height),
                random_colour(rng, (0, 0.4)).tolist(),
                thick,
                cv2.LINE_AA,
            )
    return scene.astype(np.float32)


def _leaves(rng: Generator, height: int, width: int) -> Layer:
    """Dead leaves: overlapping shapes of power-law sizes have the statistics of natural pictures."""
    scene = np.empty((height, width, 3), np.float32)
    scene[...] = random_colour(rng)
    palette = [random_colour(rng) for _ in range(int(rng.integers(3, 9)))]
    outline = rng.random() < 0.4
    for _ in range(int(rng.integers(400, 1200))):
        radius = min(height / 3, 4 / (1 - rng.random() * 0.985))
        colour = np.clip(palette[int(rng.integers(len(palette)))] + rng.normal(0, 0.06, 3), 0, 1).tolist()
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        if rng.random() < 0.5:
            axes = (max(1, int(radius)), max(1, int(radius * rng.uniform(0.2, 1))))
            angle = float(rng.uniform(0, 180))
            cv2.ellipse(scene, centre, axes, angle, 0, 360, colour, -1, cv2.LINE_AA)
            if outline:
                cv2.ellipse(
                    scene, centre, axes, angle, 0, 360, (0.05, 0.05, 0.08), max(1, int(radius / 25)), cv2.LINE_AA
                )
        else:
            corners = int(rng.integers(3, 7))
            angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
            points = np.stack([centre[0] + radius * np.cos(angles), centre[1] + radius * np.sin(angles)], 1)
            cv2.fillPoly(scene, [(points * 16).astype(np.int32)], colour, cv2.LINE_AA, 4)
    if rng.random() < 0.5:
        scene *= 0.8 + 0.4 * fractal_noise(rng, height, width, roughness=0.7)[..., None]
    return np.clip(scene, 0, 1)


def _interior(rng: Generator, height: int, width: int) -> Layer:
    """A room or street in one-point perspective: walls with windows and boards, floor and ceiling with grids."""
    scene = np.empty((height, width, 3), np.float32)
    centre = np.array([width * rng.uniform(0.25, 0.75), height * rng.uniform(0.3, 0.65)])
    ratio = rng.uniform(0.12, 0.5)
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], float)
    back = centre + (corners - centre) * ratio
    faces = [[corners[i], corners[(i + 1) % 4], back[(i + 1) % 4], back[i]] for i in range(4)]
    faces.append(list(back))
    tone = random_colour(rng)
    for face in faces:
        columns, rows = int(rng.integers(256, 900)), int(rng.integers(256, 700))
        wall = _wall(rng, rows, columns, np.clip(tone + rng.normal(0, 0.13, 3), 0.05, 1).astype(np.float32))
        source = np.array([[0, 0], [columns, 0], [columns, rows], [0, rows]], np.float32)
        matrix = cv2.getPerspectiveTransform(source, np.array(face, np.float32))
        # Drawn at twice the size and reduced by area: perspective without jagged lines.
        big = np.diag([2.0, 2.0, 1.0]) @ matrix
        warped = cv2.warpPerspective(
            wall, big, (2 * width, 2 * height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )
        mask = np.zeros((2 * height, 2 * width), np.float32)
        cv2.fillConvexPoly(mask, (np.array(face) * 2).astype(np.int32), 1.0)
        warped = cv2.resize(warped, (width, height), interpolation=cv2.INTER_AREA)
        cover = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)[..., None]
        scene = scene * (1 - cover) + warped * cover if face is not faces[0] else warped
    distance = (
        np.hypot(*(np.mgrid[:height, :width].astype(np.float32)[::-1] - centre[:, None, None].astype(np.float32)))
        / width
    )
    return np.clip(scene * (1.05 - rng.uniform(0, 0.5) * distance[..., None]), 0, 1).astype(np.float32)


def _wall(rng: Generator, rows: int, columns: int, colour: Layer) -> Layer:
    wall = np.empty((rows, columns, 3), np.float32)
    wall[...] = colour * (
        0.85 + 0.3 * fractal_noise(rng, rows, columns, roughness=float(rng.uniform(0.4, 0.8)))[..., None]
    )
    if rng.random() < 0.6:
        step_x, step_y = int(rng.integers(12, 160)), int(rng.integers(12, 160))
        dark = (colour * rng.uniform(0.2, 0.8)).tolist()
        thick = int(rng.integers(1, 5))
        for x in range(0, columns, step_x):
            cv2.line(wall, (x, 0), (x, rows), dark, thick, cv2.LINE_AA)
        for y in range(0, rows, step_y):
            cv2.line(wall, (0, y), (columns, y), dark, thick, cv2.LINE_AA)
    for _ in range(int(rng.integers(0, 14))):
        x, y = int(rng.integers(columns)), int(rng.integers(rows))
        w, h = int(rng.integers(10, max(11, columns // 4))), int(rng.integers(10, max(11, rows // 3)))
        cv2.rectangle(wall, (x, y), (x + w, y + h), random_colour(rng).tolist(), -1)
        cv2.rectangle(
            wall, (x, y), (x + w, y + h), random_colour(rng, (0, 0.5)).tolist(), int(rng.integers(1, 6)), cv2.LINE_AA
        )
        if rng.random() < 0.5:
            cv2.line(
                wall,
                (x + w // 2, y),
                (x + w // 2, y + h),
                random_colour(rng, (0, 0.9)).tolist(),
                int(rng.integers(1, 4)),
            )
    return np.clip(wall, 0, 1)


def _strokes(rng: Generator, height: int, width: int) -> Layer:
    """Brush strokes that follow a smooth direction field."""
    scene = _gradient(rng, height, width)
    direction = fractal_noise(rng, height, width, roughness=0.3) * rng.uniform(2, 9)
    palette = fractal_noise(rng, height, width, roughness=0.4)
    colours = np.stack([random_colour(rng) for _ in range(6)])
    for _ in range(int(rng.integers(1500, 6000))):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        length, angle = rng.uniform(4, 50), direction[y, x]
        end = (int(x + length * np.cos(angle)), int(y + length * np.sin(angle)))
        colour = np.clip(colours[int(palette[y, x] * 5.99)] + rng.normal(0, 0.05, 3), 0, 1).tolist()
        cv2.line(scene, (x, y), end, colour, int(rng.integers(1, 9)), cv2.LINE_AA)
    return scene


def _gradient(rng: Generator, height: int, width: int, *, sky: bool = False) -> Layer:
    ys, xs = np.mgrid[:height, :width].astype(np.float32)
    angle = np.pi / 2 if sky else rng.uniform(0, 2 * np.pi)
    ramp = xs / width * np.cos(angle) + ys / height * np.sin(angle)
    if not sky and rng.random() < 0.3:
        ramp = np.hypot(xs / width - rng.uniform(0, 1), ys / height - rng.uniform(0, 1))
    ramp = ((ramp - ramp.min()) / max(1e-6, float(np.ptp(ramp))))[..., None]
    first, second = random_colour(rng), random_colour(rng)
    if sky:
        first = np.array([rng.uniform(0.05, 0.5), rng.uniform(0.2, 0.6), rng.uniform(0.55, 1)], np.float32)
    return (first * (1 - ramp) + second * ramp).astype(np.float32)


def _scatter(scene: Layer, rng: Generator, *, top: int, count: int) -> Layer:
    """Leaves or blades of grass in clusters."""
    height, width = scene.shape[:2]
    clusters = [
        (rng.uniform(0, width), rng.uniform(max(0, top), height), random_colour(rng, (0.1, 0.8))) for _ in range(9)
    ]
    for _ in range(count):
        x, y, colour = clusters[int(rng.integers(len(clusters)))]
        spot = (int(x + rng.normal(0, width / 9)), int(y + rng.normal(0, height / 10)))
        shade = np.clip(colour * rng.uniform(0.5, 1.35), 0, 1).tolist()
        axes = (int(rng.integers(1, 10)), int(rng.integers(1, 5)))
        cv2.ellipse(scene, spot, axes, float(rng.uniform(0, 180)), 0, 360, shade, -1, cv2.LINE_AA)
    return scene
