"""ncnn: any graphics card of any maker through Vulkan, without CUDA; the processor too.

The graph is written from the model's own weights when it is opened (:mod:`apisr.engines.ncnn_graph`). A batch that
would not fit into the card's memory is split before it is sent.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import logging
import os
import threading
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from apisr.core.errors import MissingExtra, ModelError, RunError
from apisr.core.stderr import diverted_stderr
from apisr.core.worker_folder import temporary_folder
from apisr.engines.base import EngineKind, Precision, Request, usable_threads
from apisr.engines.exactness import kept_shape_exact
from apisr.engines.split import OutOfMemory, run_in_parts

if TYPE_CHECKING:
    from apisr.engines.ncnn_graph import Arrays
    from apisr.weights import Model

#: What is left of a name of a device that is a program: Mesa's lavapipe, SwiftShader.
SOFTWARE = "(software)"
#: Share of a card's memory that a batch may take, and the memory of one input pixel (several maps of 64 channels).
_HEAP_SHARE, _BYTES_PER_PX = 0.5, 2048
#: Kind of a Vulkan device that is the processor.
_PROCESSOR_KIND = 3
#: What ncnn returns where memory could not be had.
_NO_MEMORY = -100
_NETWORKS = ("compact", "cunet", "lite", "rrdb")
#: Why the others have no graph: ncnn (2026) has no roll, gather or select, and its product of two blobs does not run on
#: Vulkan.
_REASONS = {
    "grl": "its shifted windows need a roll and a mask of the picture's size, and ncnn has no layers for them",
    "dat": "its shifted windows need a roll and a mask of the picture's size, and its attention over channels a "
    "product of two blobs, which ncnn does not have on graphics cards",
}

_log = logging.getLogger(__name__)


class NcnnEngine:
    """Runs a network of ours with ncnn; see :class:`apisr.engines.base.Engine`.

    Args:
        request: the model, a device (``vulkan``, ``vulkan:1``, ``cpu``), the precision (``fp32``, ``fp16``; ``bf16`` on
            the processor) and the threads.

    Raises:
        ModelError: ncnn does not take the network (code ``model-not-runnable``).
        MissingExtra: a checkpoint needs torch to be read.
    """

    def __init__(self, request: Request) -> None:
        from apisr.engines.ncnn_graph import GRAPHS

        ncnn = _library()
        arrays = _arrays(request.model)
        self._on_card = request.device != "cpu"
        self._request = request
        self.device = request.device
        self.precision: Precision = request.precision
        self.name = f"ncnn ({request.device}, {request.precision})"
        self.traits = request.model.traits_on("ncnn")
        self._lock = threading.Lock()
        self._shape_exact: bool | None = None
        self._most_px: int | None = None
        net: Any = ncnn.Net()
        half = request.precision == "fp16"
        options = net.opt
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = half
        options.use_bf16_storage = request.precision == "bf16"
        options.use_vulkan_compute = self._on_card
        options.num_threads = request.threads or usable_threads()
        if self._on_card:
            card = _card_number(request.device)
            net.set_vulkan_device(card)
            heap = int(ncnn.get_gpu_device(card).get_heap_budget()) << 20
            self._most_px = int(heap * _HEAP_SHARE / max(_BYTES_PER_PX, self.traits.bytes_per_px))
        try:
            graph = GRAPHS[request.model.architecture](request.model.card["hyper"], arrays)
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise ModelError(
                f"{self.name} cannot run '{request.model.path}': its weights do not fit the network ({error!r}).",
                code="model-not-runnable",
            ) from error
        with temporary_folder("apisr-ncnn-") as folder:
            weights = folder / "network.bin"
            weights.write_bytes(graph.weights())
            if net.load_param_mem(graph.text()) or net.load_model(str(weights)):
                raise ModelError(
                    f"{self.name} cannot run '{request.model.path}': it refuses the graph that was made of it. "
                    "Take another engine (--engine onnx).",
                    code="model-not-runnable",
                )
        self._net = net
        self._margin_px = graph.margin_px
        self._module = ncnn

    @property
    def shape_exact(self) -> bool:
        """Whether a pixel's bits do not depend on the window's size and place: measured once, on the processor only."""
        if self._shape_exact is None:
            self._shape_exact = not self._on_card and kept_shape_exact(self, self._request, _version())
        return self._shape_exact

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :meth:`apisr.engines.base.Engine.run`."""
        return run_in_parts(self._run, batch, self.traits)

    def _run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        height, width = batch.shape[2:]
        if self._most_px is not None and batch.shape[0] * height * width > self._most_px:
            raise OutOfMemory(f"{self.name} does not have enough memory for {width}x{height} pixels.")
        with self._lock:
            return np.stack([self._run_one(picture) for picture in batch])

    def _run_one(self, picture: NDArray[np.float32]) -> NDArray[np.float32]:
        source = _continued(picture, self._margin_px)  # ncnn reads it where it lies
        with self._net.create_extractor() as extractor:
            extractor.input("in0", self._module.Mat(source))
            failed, output = extractor.extract("out0")
            scale = self.traits.scale
            size = (3, scale * picture.shape[1], scale * picture.shape[2])
            if failed == _NO_MEMORY:
                self._most_px = picture.shape[1] * picture.shape[2] // 2  # not tried again with every picture
                _log.warning("%s: its memory is full; pictures are computed in smaller parts from now on.", self.name)
                raise OutOfMemory(
                    f"{self.name} does not have enough memory for {picture.shape[2]}x{picture.shape[1]} pixels."
                )
            if failed or (output.c, output.h, output.w) != size:
                raise RunError(
                    f"{self.name} failed on a picture of {picture.shape[2]}x{picture.shape[1]}.", code="network-failed"
                )
            return np.array(output, dtype=np.float32)


def _continued(picture: NDArray[np.float32], margin_px: int) -> NDArray[np.float32]:
    """Mirror a picture ``(3, H, W)`` at its border, or repeat its edge where it is smaller than the margin."""
    mode = "reflect" if min(picture.shape[1:]) > margin_px else "edge"
    margins = ((0, 0), (margin_px, margin_px), (margin_px, margin_px))
    return np.ascontiguousarray(np.pad(picture, margins, mode) if margin_px else picture)


def _arrays(model: Model) -> Arrays:
    """The learned values by their name in the network."""
    if model.format == "onnx":
        from apisr.weights.formats.onnx_weights import read_named_arrays

        return read_named_arrays(model.path)
    from apisr.weights.checkpoint import read_checkpoint

    state = read_checkpoint(model.path).state
    return {name: value.float().numpy() for name, value in state.items()}


def _library() -> Any:
    """The module ``ncnn``; its stubs do not know its classes."""
    return importlib.import_module("ncnn")


@lru_cache(maxsize=1)
def _cards() -> dict[str, str]:
    """Vulkan devices, real ones first."""
    module = _library()
    with Path(os.devnull).open("wb") as nowhere, diverted_stderr(nowhere):  # it says something of every card
        module.create_gpu_instance()
        count = int(module.get_gpu_count())
    found: dict[str, str] = {}
    for number in range(count):
        info = module.get_gpu_info(number)
        title = str(info.device_name())
        if info.type() == _PROCESSOR_KIND:
            title += f" {SOFTWARE}"
        found[f"vulkan:{number}" if number else "vulkan"] = title
    return found


def _card_number(device: str) -> int:
    return int(device.partition(":")[2] or 0)


def _devices() -> dict[str, str]:
    if importlib.util.find_spec("ncnn") is None:
        return {}
    return {**_cards(), "cpu": "processor"}


def _runs(model: Model) -> bool:
    if model.architecture not in _NETWORKS or "hyper" not in model.card:
        return False
    return model.format == "onnx" or importlib.util.find_spec("torch") is not None


def _why_not(model: Model) -> str:
    if model.architecture in _NETWORKS:
        return "the file does not say its sizes" if "hyper" not in model.card else "torch is needed to read the file"
    return _REASONS.get(model.architecture, "there is no ncnn graph of it")


def _precisions(device: str, model: Model) -> tuple[Precision, ...]:
    return ("fp32",) if device == "cpu" else ("fp16", "fp32")


def _version() -> str:
    drivers = ", ".join(f"{name} {title}" for name, title in _cards().items())
    return f"ncnn {importlib.metadata.version('ncnn')} ({drivers})"


def _open(request: Request) -> NcnnEngine:
    if importlib.util.find_spec("ncnn") is None:
        raise MissingExtra("vulkan", f"to run '{request.model.path}' with ncnn")
    return NcnnEngine(request)


ENGINE = EngineKind(
    name="ncnn",
    package="ncnn",
    extra="vulkan",
    devices=_devices,
    runs=_runs,
    precisions=_precisions,
    open=_open,
    version=_version,
    rank=30,
    why_not=_why_not,
)
