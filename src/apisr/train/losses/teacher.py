"""A teacher: a trained network whose outputs a generator is drawn to, beside the pictures themselves.

Where the low picture is ruined, most of the difference between output and target can be won by nobody: it is noise to
the training. A teacher that has seen much more has averaged it out, so that its output says in every crop what is to be
won (Hinton et al., "Distilling the Knowledge in a Neural Network", 2015; here the pictures are the knowledge). What it
did to the shipped models, and where it did nothing, is in ``docs/experiments.md``.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from apisr.core.errors import InputError
from apisr.weights.checkpoint import load_network, read_checkpoint


class Teacher(nn.Module):
    """A frozen network, in a precision of its own whatever that of the training.

    Args:
        network: maps ``(N, 3, h, w)`` in [0, 1] to ``(N, 3, s*h, s*w)``.
        flips: give the mean over the eight flips and quarter turns of the crops: eight times the work.
        bf16: compute in bfloat16 (the result is float32): faster, half an 8-bit level off in places.
    """

    def __init__(self, network: nn.Module, *, flips: bool = False, bf16: bool = False) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.flips = flips
        self.bf16 = bf16

    @torch.no_grad()
    def forward(self, low: Tensor) -> Tensor:
        """What the teacher makes of the low crops; without gradient."""
        with torch.autocast(low.device.type, torch.bfloat16, enabled=self.bf16):
            total = cast("Tensor", self.network(low)).float()
            if not self.flips:
                return total
            for number in range(1, 8):
                total = total + turned_back(self.network(turned(low, number)), number)
            return total / 8

    def train(self, mode: bool = True) -> Teacher:
        """Stay in evaluation mode."""
        del mode
        return cast("Teacher", super().train(False))


def turned(pictures: Tensor, number: int) -> Tensor:
    """Flip and turn, `number` 0 to 7: 4 and more are mirrored, then come ``number % 4`` quarter turns."""
    if number >= 4:
        pictures = pictures.flip(-1)
    return torch.rot90(pictures, number % 4, (-2, -1)).contiguous()


def turned_back(pictures: Tensor, number: int) -> Tensor:
    """Undo :func:`turned`."""
    pictures = torch.rot90(pictures, -(number % 4), (-2, -1))
    return pictures.flip(-1) if number >= 4 else pictures


def open_teacher(path: Path, *, scale: int, flips: bool = False, bf16: bool = False) -> Teacher:
    """Load a teacher.

    Args:
        path: a weights file, a checkpoint or an ONNX file of ours.
        scale: what it must enlarge by.
        flips: see :class:`Teacher`.
        bf16: likewise.

    Raises:
        InputError: it enlarges by another factor, or not at all.
        ModelError: the file is damaged or its network unknown.
    """
    checkpoint = read_checkpoint(path)
    if checkpoint.network.kind != "upscaler":
        raise InputError(
            f"teacher.init_from = '{path}' holds {checkpoint.network.title}: not a network that enlarges.",
            code="not-an-upscaler",
        )
    factor = checkpoint.network.traits(checkpoint.hyper).scale
    if factor != scale:
        raise InputError(
            f"teacher.init_from = '{path}' enlarges by {factor}, model.scale is {scale}. Name another teacher.",
            code="other-scale",
        )
    return Teacher(load_network(checkpoint), flips=flips, bf16=bf16)
