"""The running mean of a network's weights.

``mean = decay*mean + (1 - decay)*weights`` after every step, with a shorter memory at the start
(``(1 + n)/(10 + n)`` where that is less than `decay`), so that the first weights are forgotten.
"""

from __future__ import annotations

import copy

import torch
from torch import nn


class Ema:
    """A copy of `module` that follows it.

    Args:
        module: the network being trained (unwrapped).
        decay: 0 makes the copy equal to the network after each update.
    """

    def __init__(self, module: nn.Module, *, decay: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take in the weights of `module`; buffers (tables, running statistics) are copied."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for mean, value in zip(self.module.parameters(), module.parameters(), strict=True):
            mean.lerp_(value.detach(), 1.0 - decay)
        for kept, value in zip(self.module.buffers(), module.buffers(), strict=True):
            kept.copy_(value)
