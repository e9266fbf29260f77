"""What an engine is: it runs one network on one device in one precision.

An engine is one file of this package that holds an ``ENGINE``. Its module loads nothing
heavy when it is imported: it says whether its package is installed, which devices there are and which models it runs,
and opens a model.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import os
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from apisr.core.errors import InputError
from apisr.networks.traits import ModelTraits

if TYPE_CHECKING:
    from apisr.weights import Model

__all__ = ["Engine", "EngineKind", "ModelTraits", "Precision", "PrecisionChoice", "Request"]

#: A precision of the arithmetic inside a network; inputs and outputs are always float32.
Precision = Literal["fp32", "fp16", "bf16", "int8"]
#: What a user asks for; ``auto`` takes the fastest precision that is accurate enough.
PrecisionChoice = Literal["auto", "fp32", "fp16", "bf16", "int8"]

#: ``auto`` takes a precision only where its PSNR against fp32 on the built-in pictures reaches this.
AUTOMATIC_PSNR_DB = 50.0
#: A precision that was asked for by name is refused below this.
LOWEST_PSNR_DB = 40.0


@runtime_checkable
class Engine(Protocol):
    """Runs one network.

    Attributes:
        name: what runs where and how, for people: ``"openvino (cpu, bf16)"``.
        traits: how output relates to input.
        shape_exact: whether an output pixel has the same bits whatever the size of the batch's pictures. Decides
            between free rectangles and fixed tiles where results must be identical.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def traits(self) -> ModelTraits: ...  # noqa: D102

    @property
    def shape_exact(self) -> bool: ...  # noqa: D102

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map ``(N, 3, H, W)`` in [0, 1] to ``(N, 3, scale*H, scale*W)``, not clipped.

        H and W are multiples of ``traits.multiple_px``.
        """
        ...


@dataclass(frozen=True)
class Request:
    """What an engine is asked to open.

    Attributes:
        model: the network and its weights.
        device: a name from :meth:`EngineKind.devices`.
        precision: of the arithmetic.
        threads: processor threads; None takes as many as this process may use.
    """

    model: Model
    device: str
    precision: Precision
    threads: int | None = None


@dataclass(frozen=True)
class EngineKind:
    """One engine, before anything is loaded.

    Attributes:
        name: key in the registry, and what ``--engine`` takes.
        package: the package that must be installed, as it is imported.
        extra: the extra of this project that installs it; empty if the core does.
        devices: name -> description of each device that can be used now; empty if the package is not installed. The
            first is the one that is taken unless another is asked for.
        runs: whether this engine can run a model.
        precisions: device, model -> what is worth a measurement, the most exact last.
        open: loads a model.
        version: version of the package and of its drivers; part of the key of measurements.
        rank: place in the order of preference where two engines are equally fast; lower comes first.
        why_not: why it cannot run a model, as the end of a sentence; empty where there is nothing to say.
    """

    name: str
    package: str
    extra: str
    devices: Callable[[], dict[str, str]]
    runs: Callable[[Model], bool]
    precisions: Callable[[str, Model], tuple[Precision, ...]]
    open: Callable[[Request], Engine]
    version: Callable[[], str]
    rank: int
    why_not: Callable[[Model], str] = lambda model: ""


def usable_threads() -> int:
    """Return the number of processor threads this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else (os.cpu_count() or 1)


def machine() -> list[str]:
    """Return the processor with what it can do, and the system: part of the key of what is measured."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    found = {line.split(":")[0].strip(): line.split(":", 1)[1].strip() for line in lines if ":" in line}
    return [
        platform.system(),
        platform.machine(),
        found.get("model name", platform.processor()),
        hashlib.sha256(found.get("flags", "").encode()).hexdigest()[:16],
    ]


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, shortened, or the name of its type."""
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__


def probe_picture(height: int, width: int) -> NDArray[np.float32]:
    """Return a picture of flat areas, edges, lines and a gradient, as drawings have them: ``(1, 3, height, width)``."""
    rng = np.random.default_rng(0)
    cells = rng.random((3, -(-height // 8), -(-width // 8)), dtype=np.float32).repeat(8, 1).repeat(8, 2)
    ramp = np.linspace(0, 0.2, width, dtype=np.float32)
    picture = 0.8 * cells[:, :height, :width] + ramp
    picture[:, height // 3 :: 16] *= 0.3  # dark lines one pixel wide
    return np.ascontiguousarray(picture[None])


def runs_as_onnx(model: Model) -> bool:
    """Return whether an engine that reads ONNX files runs a model: such a file, or one that can be exported."""
    can_export = importlib.util.find_spec("torch") is not None and importlib.util.find_spec("onnx") is not None
    return model.format == "onnx" or can_export


def check_pictures(height: int, width: int) -> tuple[NDArray[np.float32], ...]:
    """Return the pictures on which a precision must be accurate: the built-in one as it is, and with strong noise.

    Of the crops of pictures that were tried, the noisiest lost most in 8-bit integers: 8 dB more than the built-in
    picture does as it is, 2 dB more than it does with this noise.
    """
    picture = probe_picture(height, width)
    noise = np.random.default_rng(1).standard_normal(picture.shape, dtype=np.float32)
    return picture, np.clip(picture + np.float32(0.2) * noise, 0, 1).astype(np.float32)


def worst_psnr_db(outputs: Iterable[NDArray[np.float32]], references: Iterable[NDArray[np.float32]]) -> float:
    """Return the smallest PSNR between outputs and references."""
    return min(psnr_db(output, reference) for output, reference in zip(outputs, references, strict=True))


def psnr_db(output: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """Return the PSNR between two outputs for a peak of 1; 0 if one is not finite, at most 200."""
    error = float(np.mean(np.square(output.astype(np.float64) - reference)))
    return 10 * math.log10(1 / max(error, 1e-20)) if math.isfinite(error) else 0.0


def check_precision(name: str, precision: Precision, found_db: float) -> None:
    """Check that a precision is accurate enough for a network.

    Raises:
        InputError: it is not (code ``precision-not-accurate``).
    """
    if found_db < LOWEST_PSNR_DB:
        raise InputError(
            f"{precision} is not accurate enough for {name} ({found_db:.1f} dB against fp32, "
            f"{LOWEST_PSNR_DB:.0f} required). Use --precision fp32.",
            code="precision-not-accurate",
        )
