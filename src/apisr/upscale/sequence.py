"""The frames of one video or animation, as arrays, one after the other: what did not change is not computed again.

Frames may also come out of order, or again: the result of a frame never depends on the frames before it, only the work
does.

    >>> import numpy as np
    >>> from apisr.upscale.baselines import NearestEngine
    >>> frames = FrameSequence(NearestEngine(2), size=SizeRequest(height=60))
    >>> picture = np.zeros((20, 30, 3), np.float32)
    >>> frames(picture).shape, frames(picture).shape, frames.stats.whole_frames
    ((60, 90, 3), (60, 90, 3), 1)
"""

from __future__ import annotations

import threading
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from apisr.core.errors import InputError
from apisr.engines import Engine
from apisr.image import from_float, resize, to_float
from apisr.upscale.options import Reuse
from apisr.upscale.results import ReuseStats
from apisr.upscale.reuse import CanvasUpscaler
from apisr.upscale.sizes import SizeRequest

Value = TypeVar("Value", np.uint8, np.uint16, np.float32)


class FrameSequence:
    """Upscales frames that are given one after the other; may be called from several threads.

    Args:
        engine: the network.
        size: of the outputs; by default the network's own.
        reuse: ``exact`` computes only what changed, with the same bits; ``off`` computes every frame whole.
    """

    def __init__(self, engine: Engine, *, size: SizeRequest | None = None, reuse: Reuse = "exact") -> None:
        self._canvas = CanvasUpscaler(engine, reuse=reuse)
        self._size = size or SizeRequest()
        self._scale = engine.traits.scale
        self._resized: tuple[object, object] = (None, None)
        self._lock = threading.Lock()

    @property
    def stats(self) -> ReuseStats:
        """What was computed so far, and what was not."""
        return self._canvas.stats

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) of the output for a frame; with a height asked for, the width is even."""
        columns, rows = self._size.of_video((width, height), (width * self._scale, height * self._scale))
        return rows, columns

    def __call__(self, frame: NDArray[Value]) -> NDArray[Value]:
        """Upscale the next frame.

        Args:
            frame: ``(H, W, 3)`` RGB, uint8, uint16 or float32 in [0, 1]. It is kept for the next call, so it must not
                be changed afterwards.

        Returns:
            The output with the dtype of the input; treat it as read-only, an unchanged frame gives the same array
            again. Floats are not clipped.

        Raises:
            InputError: another shape or dtype.
        """
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype.name not in ("uint8", "uint16", "float32"):
            raise InputError(
                f"expected a frame (height, width, 3) of uint8, uint16 or float32, got shape {frame.shape} of "
                f"{frame.dtype}.",
                code="bad-array",
            )
        with self._lock:
            output = cast("NDArray[Value]", self._canvas.process(cast("NDArray[np.uint8]", frame)))
            rows, columns = self.size_of(*frame.shape[:2])
            if output.shape[:2] == (rows, columns):
                return output
            if self._resized[0] is not output:  # an unchanged frame is the same object
                self._resized = (output, _resized(output, rows, columns))
            return cast("NDArray[Value]", self._resized[1])


def _resized(frame: NDArray[Value], height: int, width: int) -> NDArray[Value]:
    if frame.dtype == np.float32:
        return cast("NDArray[Value]", resize(cast("NDArray[np.float32]", frame), height, width))
    values = to_float(cast("NDArray[np.uint8]", frame))
    return cast("NDArray[Value]", from_float(resize(values, height, width), cast("np.dtype[np.uint8]", frame.dtype)))
