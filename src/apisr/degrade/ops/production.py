"""What productions and transfers do to a drawing before a codec sees it.

    fade-lines    thin dark structures lose contrast: pale ink, aged film, light that spreads
    soften        optics and scaling: a Gaussian, wider in one direction than in the other
    sharpen       a transfer's sharpening: unsharp masking of luma that leaves halos, in both directions or along rows
    grain         film grain or paper: correlated noise, strongest in the middle tones, mostly in luma
    chroma-blur   colour at a lower bandwidth than luma, along rows more than along columns

All take and return float32 RGB in [0, 1] and draw nothing but the grain, whose generator is an argument.

    >>> import numpy as np
    >>> flat = np.full((16, 16, 3), 0.5, np.float32)
    >>> bool(np.allclose(fade_lines(flat, amount=0.5, radius_px=2.0), flat))
    True
"""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np

from apisr.image import BT601_LUMA, ImageF32

#: Weights of red, green and blue in luma (BT.601).
_LUMA = np.array(BT601_LUMA, np.float32)
#: Below this width, in pixels, grain is white noise.
_WHITE_PX = 0.2


def fade_lines(picture: ImageF32, *, amount: float, radius_px: float) -> ImageF32:
    """Move dark structures that are narrower than twice the radius towards their surroundings.

    Args:
        picture: ``(H, W, 3)`` float32 in [0, 1].
        amount: share of the contrast that is lost, 0 to 1.
        radius_px: half of the greatest width that counts as a line.
    """
    side = 2 * max(1, round(radius_px)) + 1
    window = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    closed = cv2.morphologyEx(picture, cv2.MORPH_CLOSE, window, borderType=cv2.BORDER_REFLECT_101)
    return cast("ImageF32", picture + np.float32(amount) * (closed - picture))


def soften(picture: ImageF32, *, sigma_px: tuple[float, float]) -> ImageF32:
    """Blur with a Gaussian of these widths, in pixels: along rows, along columns."""
    across, down = (max(value, 0.01) for value in sigma_px)
    blurred = cv2.GaussianBlur(picture, (0, 0), sigmaX=across, sigmaY=down, borderType=cv2.BORDER_REFLECT_101)
    return cast("ImageF32", blurred)


def sharpen(picture: ImageF32, *, radius_px: float, amount: float, rows_only: bool) -> ImageF32:
    """Add what luma has above its own blur: lines and edges get halos.

    Args:
        picture: ``(H, W, 3)`` float32 in [0, 1].
        radius_px: width of the blur.
        amount: how much is added; 1 doubles the finest detail.
        rows_only: sharpen along rows only, as analogue equipment does.
    """
    luma = _luma(picture)
    down = 0.01 if rows_only else radius_px
    soft = cv2.GaussianBlur(luma, (0, 0), sigmaX=radius_px, sigmaY=down, borderType=cv2.BORDER_REFLECT_101)
    return cast("ImageF32", np.clip(picture + (np.float32(amount) * (luma - soft))[..., None], 0, 1))


def grain(
    picture: ImageF32, *, sigma: float, size_px: float, colour: float, middle: float, generator: np.random.Generator
) -> ImageF32:
    """Add correlated noise.

    Args:
        picture: ``(H, W, 3)`` float32 in [0, 1].
        sigma: standard deviation in 8-bit levels, in the middle tones.
        size_px: width of the Gaussian that correlates neighbours; 0 is white noise.
        colour: standard deviation of the noise of each colour channel over that of luma.
        middle: 0: equal in all tones; 1: none in black and white.
        generator: source of the noise.
    """
    planes = generator.standard_normal((*picture.shape[:2], 4), dtype=np.float32)
    if size_px > _WHITE_PX:
        planes = np.asarray(cv2.GaussianBlur(planes, (0, 0), size_px, borderType=cv2.BORDER_REFLECT_101))
        planes /= max(float(planes.std()), 1e-6)
    noise = planes[..., :1] + np.float32(colour) * planes[..., 1:]
    luma = np.clip(_luma(picture), 0, 1)
    tone = np.float32(1 - middle) + np.float32(4 * middle) * luma * (1 - luma)
    return cast("ImageF32", np.clip(picture + np.float32(sigma / 255) * tone[..., None] * noise, 0, 1))


def chroma_blur(picture: ImageF32, *, sigma_px: tuple[float, float]) -> ImageF32:
    """Blur the colour differences (along rows, along columns) and leave luma as it is."""
    luma = _luma(picture)[..., None]
    colour = soften(picture - luma, sigma_px=sigma_px)
    colour = colour - _luma(colour)[..., None]
    return cast("ImageF32", np.clip(luma + colour, 0, 1))


def _luma(picture: ImageF32) -> ImageF32:
    return cast("ImageF32", picture @ _LUMA)
