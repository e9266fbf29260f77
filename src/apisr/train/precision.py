"""Mixed precision with one gradient scaler for each optimiser.

Lightning Fabric's own plugin has a single scaler. A generator and a discriminator have gradients of different sizes:
one overflow in one of them would then halve the scale of, and skip, the other. It also casts the *input* of a network
to half precision, which costs a network with a global shortcut part of the picture itself (bfloat16 has 8 significant
bits); here inputs stay float32 and autocast converts inside, operation by operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from lightning.fabric.plugins.precision.amp import MixedPrecision
from typing_extensions import override


class ScaledPrecision(MixedPrecision):
    """bf16 or fp16 autocast; for fp16 a named scaler for each optimiser.

    Args:
        kind: ``bf16`` (no scaling needed) or ``fp16``.
        device: type of the device: ``cuda``, ``cpu``, ``mps``.
        names: the optimisers.
    """

    def __init__(self, kind: Literal["bf16", "fp16"], *, device: str, names: Sequence[str]) -> None:
        super().__init__("bf16-mixed" if kind == "bf16" else "16-mixed", device)
        self.scalers = {name: torch.amp.GradScaler(device=device) for name in names} if kind == "fp16" else {}
        self.scaler = None

    def use(self, name: str) -> None:
        """Choose whose scaler the next backward passes, clippings and steps go through."""
        self.scaler = self.scalers.get(name)

    @override
    def convert_input(self, data: Any) -> Any:
        return data

    @override
    def state_dict(self) -> dict[str, Any]:
        return {name: scaler.state_dict() for name, scaler in self.scalers.items()}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, scaler in self.scalers.items():
            scaler.load_state_dict(state_dict[name])
