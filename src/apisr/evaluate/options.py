"""What an evaluation does besides its pictures: one value, without heavy imports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from apisr.evaluate.protocols import Protocol, ProtocolName

Layout = Literal["pictures", "clips", "avc-reallq"]


@dataclass(frozen=True)
class EvaluateOptions:
    """How pictures are read, enlarged and scored.

    Attributes:
        scale: factor of the model; taken from the sizes when there is ground truth.
        metrics: names; by default those of the protocol.
        protocol: a name or a :class:`~apisr.evaluate.protocols.Protocol`.
        layout: how a folder is read.
        allow_missing: leave out what has no partner, and say so in the report.
        device: for models and learned metrics.
        tta: let the model give the mean over eight flips and turns.
        outputs: folder in which the outputs of the model are kept, as PNG.
    """

    scale: int | None = None
    metrics: Sequence[str] | None = None
    protocol: Protocol | ProtocolName = "deterministic"
    layout: Layout = "pictures"
    allow_missing: bool = False
    device: str = "auto"
    tta: bool = False
    outputs: Path | None = None
