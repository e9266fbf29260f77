"""What the rest of the upscaler needs to know of a network, whatever runs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class NetworkTraits:
    """How a network relates output to input.

    Attributes:
        scale: output size over input size, a whole number.
        halo_px: how far, in input pixels, an output pixel looks: a tile with this margin gives the same values as the
            whole picture. None for networks that look at everything (then the picture is not cut).
        multiple_px: tile origins and sizes must be multiples of this (1 for plain convolutions, 2 after a pixel
            unshuffle by 2, the window for window attention).
    """

    scale: int
    halo_px: int | None
    multiple_px: int = 1


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
