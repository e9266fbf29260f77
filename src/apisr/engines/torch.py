"""torch: every network that this project knows, on CUDA, Apple graphics (MPS) or the processor.

What is done for speed: evaluation under ``inference_mode``, channels-last memory, half precision where it is accurate
enough (measured by the registry). 8-bit pictures travel to the device as they are and come back as they will be
written: from colour conversion to rounding they stay there. On CUDA transfers are pinned and asynchronous, and sizes
that come again (tiles) are recorded as CUDA graphs, which start a network of dozens of layers at once.
"""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import importlib.util
import logging
import platform
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from apisr.core.errors import MissingExtra, RunError
from apisr.engines.base import EngineKind, Precision, Request, first_line
from apisr.engines.split import OutOfMemory, run_in_parts
from apisr.image import ImageU8

if TYPE_CHECKING:
    import torch

    from apisr.weights import Model

T = TypeVar("T", np.float32, np.uint8)

#: CUDA graphs that are kept at once, each with the memory of its run.
_KEPT_GRAPHS = 4
_log = logging.getLogger(__name__)
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
        self._lock = threading.Lock()
        self.device = torch.device(request.device)
        self.precision: Precision = request.precision
        self.name = f"torch ({request.device}, {request.precision})"
        self.traits = request.model.traits_on("torch")
        dtypes = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
        self._dtype = dtypes[request.precision]
        module = load_network(request.model)
        self._network: Callable[[torch.Tensor], torch.Tensor] = module.to(
            self.device, self._dtype, memory_format=torch.channels_last
        )  # pyright: ignore[reportCallIssue, reportUnknownMemberType]

        if self.device.type == "cuda":
            self._network = CudaGraphs(self._network)

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :meth:`apisr.engines.base.Engine.run`."""
        return run_in_parts(self._run, batch, self.traits)

    def run_pixels(self, pixels: ImageU8) -> ImageU8:
        """See :func:`apisr.engines.pixels.run_pixels`: the conversion happens on the device."""
        return run_in_parts(self._run_whole_numbers, pixels[None], self.traits, rows_axis=1)[0]

    def _run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._guarded(batch, self._forward, f"{batch.shape[3]}x{batch.shape[2]}")

    def _run_whole_numbers(self, batch: ImageU8) -> ImageU8:
        return self._guarded(batch, self._forward_whole_numbers, f"{batch.shape[2]}x{batch.shape[1]}")

    def _guarded(self, batch: NDArray[T], forward: Callable[[torch.Tensor], torch.Tensor], size: str) -> NDArray[T]:
        torch = self._torch
        try:
            with self._lock, torch.inference_mode():  # what a graph gives lives until the next run
                return forward(self._sent(torch.from_numpy(np.ascontiguousarray(batch)))).cpu().numpy()
        except torch.OutOfMemoryError:
            pass
        except RuntimeError as error:
            if not any(sign in str(error).lower() for sign in _FULL):
                raise RunError(
                    f"the network failed on a picture of {size}: {first_line(error)}", code="network-failed"
                ) from error
        if isinstance(self._network, CudaGraphs):
            self._network.forget()
            torch.cuda.empty_cache()
        raise OutOfMemory(f"{self.name} does not have enough memory for {size} pixels.")

    def _sent(self, batch: torch.Tensor) -> torch.Tensor:
        if self.device.type == "cuda":
            batch = batch.pin_memory()
        return batch.to(self.device, non_blocking=True)

    def _forward(self, batch: torch.Tensor) -> torch.Tensor:
        x = batch.to(self._dtype, memory_format=self._torch.channels_last)
        return self._network(x).to(self._torch.float32)

    def _forward_whole_numbers(self, batch: torch.Tensor) -> torch.Tensor:
        """Map ``(N, H, W, 3)`` uint8, which is channels-last memory already, to the same of the larger size."""
        torch = self._torch
        x = (batch.permute(0, 3, 1, 2).to(torch.float32) / 255).to(self._dtype)
        y = self._network(x).to(torch.float32) * 255 + 0.5
        return y.clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


class CudaGraphs:
    """A network whose runs are recorded as CUDA graphs, one for each size of input that came twice.

    A network that cannot be recorded runs as before. The result lives until the next call; one thread at a time.

    Args:
        network: on a CUDA device.
    """

    def __init__(self, network: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._network = network
        self._seen: set[tuple[int, ...]] = set()
        self._graphs: OrderedDict[tuple[int, ...], _Recording | None] = OrderedDict()

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Run the network."""
        size = tuple(batch.shape)
        if size not in self._seen:
            self._seen.add(size)
            return self._network(batch)
        if size not in self._graphs:
            self._graphs[size] = self._recorded(batch)
            if len(self._graphs) > _KEPT_GRAPHS:
                self._graphs.popitem(last=False)
        recording = self._graphs[size]
        return self._network(batch) if recording is None else recording.replayed(batch)

    def forget(self) -> None:
        """Give the memory of the graphs back."""
        self._graphs.clear()
        self._seen.clear()

    def _recorded(self, batch: torch.Tensor) -> _Recording | None:
        import torch

        try:
            return _Recording(self._network, batch)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # it waits for the device somewhere, which a graph cannot hold
            _log.info("no CUDA graph: %s", first_line(error))
            return None


class _Recording:
    """One CUDA graph with the memory that it reads and writes."""

    def __init__(self, network: Callable[[torch.Tensor], torch.Tensor], batch: torch.Tensor) -> None:
        import torch

        self._source = batch.clone(memory_format=torch.preserve_format)
        beside = torch.cuda.Stream(batch.device)
        beside.wait_stream(torch.cuda.current_stream(batch.device))
        with torch.cuda.stream(beside):  # once outside: kernels are chosen and libraries loaded
            network(self._source)
        torch.cuda.current_stream(batch.device).wait_stream(beside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._result = network(self._source)

    def replayed(self, batch: torch.Tensor) -> torch.Tensor:
        self._source.copy_(batch)
        self._graph.replay()
        return self._result


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
