"""The adversarial term: how far a discriminator's logits are from an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional


def adversarial_loss(logits: Sequence[Tensor], *, real: bool, kind: Literal["lsgan", "vanilla"]) -> Tensor:
    """How far a discriminator's logits are from `real` (1) or not (0), the mean over its scales.

    Args:
        logits: one tensor for each scale.
        real: the expected answer. The generator's term wants True of its own output.
        kind: ``lsgan`` mean squared error (Mao et al., ICCV 2017), ``vanilla`` binary cross-entropy on logits.
    """
    losses: list[Tensor] = []
    for scale_logits in logits:
        labels = torch.full_like(scale_logits, float(real), dtype=torch.float32)
        if kind == "lsgan":
            losses.append(functional.mse_loss(scale_logits.float(), labels))
        else:
            losses.append(functional.binary_cross_entropy_with_logits(scale_logits.float(), labels))
    return torch.stack(losses).mean()
