"""Artifacts of discs and analogue video that old anime carries: rare in the recipe ``tv``, off in all others.

    dot crawl    the colour carrier left in the luma: a checker-like pattern along coloured edges
    rainbow      luma detail read as colour: slow colour bands over fine patterns
    interlacing  rows of two moments: combing where something moved, or vertical softness after a bad deinterlacer
    chroma shift colour displaced against luma
    halos        overshoot along vertical edges from analogue sharpening

All work in BT.601 luma and colour difference, on pictures in [0, 1].

    >>> import numpy as np
    >>> flat = np.full((16, 16, 3), 0.5, np.float32)
    >>> bool(np.allclose(artifact(flat, "halos", strength=1.0, generator=np.random.default_rng(0)), flat, atol=1e-5))
    True
"""

from __future__ import annotations

import math
from typing import Any, Literal, cast, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from apisr.core.errors import InputError
from apisr.image import BT601_LUMA, ImageF32

Kind = Literal["dot-crawl", "rainbow", "interlacing", "chroma-shift", "halos"]
KINDS: tuple[str, ...] = get_args(Kind)

#: Samples a cycle of the colour carrier at the sampling rate of discs (13.5 MHz / 3.58 MHz).
CARRIER_PERIOD_PX = 3.771


def artifact(picture: ImageF32, kind: Kind, *, strength: float, generator: np.random.Generator) -> ImageF32:
    """Apply one kind of artifact.

    Args:
        picture: ``(H, W, 3)`` float32 RGB in [0, 1].
        kind: one of :data:`KINDS`.
        strength: 0 (nothing visible) to 1 (a bad transfer).
        generator: source of phases and directions.

    Returns:
        A new array, float32 in [0, 1].

    Raises:
        InputError: the strength is out of range.
    """
    if not 0 <= strength <= 1:
        raise InputError(
            f"artifact strength {strength} is out of range. Give a value from 0 to 1.", code="out-of-range"
        )
    factor: Any = np.float32(strength)
    luma, red, blue = _split(picture)
    if kind == "dot-crawl":
        luma = luma + factor * np.float32(0.6) * _modulated(red, blue, generator)
    elif kind == "rainbow":
        red, blue = _rainbow(luma, red, blue, strength, generator)
    elif kind == "interlacing":
        luma, red, blue = _interlaced(luma, red, blue, strength, generator)
    elif kind == "chroma-shift":
        shift = (1 + 5 * strength * generator.random()) * (1 if generator.random() < 0.5 else -1)
        down = float(generator.uniform(-1, 1)) * strength
        matrix = np.array([[1, 0, shift * strength], [0, 1, down]], np.float64)
        red, blue = (_shifted(plane, matrix) for plane in (red, blue))
    elif kind == "halos":
        reach = float(generator.uniform(1.5, 3.5))
        soft = cast(
            "ImageF32", cv2.GaussianBlur(luma, (0, 0), sigmaX=reach, sigmaY=0.01, borderType=cv2.BORDER_REFLECT_101)
        )
        luma = luma + factor * np.float32(0.8) * (luma - soft)
    else:
        raise InputError(f"unknown artifact '{kind}'. Use one of {', '.join(KINDS)}.", code="out-of-range")
    return _joined(luma, red, blue)


def _split(picture: ImageF32) -> tuple[ImageF32, ImageF32, ImageF32]:
    luma = cast("ImageF32", cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))
    return luma, picture[..., 0] - luma, picture[..., 2] - luma


def _joined(luma: ImageF32, red: ImageF32, blue: ImageF32) -> ImageF32:
    of_red, of_green, of_blue = BT601_LUMA
    green = -(of_red * red + of_blue * blue) / of_green
    result = np.stack([luma + red, luma + green, luma + blue], axis=2).astype(np.float32, copy=False)
    return np.clip(result, 0, 1, out=result)


def _carrier(height: int, width: int, generator: np.random.Generator) -> tuple[ImageF32, ImageF32]:
    """Make the sine and cosine of a colour carrier whose phase turns by half a cycle from row to row."""
    phase = float(generator.uniform(0, 2 * math.pi))
    angle = 2 * math.pi / CARRIER_PERIOD_PX * np.arange(width)[None, :] + math.pi * np.arange(height)[:, None] + phase
    return np.sin(angle).astype(np.float32), np.cos(angle).astype(np.float32)


def _modulated(red: ImageF32, blue: ImageF32, generator: np.random.Generator) -> ImageF32:
    """Colour difference on its carrier, where a comb filter between rows cannot remove it (horizontal colour edges)."""
    sine, cosine = _carrier(red.shape[0], red.shape[1], generator)
    changes = [plane - np.roll(plane, 1, axis=0) for plane in (red, blue)]
    for change in changes:
        change[0] = 0
    wide = [
        cast("ImageF32", cv2.GaussianBlur(change, (0, 0), 1.2, borderType=cv2.BORDER_REFLECT_101)) for change in changes
    ]
    return cast("ImageF32", wide[0] * sine + wide[1] * cosine)


def _rainbow(
    luma: ImageF32, red: ImageF32, blue: ImageF32, strength: float, generator: np.random.Generator
) -> tuple[ImageF32, ImageF32]:
    """Demodulate fine luma detail as if it were colour."""
    sine, cosine = _carrier(luma.shape[0], luma.shape[1], generator)
    detail = luma - cast(
        "ImageF32", cv2.GaussianBlur(luma, (0, 0), sigmaX=1.5, sigmaY=0.01, borderType=cv2.BORDER_REFLECT_101)
    )
    found = [
        cast(
            "ImageF32",
            cv2.GaussianBlur(detail * wave, (0, 0), sigmaX=3.0, sigmaY=0.01, borderType=cv2.BORDER_REFLECT_101),
        )
        for wave in (sine, cosine)
    ]
    factor: Any = np.float32(2 * strength)
    return red + factor * found[0], blue + factor * found[1]


def _interlaced(
    luma: ImageF32, red: ImageF32, blue: ImageF32, strength: float, generator: np.random.Generator
) -> tuple[ImageF32, ImageF32, ImageF32]:
    """Take the second field from a moved picture (combing), or rebuild it from the first (lost rows)."""
    if generator.random() < 0.5:
        motion = float(generator.uniform(2, 8)) * strength * (1 if generator.random() < 0.5 else -1)
        matrix = np.array([[1, 0, motion], [0, 1, 0]], np.float64)
        moved = [_shifted(plane, matrix) for plane in (luma, red, blue)]
        # Only a part of the picture moves: a soft-edged window.
        height, width = luma.shape
        middle, reach = generator.uniform(0, width), width * generator.uniform(0.15, 0.5)
        window = np.exp(-0.5 * ((np.arange(width) - middle) / reach) ** 4).astype(np.float32)[None, :]
        odd = slice(1, height, 2)
        planes = [plane.copy() for plane in (luma, red, blue)]
        for plane, other in zip(planes, moved, strict=True):
            plane[odd] += window * (other[odd] - plane[odd])
        return planes[0], planes[1], planes[2]
    kernel = np.array([[0.25], [0.5], [0.25]], np.float32) * strength + np.array([[0], [1], [0]], np.float32) * (
        1 - strength
    )
    planes = [
        cast("ImageF32", cv2.filter2D(plane, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT_101))
        for plane in (luma, red, blue)
    ]
    return planes[0], planes[1], planes[2]


def _shifted(plane: ImageF32, matrix: NDArray[Any]) -> ImageF32:
    size = (plane.shape[1], plane.shape[0])
    return cast(
        "ImageF32", cv2.warpAffine(plane, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    )
