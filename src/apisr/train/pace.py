"""How fast a run is, how long it still takes, and how much memory it holds."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Generator, Mapping

import torch

from apisr.train.data.loader import Loader
from apisr.train.run_log import clock

#: Longest time without a word, in seconds; the first ones come sooner.
_LIVE_EVERY_S = 10.0


class Pace:
    """How fast the run is, and when it last reported.

    Args:
        step: where the run stands.
        loader: knows how long the loop waited for batches.
    """

    def __init__(self, step: int, loader: Loader) -> None:
        self._loader = loader
        self._first = self._window = step
        self._began = self._window_began = self._spoke = time.monotonic()
        self._waited_s = 0.0
        self._silence_s = 0.5

    def seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self._began

    def left_s(self, steps: int, step: int) -> float:
        """Until the last step, at the mean speed so far."""
        return (steps - step) * self.seconds() / max(1, step - self._first)

    def is_silent(self) -> bool:
        """Whether it is time for a word between two records: soon at the start, then ever more rarely."""
        if time.monotonic() - self._spoke < self._silence_s:
            return False
        self._silence_s = min(_LIVE_EVERY_S, 2 * self._silence_s)
        self._spoke = time.monotonic()
        return True

    def message(self, steps: int, step: int, losses: Mapping[str, float]) -> str:
        """The word between two records."""
        left = self.left_s(steps, step)
        speed = (step - self._window) / max(1e-9, time.monotonic() - self._window_began)
        return f"{speed:.2f} it/s  left {clock(left)}  total {losses['total']:.4g}"

    def next_window(self, step: int) -> tuple[float, float]:
        """Steps a second since the last call, and the share of that time in which the loop waited for batches."""
        now = time.monotonic()
        seconds = max(1e-9, now - self._window_began)
        result = (step - self._window) / seconds, (self._loader.wait_s - self._waited_s) / seconds
        self._window_began, self._window, self._waited_s, self._spoke = now, step, self._loader.wait_s, now
        return result

    @contextlib.contextmanager
    def paused(self) -> Generator[None]:
        """Leave the time of the block out of the speed."""
        began = time.monotonic()
        yield
        self._window_began += time.monotonic() - began


def memory_mib(device: torch.device) -> float:
    """The most memory that this process held: on a GPU that of the GPU; 0 where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "win32":
        return 0.0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
