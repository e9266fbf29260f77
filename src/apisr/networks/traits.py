"""How the output of a network relates to its input: what tiles, reuse and memory planning need to know.

>>> ModelTraits(2, halo_px=20).core_px(512)
512
>>> ModelTraits(2, halo_px=20, fixed_size=(128, 128)).core_px(512)
88
"""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Memory of one input pixel in a convolutional network, measured on the lite models with onnxruntime.
BYTES_PER_PX = 420


@dataclass(frozen=True)
class ModelTraits:
    """How a network relates output to input.

    Attributes:
        scale: output size over input size, a whole number.
        halo_px: how far, in input pixels, an output pixel looks: a tile with this margin gives the same values as the
            whole picture. None for networks that look at everything (then the picture is not cut).
        multiple_px: tile origins and sizes must be multiples of this (1 for plain convolutions, 2 after a pixel
            unshuffle by 2, the window for window attention).
        fixed_size: (height, width) of the only input that a file takes; smaller windows are filled up.
        bytes_per_px: memory that one pixel of a window costs in the network.
        rim_px: by how many pixels the picture must be continued on every side, so that its border comes out as its
            middle does (:mod:`apisr.weights.rim` measures it); None if that is not known.
    """

    scale: int
    halo_px: int | None
    multiple_px: int = 1
    fixed_size: tuple[int, int] | None = None
    bytes_per_px: int = BYTES_PER_PX
    rim_px: int | None = None

    def core_px(self, preferred_px: int) -> int:
        """Return the side of a tile's core nearest to the preferred one that fits a fixed input size with its halo."""
        if self.fixed_size is None:
            return preferred_px
        room = min(self.fixed_size) - 2 * self.aligned_halo_px
        return max(self.multiple_px, min(preferred_px, room // self.multiple_px * self.multiple_px))

    @property
    def aligned_halo_px(self) -> int:
        """The halo rounded up to the multiple; 0 where the picture is not cut."""
        return math.ceil((self.halo_px or 0) / self.multiple_px) * self.multiple_px
