"""Cutting crops: low picture, high picture and what else belongs to them are cut, flipped and turned together.

A crop is a dict of contiguous uint8 tensors: ``lr`` ``(3, p/scale, p/scale)`` and, of the size ``(3, p, p)``, ``gt``
and whatever else is given at high resolution (``pseudo``, ``teacher``). ``bilinear_error`` is a number of its picture.

    >>> import numpy as np
    >>> parts = {"lr": np.zeros((8, 8, 3), np.uint8), "gt": np.zeros((16, 16, 3), np.uint8)}
    >>> crop = cut(parts, CropOptions(scale=2, patch_px=8), np.random.default_rng(0))
    >>> crop["lr"].shape, crop["gt"].shape
    (torch.Size([3, 4, 4]), torch.Size([3, 8, 8]))
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from apisr.core.errors import InputError
from apisr.core.text import counted, lines_by_kind
from apisr.image import ImageU8
from apisr.image.chroma import REACH_PX, clean_colours
from apisr.train.config import DataConfig, Enhance

#: First number of the random stream of crops, after the seed.
CROPS_STREAM = 11


@dataclass(frozen=True)
class CropOptions:
    """How crops are cut.

    Attributes:
        scale: high over low resolution.
        patch_px: side of a high-resolution crop.
        crops_per_picture: crops cut from each picture.
        enhance: preset of the pseudo-GT; ``none`` gives none.
        flips: mirror with probability 1/2 each way and turn by 90 degrees with probability 1/2.
        detail_bias: probability that two places are drawn and the more detailed one is taken. Drawn pictures are mostly
            flat: half of all crops at random places teach next to nothing.
        cleans_colours: the colours of low crops are cleaned (:mod:`apisr.image.chroma`), as the network will have them.
        flat_share: probability that a crop becomes one flat colour, every other time with channels at their ends. They
            teach a network to forget the zeros around a picture within fewer pixels (:mod:`apisr.weights.rim`).
        channel_shuffle: probability that the colour channels are permuted: colours that the pictures lack, lines as
            before.
        seed: of everything random.
        cache: folder that keeps pseudo-GTs; None computes them each time.
    """

    scale: int
    patch_px: int = 256
    crops_per_picture: int = 8
    enhance: Enhance = "none"
    flips: bool = True
    detail_bias: float = 0.0
    cleans_colours: bool = False
    flat_share: float = 0.0
    channel_shuffle: float = 0.0
    seed: int = 0
    cache: Path | None = None

    def __post_init__(self) -> None:
        """Check that a crop covers whole pixels of the low picture."""
        if self.patch_px % self.scale:
            raise InputError(
                f"a crop of {self.patch_px} pixels is not a multiple of the scale {self.scale}.", code="bad-crop-size"
            )

    @classmethod
    def of(cls, config: DataConfig, *, scale: int, seed: int, cleans_colours: bool = False) -> CropOptions:
        """Take the other options from the section ``[data]`` of a configuration."""
        return cls(
            scale=scale,
            cleans_colours=cleans_colours,
            patch_px=config.patch_px,
            crops_per_picture=config.crops_per_picture,
            enhance=config.enhance,
            flips=config.flips,
            detail_bias=config.detail_bias,
            flat_share=config.flat_share,
            channel_shuffle=config.channel_shuffle,
            seed=seed,
            cache=config.cache,
        )


def cut(parts: Mapping[str, ImageU8], options: CropOptions, rng: np.random.Generator) -> dict[str, Tensor]:
    """Cut one aligned crop at a place of the low-resolution grid; flip, turn and shuffle channels of all parts alike.

    Args:
        parts: ``lr`` ``(h, w, 3)`` and others of ``(scale*h, scale*w, 3)``, ``gt`` among them, all uint8.
        options: how.
        rng: source of the place and all choices.

    Returns:
        Contiguous uint8 tensors under the same names.
    """
    low, high = parts["lr"], parts["gt"]
    scale, patch_px = options.scale, options.patch_px
    side = patch_px // scale
    top, left = _place(low, side, rng)
    if options.detail_bias and rng.random() < options.detail_bias:
        other = _place(low, side, rng)
        first, second = (_detail(high[y * scale :, x * scale :][:patch_px, :patch_px]) for y, x in ((top, left), other))
        top, left = other if second > first else (top, left)
    crops: dict[str, ImageU8] = {}
    for name, picture in parts.items():
        factor = 1 if name == "lr" else scale
        crops[name] = picture[top * factor : (top + side) * factor, left * factor : (left + side) * factor]
    if options.cleans_colours:
        above, before = min(top, REACH_PX), min(left, REACH_PX)
        seen = low[top - above : top + side + REACH_PX, left - before : left + side + REACH_PX]
        crops["lr"] = clean_colours(np.asarray(seen))[above : above + side, before : before + side]
    if options.flips:
        mirror, upside, turn = (bool(value) for value in rng.random(3) < 0.5)
        for name, part in crops.items():
            part = part[:, ::-1] if mirror else part
            part = part[::-1] if upside else part
            crops[name] = np.rot90(part) if turn else part
    if options.channel_shuffle and rng.random() < options.channel_shuffle:
        order = rng.permutation(3)
        crops = {name: part[..., order] for name, part in crops.items()}
    return {name: torch.from_numpy(np.ascontiguousarray(part.transpose(2, 0, 1))) for name, part in crops.items()}


def cut_all(
    parts: Mapping[str, ImageU8], options: CropOptions, rng: np.random.Generator, *, bilinear_error: float
) -> list[dict[str, Tensor]]:
    """Cut all crops of a picture, each with the error of its picture; arguments as of :func:`cut`."""
    crops: list[dict[str, Tensor]] = []
    for _ in range(options.crops_per_picture):
        flat = bool(options.flat_share) and rng.random() < options.flat_share
        crop = _flat(parts, options, rng) if flat else cut(parts, options, rng)
        crops.append({**crop, "bilinear_error": torch.tensor(0.0 if flat else bilinear_error)})
    return crops


def _flat(parts: Mapping[str, ImageU8], options: CropOptions, rng: np.random.Generator) -> dict[str, Tensor]:
    colour = rng.choice((0, 255), 3) if rng.random() < 0.5 else rng.integers(0, 256, 3)
    sides = {name: options.patch_px // (options.scale if name == "lr" else 1) for name in parts}
    filled = torch.from_numpy(colour.astype(np.uint8))[:, None, None]
    return {name: filled.expand(3, side, side).contiguous() for name, side in sides.items()}


def bilinear_error(low: ImageU8, high: ImageU8) -> float:
    """The mean squared error of the bilinear enlargement of `low` against `high`, in squares of [0, 1]."""
    enlarged = cv2.resize(low, (high.shape[1], high.shape[0]), interpolation=cv2.INTER_LINEAR)
    return cv2.norm(enlarged, high, cv2.NORM_L2SQR) / high.size / 255**2


def whole_pixels(picture: ImageU8, scale: int) -> ImageU8:
    """Cut up to ``scale - 1`` rows and columns off, so that the low picture's grid covers the high one's exactly."""
    height, width = (side - side % scale for side in picture.shape[:2])
    return picture[:height, :width]


def check_large_enough(pictures: Iterable[tuple[str, tuple[int, int]]], patch_px: int) -> None:
    """Refuse pictures, given as names and (height, width), that are smaller than a crop.

    Raises:
        InputError: with code ``"picture-too-small"``; all of them are named.
    """
    small = [(name, f"{width}x{height}") for name, (height, width) in pictures if min(height, width) < patch_px]
    if small:
        sizes = lines_by_kind((name, (size,)) for name, size in small)
        raise InputError(
            f"{counted(len(small), 'picture is', 'pictures are')} smaller than a crop of {patch_px} pixels "
            f"({'; '.join(sizes)}). Leave out what is too small, or set data.patch_px lower.",
            code="picture-too-small",
        )


def _place(low: ImageU8, side: int, rng: np.random.Generator) -> tuple[int, int]:
    return int(rng.integers(low.shape[0] - side + 1)), int(rng.integers(low.shape[1] - side + 1))


def _detail(crop: ImageU8) -> float:
    """Mean difference between neighbours three pixels apart, over both directions."""
    sparse = crop[::3, ::3].astype(np.int16)
    return sum(float(np.abs(np.diff(sparse, axis=axis)).mean()) for axis in (0, 1))
