"""torch: every network that this project knows, on CUDA, Apple graphics (MPS) or the processor.

What is done for speed: evaluation under ``inference_mode``, channels-last memory, pinned and asynchronous transfers on
CUDA, half precision where it is accurate enough (measured by the registry).
"""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import importlib.util
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from apisr.core.errors import MissingExtra, RunError
from apisr.engines.base import EngineKind, Precision, Request, first_line
from apisr.engines.split import OutOfMemory, run_in_parts

if TYPE_CHECKING:
    import torch

    from apisr.weights import Model

_FULL = ("not enough memory", "out of memory")
#: What the drivers of graphics cards leave on Linux: NVIDIA's, AMD's, Windows's inside WSL, NVIDIA's small computers.
_CARD_NODES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg", "/dev/nvmap")
#: Libraries of the drivers on Windows.
_CARD_LIBRARIES = ("nvcuda", "amdhip64")


class TorchEngine:
    """Runs a checkpoint, or an ONNX file of ours; see :class:`apisr.engines.base.Engine`.

    Args:
        request: the model, a torch device (``cpu``, ``cuda``, ``cuda:1``, ``mps``), the precision and the threads
            (of all of torch in this process).

    Raises:
        ModelError: the file cannot be used.
        MissingExtra: torch is not installed.
    """

    #: The device's kernels are chosen by size: equal pixels may differ in the last bits.
    shape_exact = False

    def __init__(self, request: Request) -> None:
        try:
            import torch
        except ImportError as error:
            raise MissingExtra("torch", f"to run '{request.model.path}'") from error
        from apisr.weights.checkpoint import load_network

        if request.threads is not None:
            torch.set_num_threads(request.threads)
        self._torch = torch
        self.device = torch.device(request.device)
        self.precision: Precision = request.precision
        self.name = f"torch ({request.device}, {request.precision})"
        self.traits = request.model.traits_on("torch")
        dtypes = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
        self._dtype = dtypes[request.precision]
        module = load_network(request.model)
        self._module: torch.nn.Module = module.to(self.device, self._dtype, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue, reportUnknownMemberType]

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :meth:`apisr.engines.base.Engine.run`."""
        return run_in_parts(self._run, batch, self.traits)

    def _run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        torch = self._torch
        size = f"{batch.shape[3]}x{batch.shape[2]}"
        try:
            return self._forward(torch.from_numpy(np.ascontiguousarray(batch))).cpu().numpy()
        except torch.OutOfMemoryError:
            pass
        except RuntimeError as error:
            if not any(sign in str(error).lower() for sign in _FULL):
                raise RunError(
                    f"the network failed on a picture of {size}: {first_line(error)}", code="network-failed"
                ) from error
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        raise OutOfMemory(f"{self.name} does not have enough memory for {size} pixels.")

    def _forward(self, batch: torch.Tensor) -> torch.Tensor:
        torch = self._torch
        with torch.inference_mode():
            if self.device.type == "cuda":
                batch = batch.pin_memory()
            x = batch.to(self.device, non_blocking=True).to(self._dtype, memory_format=torch.channels_last)
            output: torch.Tensor = self._module(x)
            return output.to(torch.float32)


def _devices() -> dict[str, str]:
    if importlib.util.find_spec("torch") is None:
        return {}
    if not may_have_card():
        return {"cpu": "processor"}
    import torch

    cards = range(torch.cuda.device_count()) if torch.cuda.is_available() else range(0)
    found = {f"cuda:{card}" if card else "cuda": torch.cuda.get_device_name(card) for card in cards}
    if torch.backends.mps.is_available():
        found["mps"] = "Apple graphics"
    return {**found, "cpu": "processor"}


def may_have_card() -> bool:
    """Whether torch could find a graphics card here; to import torch and ask it takes a second of every start."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    if sys.platform == "win32":
        return any(ctypes.util.find_library(name) for name in _CARD_LIBRARIES)
    if importlib.metadata.version("torch").endswith("+cpu"):
        return False
    return any(Path(node).exists() for node in _CARD_NODES)


def _runs(model: Model) -> bool:
    """Checkpoints, and ONNX files whose card says how to build the network."""
    if model.format == "torch":
        return True
    return "hyper" in model.card and importlib.util.find_spec("onnx") is not None


def _precisions(device: str, model: Model) -> tuple[Precision, ...]:
    if device.startswith("cuda"):
        return ("fp16", "bf16", "fp32")
    return ("fp16", "fp32") if device == "mps" else ("fp32",)


def _version() -> str:
    import torch

    driver = torch.version.cuda or "-"  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType]
    return f"torch {importlib.metadata.version('torch')} cuda {driver}"


ENGINE = EngineKind(
    name="torch",
    package="torch",
    extra="torch",
    devices=_devices,
    runs=_runs,
    precisions=_precisions,
    open=TorchEngine,
    version=_version,
    rank=40,
)
