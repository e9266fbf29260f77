"""Colours cleaned along luma: what codecs leave beside outlines, and small networks leave too.

Videos and most JPEG files hold colour at half the size of luma. It bleeds across outlines, and blocks and ringing of
the codec stay in it as blotches. Luma is sharp there. Over a small window colour is nearly a linear function of luma,
so each pixel's colour is replaced by what the line through its window says of it: the guided filter of He, Sun and Tang
(ECCV 2010), with luma as the guide, read at the window's middle only. Colour that luma does not explain, such as a red
line on a green of the same brightness, lies far from that line and is kept. Luma is not changed.

Sums are taken over whole numbers and are therefore exact in any order: a pixel has the same bits whatever the window
that it is computed in.

>>> picture = np.full((9, 9, 3), (200, 90, 90), np.uint8)
>>> picture[4, 4] = (202, 90, 88)
>>> clean_colours(picture)[4, 4].tolist(), clean_colours(picture)[0, 0].tolist()
([200, 90, 90], [200, 90, 90])
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from apisr.image.convert import BT601_LUMA
from apisr.image.types import ImageU8

#: Windows reach this far from a pixel, in pixels.
REACH_PX = 3
#: Added to the variance of luma, in squared levels: where luma is flat, colour becomes its mean.
FLAT_VARIANCE = 8.0
#: A colour this many levels of Cb or Cr from the line is moved by half of that way; by nothing from 1.5 times as many.
KEPT_LEVELS = 8.0

_PIXELS = float((2 * REACH_PX + 1) ** 2)
#: Levels of Cb or Cr for one of red or blue less green, roughly.
_CHROMA_SHARE = 0.65
_RED, _GREEN, _BLUE = BT601_LUMA

Plane = NDArray[np.float32]


def clean_colours(pixels: ImageU8) -> ImageU8:
    """Clean the colours of a picture.

    Args:
        pixels: ``(H, W, 3)`` uint8.

    Returns:
        ``(H, W, 3)`` uint8.
    """
    red, green, blue = (pixels[..., channel].astype(np.float32) for channel in range(3))
    planes = _moved(red, green, blue)
    return np.stack([np.clip(plane + np.float32(0.5), 0, 255).astype(np.uint8) for plane in planes], axis=-1)


def clean_colours_float(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Do the same to ``(3, H, W)`` float32 in [0, 1]."""
    red, green, blue = (plane * np.float32(255) for plane in picture)
    return np.clip(np.stack(_moved(red, green, blue)) / np.float32(255), 0, 1)


def _moved(red: Plane, green: Plane, blue: Plane) -> list[Plane]:
    """The three planes, in levels, with their colours moved to the line of their windows."""
    luma = np.rint(np.float32(_RED) * red + np.float32(_GREEN) * green + np.float32(_BLUE) * blue)
    luma_sum, variance = _window_sum(luma), _window_sum(luma * luma)
    variance -= luma_sum * luma_sum / np.float32(_PIXELS)
    variance += np.float32(_PIXELS * FLAT_VARIANCE)
    height = luma - luma_sum / np.float32(_PIXELS)
    to_red, to_blue = (_way(plane - green, luma, luma_sum, variance, height) for plane in (red, blue))
    distance = np.maximum(np.abs(to_red), np.abs(to_blue)) * np.float32(_CHROMA_SHARE / KEPT_LEVELS)
    share = np.clip(np.float32(1.5) - distance, 0, 1)
    to_red *= share
    to_blue *= share
    down = np.float32(_RED) * to_red + np.float32(_BLUE) * to_blue  # keeps luma
    return [np.asarray(plane, np.float32) for plane in (red + to_red - down, green - down, blue + to_blue - down)]


def _way(colour: Plane, luma: Plane, luma_sum: Plane, variance: Plane, height: Plane) -> Plane:
    """How far a colour difference lies from the line through its window."""
    whole = np.rint(colour)
    colour_sum = _window_sum(whole)
    covariance = _window_sum(whole * luma) - luma_sum * colour_sum / np.float32(_PIXELS)
    line = colour_sum / np.float32(_PIXELS) + covariance / variance * height
    return np.asarray(line - colour, np.float32)


def _window_sum(values: Plane) -> Plane:
    """The sums over windows; of whole numbers below 2**24 they are exact."""
    side = 2 * REACH_PX + 1
    summed = cv2.boxFilter(values, -1, (side, side), normalize=False, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(summed, np.float32)
