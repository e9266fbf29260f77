"""onnxruntime: the engine that runs everywhere, on whatever devices the installed onnxruntime package serves."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from apisr.core.errors import ModelError, RunError
from apisr.core.telemetry import import_onnxruntime
from apisr.engines.base import EngineKind, Precision, Request, first_line, runs_as_onnx, usable_threads
from apisr.engines.exactness import kept_shape_exact
from apisr.engines.split import OutOfMemory, run_in_parts

if TYPE_CHECKING:
    from apisr.weights import Model

#: Device -> name of onnxruntime's provider and what it is, best first. TensorRT first builds for minutes: by name only.
PROVIDERS = {
    "cuda": ("CUDAExecutionProvider", "NVIDIA graphics card (CUDA)"),
    "rocm": ("MIGraphXExecutionProvider", "AMD graphics card (MIGraphX)"),
    "directml": ("DmlExecutionProvider", "graphics card on Windows (DirectML)"),
    "coreml": ("CoreMLExecutionProvider", "Apple graphics and neural engine (Core ML)"),
    "cpu": ("CPUExecutionProvider", "processor"),
    "tensorrt": ("TensorrtExecutionProvider", "NVIDIA graphics card (TensorRT)"),
}
#: What onnxruntime's devices say when their memory is full.
_FULL = ("out of memory", "failed to allocate memory", "bad allocation", "bad_alloc", "e_outofmemory")


class OnnxEngine:
    """Runs an ONNX file; see :class:`apisr.engines.base.Engine`.

    Args:
        request: the model, a key of :data:`PROVIDERS`, the precision (``fp16`` converts the file) and the threads.

    Raises:
        ModelError: the file is not a model that can be run (code ``model-not-runnable``).
    """

    def __init__(self, request: Request) -> None:
        from apisr.weights.derived import as_onnx

        ort = import_onnxruntime()
        model = as_onnx(request.model, request.precision)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = request.threads or usable_threads()
        options.enable_mem_pattern = False  # windows come in many sizes
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the coders need the processor too
        providers = [PROVIDERS[request.device][0]]
        if request.device != "cpu":
            providers.append(PROVIDERS["cpu"][0])
        try:
            self._session: Any = ort.InferenceSession(str(model.path), options, providers=providers, enable_fallback=0)
        except Exception as error:
            raise ModelError(
                f"cannot load the model '{model.path}': {first_line(error)}", code="model-not-runnable"
            ) from error
        self._input: str = self._session.get_inputs()[0].name
        self._half = "float16" in self._session.get_inputs()[0].type
        self._shape_exact: bool | None = None
        self._request = request
        self.device = request.device
        self.precision: Precision = request.precision
        self.name = f"onnx ({request.device}, {request.precision})"
        self.traits = request.model.traits_on("onnx")

    @property
    def shape_exact(self) -> bool:
        """Whether a pixel's bits do not depend on the window's size and place: measured once, on the processor only."""
        if self._shape_exact is None:
            self._shape_exact = self.device == "cpu" and kept_shape_exact(self, self._request, _version())
        return self._shape_exact

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :meth:`apisr.engines.base.Engine.run`."""
        return run_in_parts(self._run, batch, self.traits)

    def _run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        values = batch.astype(np.float16) if self._half else batch
        size = f"{batch.shape[3]}x{batch.shape[2]}"
        try:
            (output,) = self._session.run(None, {self._input: values})
        except Exception as error:
            line = first_line(error)
            if any(sign in str(error).lower() for sign in _FULL):
                raise OutOfMemory(f"{self.name} does not have enough memory for {size} pixels.") from error
            raise RunError(f"the network failed on a picture of {size}: {line}", code="network-failed") from error
        return np.asarray(output, dtype=np.float32)


def _devices() -> dict[str, str]:
    if importlib.util.find_spec("onnxruntime") is None:
        return {}
    available = set(import_onnxruntime().get_available_providers())
    return {device: title for device, (provider, title) in PROVIDERS.items() if provider in available}


def _precisions(device: str, model: Model) -> tuple[Precision, ...]:
    """Half precision is faster on graphics cards only; it needs the package `onnx` to convert the file."""
    if device in ("cuda", "directml", "rocm", "tensorrt") and importlib.util.find_spec("onnx") is not None:
        return ("fp16", "fp32")
    return ("fp32",)


def _version() -> str:
    ort = import_onnxruntime()
    return f"onnxruntime {ort.__version__}"


ENGINE = EngineKind(
    name="onnx",
    package="onnxruntime",
    extra="",
    devices=_devices,
    runs=runs_as_onnx,
    precisions=_precisions,
    open=OnnxEngine,
    version=_version,
    rank=20,
)
