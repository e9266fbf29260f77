"""Between integers, floats, tensors and sizes.

>>> half_gray = np.full((2, 2, 1), 128, np.uint8)
>>> round(float(to_float(half_gray)[0, 0, 0]), 4)
0.502
>>> np.array_equal(from_float(to_float(half_gray), np.uint8), half_gray)
True
"""

from __future__ import annotations

from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from apisr.core.errors import InputError
from apisr.image.types import ImageF32, ImageInt, ImageU8

Resampling = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
#: What red, green and blue weigh in luma (ITU-R BT.601).
BT601_LUMA = (0.299, 0.587, 0.114)
T = TypeVar("T", bound=np.uint8 | np.uint16)

_LEAST, _MOST = -1.0, 2.0
_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def check_floats(values: ImageF32) -> None:
    """Check that floats can be a picture: finite, and in [0, 1] or, as filters make them, not far from it.

    Raises:
        InputError: they are another thing, as numbers to 255 are.
    """
    if values.size and not (values.min() >= _LEAST and values.max() <= _MOST):  # false for what is no number, too
        raise InputError(
            f"expected floats in [0, 1], got {values.min():g} to {values.max():g}. Divide them first, as by 255.",
            code="bad-array",
        )


def to_float(pixels: ImageInt) -> ImageF32:
    """Convert uint8 or uint16 values to float32 in [0, 1] (divided by 255 or 65535)."""
    return pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)


def from_float(values: ImageF32, dtype: type[T] | np.dtype[T]) -> NDArray[T]:
    """Convert float values in [0, 1] to uint8 or uint16, clipped and rounded half up."""
    peak = np.iinfo(dtype).max
    scaled = values * np.float32(peak)
    scaled += np.float32(0.5)
    return np.clip(scaled, 0, peak, out=scaled).astype(dtype)


def to_eight_bit(pixels: ImageInt) -> ImageU8:
    """Return the picture with 8 bits, rounded to the nearest level."""
    return np.asarray(pixels, np.uint8) if pixels.dtype == np.uint8 else from_float(to_float(pixels), np.uint8)


def to_tensor(values: ImageF32) -> ImageF32:
    """Arrange ``(H, W, 3)`` as ``(1, 3, H, W)``, contiguous."""
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None])


def from_tensor(tensor: ImageF32) -> ImageF32:
    """Arrange ``(1, 3, H, W)`` as ``(H, W, 3)``, contiguous."""
    return np.ascontiguousarray(tensor[0].transpose(1, 2, 0))


def over_white(values: ImageF32) -> ImageF32:
    """Lay a float picture with straight alpha over white; without alpha it is returned as it is.

    >>> over_white(np.array([[[0.2, 0.2, 0.2, 0.5]]], np.float32)).tolist() == [[[np.float32(0.6)] * 3]]
    True
    """
    if values.shape[2] not in (2, 4):
        return values
    alpha = values[..., -1:]
    return values[..., :-1] * alpha + (1 - alpha)


def straight_alpha(pixels: ImageInt) -> ImageInt:
    """Divide the colours of a picture by its alpha, which they were multiplied with (associated alpha).

    >>> straight_alpha(np.array([[[50, 100, 0, 128]]], np.uint8)).tolist()
    [[[100, 199, 0, 128]]]
    """
    alpha = pixels[..., -1:].astype(np.float64)
    peak = np.iinfo(pixels.dtype).max
    colours = np.floor(pixels[..., :-1] * (peak / np.maximum(alpha, 1)) + 0.5)
    straight = np.concatenate([np.clip(colours, 0, peak).astype(pixels.dtype), pixels[..., -1:]], axis=2)
    return np.ascontiguousarray(straight)


def upright(pixels: ImageInt, orientation: int) -> ImageInt:
    """Turn an array as its EXIF orientation (1 to 8) says; other numbers leave it as it is."""
    if is_turned(orientation):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1] if orientation in (4, 8) else pixels[::-1, ::-1]
    elif orientation in (2, 6):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def is_turned(orientation: int) -> bool:
    """Whether an EXIF orientation exchanges rows and columns."""
    return orientation in (5, 6, 7, 8)


def resize(values: ImageF32, height: int, width: int, *, method: Resampling = "lanczos") -> ImageF32:
    """Resample a float picture ``(H, W, C)``, with antialiasing when shrinking, without rounding or clipping.

    The kernels are Pillow's: bicubic with a = -0.5, Lanczos with three lobes.
    """
    if values.shape[:2] == (height, width):
        return values
    kernel = _RESAMPLING[method]
    planes = [
        np.asarray(Image.fromarray(np.ascontiguousarray(values[..., index])).resize((width, height), kernel))
        for index in range(values.shape[2])
    ]
    return np.stack(planes, axis=2).astype(np.float32, copy=False)
