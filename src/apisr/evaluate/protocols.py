"""What is measured and on what: two named protocols, written into every report.

``deterministic`` is ours: fixed frames, fixed crops, an 8-pixel border cut, so that the same command gives the same
numbers anywhere. ``paper`` follows the paper's section 4.2 as far as it says: no-reference metrics on whole pictures,
every frame, nothing cut. Where the paper is silent (which weights MANIQA used, and its crops: old releases of pyiqa
drew them at random) the numbers cannot be expected to match it to the last digit.

    >>> PROTOCOLS["deterministic"].border_px
    8
    >>> PROTOCOLS["deterministic"].crops_of("a", height=300, width=400)[0].height_px
    224
"""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

ProtocolName = Literal["deterministic", "paper"]


class Crop(BaseModel):
    """A rectangle of an output, in pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    top_px: int
    left_px: int
    height_px: int
    width_px: int

    def cut(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return this part of a picture ``(H, W, 3)``."""
        rows = slice(self.top_px, self.top_px + self.height_px)
        return np.ascontiguousarray(picture[rows, self.left_px : self.left_px + self.width_px])


class Protocol(BaseModel):
    """Everything that decides which pixels are scored.

    Attributes:
        name: ``deterministic`` or ``paper``.
        border_px: pixels cut at each side before a built-in metric looks.
        frame_step: of a clip, every frame whose number is a multiple of this is scored.
        crop_px: side of the square crops on which learned no-reference metrics run; None: whole pictures.
        crops: how many crops a picture.
        seed: chooses the crops and starts the generators of metrics that draw, and of the bootstrap.
        resamples: bootstrap resamples behind an interval.
        confidence: of the intervals.
        reference_metrics: computed by default where there is ground truth.
        blind_metrics: computed by default where there is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ProtocolName
    border_px: int = Field(ge=0)
    frame_step: int = Field(ge=1)
    crop_px: int | None = None
    crops: int = 0
    seed: int = 0
    resamples: int = Field(default=2000, ge=1, le=100_000)
    confidence: float = 0.95
    reference_metrics: tuple[str, ...]
    blind_metrics: tuple[str, ...]

    def crops_of(self, name: str, *, height: int, width: int) -> tuple[Crop, ...]:
        """Return the crops of a picture: the same for the same name, size and seed, whatever else is scored."""
        side = self.crop_px
        if side is None or min(height, width) < side or (height, width) == (side, side):
            return ()
        digest = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        tops = rng.integers(0, height - side + 1, self.crops)
        lefts = rng.integers(0, width - side + 1, self.crops)
        return tuple(
            Crop(top_px=int(top), left_px=int(left), height_px=side, width_px=side)
            for top, left in zip(tops, lefts, strict=True)
        )


PROTOCOLS: dict[ProtocolName, Protocol] = {
    "deterministic": Protocol(
        name="deterministic",
        border_px=8,
        frame_step=10,
        crop_px=224,
        crops=5,
        reference_metrics=(
            *("psnr", "psnr_y", "ssim", "ms_ssim", "niqe", "edge_f1", "line_width", "line_lost"),
            *("edge_spread", "noise_luma", "noise_chroma", "halo"),
        ),
        blind_metrics=("niqe",),
    ),
    "paper": Protocol(
        name="paper",
        border_px=0,
        frame_step=1,
        reference_metrics=("niqe", "maniqa-koniq", "maniqa-pipal", "clipiqa", "psnr", "ssim"),
        blind_metrics=("niqe", "maniqa-koniq", "maniqa-pipal", "clipiqa"),
    ),
}
