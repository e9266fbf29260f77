"""Plain enlargement behind the same protocol as the networks: for comparison, and for testing what surrounds a network.

>>> import numpy as np
>>> NearestEngine(2).run(np.ones((1, 3, 2, 2), np.float32)).shape
(1, 3, 4, 4)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from apisr.engines import ModelTraits
from apisr.image import Resampling, from_tensor, resize, to_tensor


class NearestEngine:
    """Repeats pixels: every code value survives, which makes colour and time paths testable."""

    shape_exact = True

    def __init__(self, scale: int) -> None:
        self.name = "nearest"
        self.traits = ModelTraits(scale, halo_px=0)

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :meth:`apisr.engines.base.Engine.run`."""
        scale = self.traits.scale
        return batch.repeat(scale, axis=2).repeat(scale, axis=3)


class ResampleEngine:
    """Bicubic or Lanczos enlargement, the yardstick of every table."""

    shape_exact = False

    def __init__(self, scale: int, method: Resampling = "lanczos") -> None:
        self.name = method
        self.method: Resampling = method
        self.traits = ModelTraits(scale, halo_px=4)

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :meth:`apisr.engines.base.Engine.run`."""
        scale = self.traits.scale
        height, width = batch.shape[2] * scale, batch.shape[3] * scale
        pictures = [resize(from_tensor(picture[None]), height, width, method=self.method) for picture in batch]
        return np.concatenate([to_tensor(picture) for picture in pictures])
