"""The default engine: onnxruntime, on whatever device the installed onnxruntime package serves.

>>> from apisr.weights import resolve_model                       # doctest: +SKIP
>>> engine = OnnxEngine(resolve_model("lite-x2"))                 # doctest: +SKIP
>>> engine.run(batch).shape                                       # doctest: +SKIP
(1, 3, 720, 1280)
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from apisr.core.errors import InputError, ModelError, RunError
from apisr.upscale.engine import NetworkTraits

if TYPE_CHECKING:
    from apisr.weights import Model

#: Device name -> onnxruntime provider, best first.
PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "rocm": "MIGraphXExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
#: Chosen by ``auto``: devices that run any model at once. TensorRT first builds for minutes: ask for it by name.
_AUTOMATIC = ("cuda", "rocm", "directml", "coreml", "cpu")


class OnnxEngine:
    """Runs an ONNX model; see :class:`apisr.upscale.engine.Engine`.

    Args:
        model: what to run.
        device: ``auto`` or a key of :data:`PROVIDERS`.
        threads: processor threads; by default as many as this process may use.

    Raises:
        InputError: the device is not available in this installation.
        ModelError: the file is not a model that can be run.
    """

    def __init__(self, model: Model, *, device: str = "auto", threads: int | None = None) -> None:
        import onnxruntime as ort

        available: list[str] = ort.get_available_providers()
        if device == "auto":
            device = next(name for name in _AUTOMATIC if PROVIDERS[name] in available)
        elif PROVIDERS.get(device) not in available:
            known = [name for name, provider in PROVIDERS.items() if provider in available]
            raise InputError(
                f"device '{device}' is not available here (available: {', '.join(known)}). Choose one with --device."
            )
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads or usable_threads()
        options.enable_mem_pattern = False  # windows come in many sizes
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the coders need the processor too
        providers: list[str] = [PROVIDERS[device]]
        if device != "cpu":
            providers.append(PROVIDERS["cpu"])
        try:
            self._session = ort.InferenceSession(str(model.path), options, providers=providers)
        except Exception as error:
            raise ModelError(f"cannot load the model '{model.path}': {_first_line(error)}") from error
        self._input = self._session.get_inputs()[0].name
        self._half = "float16" in self._session.get_inputs()[0].type
        self._shape_exact: bool | None = None
        self.device = device
        self.name = f"onnx ({device})"
        self.traits = NetworkTraits.of(model)

    @property
    def shape_exact(self) -> bool:
        """Whether a pixel's bits do not depend on the window's size and place: measured once, on the processor only."""
        if self._shape_exact is None:
            self._shape_exact = self.device == "cpu" and _probe_shape_exact(self)
        return self._shape_exact

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :meth:`apisr.upscale.engine.Engine.run`."""
        feed: Any = batch.astype(np.float16) if self._half else batch
        try:
            output = self._session.run(None, {self._input: feed})[0]
        except Exception as error:
            raise RunError(
                f"the network failed on a picture of {batch.shape[3]}x{batch.shape[2]}: {_first_line(error)}"
            ) from error
        return np.asarray(output, dtype=np.float32)


def usable_threads() -> int:
    """Return the number of processor threads this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else (os.cpu_count() or 1)


def _probe_shape_exact(engine: OnnxEngine) -> bool:
    """Compare windows of several sizes and places, bit by bit, with the same pixels of a larger picture."""
    traits = engine.traits
    if traits.halo_px is None or traits.fixed_size is not None:
        return False
    halo = -(-traits.halo_px // 16) * 16
    side = 2 * halo + 96
    picture = np.random.default_rng(7).random((1, 3, side, side + 48), dtype=np.float32)
    whole = engine.run(picture)
    step = traits.multiple_px
    for height, width, top, left in (
        (16, 16, 48, 16),
        (16, 48, 0, 48),
        (48, 16, 16, 0),
        (32, 80, 32, 32),
        (80, 96, 16, 48),
        (16 + step, 16 + 3 * step, step, 5 * step),
    ):
        window = picture[:, :, top : top + height + 2 * halo, left : left + width + 2 * halo]
        part = engine.run(np.ascontiguousarray(window))
        scale = traits.scale
        inner = part[:, :, scale * halo : scale * (halo + height), scale * halo : scale * (halo + width)]
        same = whole[
            :,
            :,
            scale * (top + halo) : scale * (top + halo + height),
            scale * (left + halo) : scale * (left + halo + width),
        ]
        if not np.array_equal(inner, same):
            return False
    return True


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
