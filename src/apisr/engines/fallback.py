"""A device that fails in the middle of a run: the processor goes on, with a notice, and no picture is lost.

Lack of memory was met before (:mod:`apisr.engines.split`); what arrives here is a device that is lost, a driver that
crashed, or memory that does not even hold the smallest part.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from apisr.core.errors import RunError
from apisr.engines.base import Engine
from apisr.engines.pixels import Margins, run_inside, run_pixels
from apisr.image import ImageU8

T = TypeVar("T", np.float32, np.uint8)

_log = logging.getLogger(__name__)


class FallbackEngine:
    """An engine on a device, with another that takes over when it fails.

    Args:
        engine: runs the network as long as it can.
        open_other: opens the engine that takes over; called at most once.
    """

    #: Two engines never agree in the last bits: fixed tiles are used from the beginning.
    shape_exact = False

    def __init__(self, engine: Engine, open_other: Callable[[], Engine]) -> None:
        self.traits = engine.traits
        self._engine = engine
        self._open_other = open_other
        self._failed = False
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """What runs the network now."""
        return self._engine.name

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :meth:`apisr.engines.base.Engine.run`."""
        return self._tried(lambda engine: engine.run(batch))

    def run_pixels(self, pixels: ImageU8) -> ImageU8:
        """See :func:`apisr.engines.pixels.run_pixels`."""
        return self._tried(lambda engine: np.asarray(run_pixels(engine, pixels), np.uint8))

    def run_inside(self, batch: NDArray[np.float32], margins: Margins) -> NDArray[np.float32]:
        """See :func:`apisr.engines.pixels.run_inside`."""
        return self._tried(lambda engine: run_inside(engine, batch, margins))

    def run_pixels_inside(self, pixels: ImageU8, margins: Margins) -> ImageU8:
        """See :func:`apisr.engines.pixels.run_pixels`."""
        return self._tried(lambda engine: run_pixels(engine, pixels, margins))

    def _tried(self, work: Callable[[Engine], NDArray[T]]) -> NDArray[T]:
        engine = self._engine
        try:
            return work(engine)
        except RunError as error:
            with self._lock:
                if engine is self._engine:
                    self._take_over(error)
            return work(self._engine)

    def _take_over(self, error: RunError) -> None:
        if self._failed:
            raise error
        self._failed = True
        other = self._open_other()
        _log.warning("%s: %s goes on.", str(error).rstrip("."), other.name)
        self._engine = other
