"""What the rest of the upscaler needs to know of a network, whatever runs it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from apisr.weights import Model

#: Memory of one pixel of a window in a convolutional network, measured on the lite models with onnxruntime.
BYTES_PER_PX = 420
#: The same where it is far more, by (network, format of the file): onnxruntime keeps the scores of all windows.
BYTES_PER_PX_OF = {("grl", "onnx"): 23_000, ("grl", "torch"): 6_800}


@dataclass(frozen=True)
class NetworkTraits:
    """How a network relates output to input.

    Attributes:
        scale: output size over input size, a whole number.
        halo_px: how far, in input pixels, an output pixel looks: a tile with this margin gives the same values as the
            whole picture. None for networks that look at everything (then the picture is not cut).
        multiple_px: tile origins and sizes must be multiples of this (1 for plain convolutions, 2 after a pixel
            unshuffle by 2, the window for window attention).
        fixed_size: (height, width) of the only input that the network takes; smaller windows are filled up.
        bytes_per_px: memory that one pixel of a window costs in the network.
    """

    scale: int
    halo_px: int | None
    multiple_px: int = 1
    fixed_size: tuple[int, int] | None = None
    bytes_per_px: int = BYTES_PER_PX

    @classmethod
    def of(cls, model: Model) -> NetworkTraits:
        """What the file of a model says of its network."""
        memory = BYTES_PER_PX_OF.get((model.architecture, model.format), BYTES_PER_PX)
        return cls(model.scale, model.halo_px, model.multiple_px, model.fixed_size, memory)

    def core_px(self, wanted_px: int) -> int:
        """Return the side of a tile's core nearest to the wanted one that fits a fixed input size with its halo."""
        if self.fixed_size is None:
            return wanted_px
        room = min(self.fixed_size) - 2 * math.ceil((self.halo_px or 0) / self.multiple_px) * self.multiple_px
        return max(self.multiple_px, min(wanted_px, room // self.multiple_px * self.multiple_px))


class Engine(Protocol):
    """Runs one network.

    Attributes:
        name: what runs where, for people: ``"onnx (CPU)"``.
        traits: see :class:`NetworkTraits`.
        shape_exact: whether an output pixel has the same bits whatever the size of the batch's pictures. Decides
            between free rectangles and fixed tiles where results must be identical.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def traits(self) -> NetworkTraits: ...  # noqa: D102

    @property
    def shape_exact(self) -> bool: ...  # noqa: D102

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map ``(N, 3, H, W)`` in [0, 1] to ``(N, 3, scale*H, scale*W)``, not clipped.

        H and W are multiples of ``traits.multiple_px``.
        """
        ...
