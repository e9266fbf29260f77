"""What engines have in common that wrap another one and change what goes in or comes out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from apisr.engines.base import Engine
from apisr.engines.pixels import NO_MARGINS, Margins


class EngineWrapper:
    """An engine that wraps another; tiles, reuse and everything else work as with that one.

    Args:
        engine: the wrapped one, which runs the network.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.traits = engine.traits

    @property
    def shape_exact(self) -> bool:
        """As the wrapped engine."""
        return self.engine.shape_exact

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :meth:`apisr.engines.base.Engine.run`."""
        return self.run_inside(batch, NO_MARGINS)

    def run_inside(self, batch: NDArray[np.float32], margins: Margins) -> NDArray[np.float32]:
        """See :func:`apisr.engines.pixels.run_inside`; every wrapper has its own."""
        raise NotImplementedError
