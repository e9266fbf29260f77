"""OpenVINO: the fastest engine on processors, with bfloat16 where they have units for it; Intel graphics and NPUs too.

On a processor one network serves all sizes: compiling it again for a fixed size gave the same bits and no speed
(measured on the lite models). Graphics and NPUs want fixed sizes; the last few are kept. Compiled networks go into the
cache folder, so that a second start takes milliseconds.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import tempfile
import threading
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from apisr.core.errors import ModelError, RunError
from apisr.core.locks import wait_for_lock
from apisr.core.telemetry import import_openvino
from apisr.core.version import __version__
from apisr.engines.base import EngineKind, Precision, Request, first_line, runs_as_onnx, usable_threads
from apisr.engines.exactness import kept_shape_exact
from apisr.engines.openvino_cache import checked_folder, is_whole, seal, sum_path
from apisr.engines.openvino_grl import EXACT_FROM, grl_network
from apisr.engines.openvino_int8 import in_int8, suits_int8
from apisr.engines.openvino_margins import WindowMargins, without_margins
from apisr.engines.openvino_pixels import in_whole_numbers, with_quick_shuffles
from apisr.engines.pixels import NO_MARGINS, Margins, cut
from apisr.engines.split import OutOfMemory, run_in_parts
from apisr.image import ImageU8

if TYPE_CHECKING:
    from openvino import InferRequest, Node
    from openvino import Model as Network

    from apisr.weights import Model

T = TypeVar("T", np.float32, np.uint8)

_HINTS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "f32"}
#: Network -> the layer from which on it is computed in fp32 where bf16 is asked for: GRL's end, where its precision is
#: lost (49.6 dB to fp32 in bf16 throughout).
_EXACT_FROM = {"grl": EXACT_FROM}
#: Changes with what we make of a network before it is compiled: what was measured of it is then measured again.
_GRAPH = 7
#: Networks compiled for one size that are kept at once (graphics and NPUs).
_KEPT_SIZES = 4
#: Architectures whose windows are computed without what their margins do not need (on a processor).
_WITHOUT_MARGINS = ("compact", "lite")
_FULL = ("out of memory", "out_of_resources", "allocat", "bad_alloc", "exceed")
#: Variables that hold the library of the processor's kernels to fewer instructions (the first that is set counts), the
#: values with which it has no kernels for bf16, and the one with which it has too few for anything. OpenVINO asks the
#: processor alone: it would give empty pictures, or crash.
_HELD_BY = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_WITHOUT_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI")
_TOO_FEW = "SSE41"


class _Key(NamedTuple):
    """What a network is compiled for.

    Attributes:
        shape: of the input; empty where one network serves all.
        whole_numbers: bytes on both sides in place of floats.
        margins: what it leaves away itself.
    """

    shape: tuple[int, ...]
    whole_numbers: bool = False
    margins: Margins = NO_MARGINS


class OpenvinoEngine:
    """Runs an ONNX file with OpenVINO; see :class:`apisr.engines.base.Engine`.

    Args:
        request: the model, a device (``cpu``, ``gpu``, ``gpu.1``, ``npu``), the precision and the threads.

    Raises:
        ModelError: OpenVINO cannot run the file (code ``model-not-runnable``).
    """

    def __init__(self, request: Request) -> None:
        from apisr.weights.derived import as_onnx

        self._request = request
        self.device = request.device
        self.precision: Precision = request.precision
        self.name = f"openvino ({request.device}, {request.precision})"
        self.traits = request.model.traits_on("openvino")
        own_int8 = request.precision == "int8" and suits_int8(request.model)
        path = as_onnx(request.model, "int8" if request.precision == "int8" and not own_int8 else "fp32").path
        self._network = _own_network(request, path) or with_quick_shuffles(_read(path, self.name))
        request.model.check_unchanged()  # before anything of it is kept in the cache
        self._options: dict[str, str | int | bool] = {
            "INFERENCE_PRECISION_HINT": _hint("bf16" if own_int8 else request.precision, request.device),
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        if self._on_processor:
            self._options["INFERENCE_NUM_THREADS"] = request.threads or usable_threads()
            self._options["ENABLE_CPU_PINNING"] = False  # the coders need the processor too
        if own_int8:
            self._network = _kept_int8(self._network, request.model.sha256)
        self._lock = threading.Lock()
        self._requests: OrderedDict[_Key, list[InferRequest]] = OrderedDict()
        self._exact_from = _exact_from(self._network, request) if request.precision == "bf16" else None
        self._windows = (
            WindowMargins(self.traits.aligned_halo_px, self.traits.rim_px or 0)
            if self._on_processor and request.model.architecture in _WITHOUT_MARGINS
            else None
        )
        self._shape_exact: bool | None = None
        if self._on_processor or self.traits.fixed_size is not None:
            self._compiled(_Key((1, 3, *(self.traits.fixed_size or (0, 0))) if self._sizes_differ else ()))

    @property
    def shape_exact(self) -> bool:
        """Whether a pixel's bits do not depend on the window's size and place: measured once, on the processor only."""
        if self._shape_exact is None:
            self._shape_exact = self._on_processor and self._measured_exact()
        return self._shape_exact

    def _measured_exact(self) -> bool:
        if self._windows is None:
            return kept_shape_exact(self, self._request, _version())
        self._windows.at_once = True
        try:
            return kept_shape_exact(self, self._request, _version())
        finally:
            self._windows.at_once = False

    @property
    def _on_processor(self) -> bool:
        return self.device == "cpu"

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :meth:`apisr.engines.base.Engine.run`."""
        return run_in_parts(self._run, batch, self.traits)

    def run_pixels(self, pixels: ImageU8) -> ImageU8:
        """See :func:`apisr.engines.pixels.run_pixels`: the conversion is a part of the network."""
        return run_in_parts(self._run, pixels[None], self.traits, rows_axis=1)[0]

    def run_inside(self, batch: NDArray[np.float32], margins: Margins) -> NDArray[np.float32]:
        """See :func:`apisr.engines.pixels.run_inside`."""
        found = self._run_inside(batch, margins, rows_axis=2)
        return cut(self.run(batch), margins, self.traits.scale, rows_axis=2) if found is None else found

    def run_pixels_inside(self, pixels: ImageU8, margins: Margins) -> ImageU8:
        """See :func:`apisr.engines.pixels.run_pixels`."""
        found = self._run_inside(pixels[None], margins, rows_axis=1)
        return cut(self.run_pixels(pixels), margins, self.traits.scale, rows_axis=0) if found is None else found[0]

    def _run_inside(self, batch: NDArray[T], margins: Margins, *, rows_axis: int) -> NDArray[T] | None:
        """Run a network that leaves margins away; None where there is none, or not enough memory for it."""
        if self._windows is None:
            return None
        window_px = batch.shape[rows_axis] * batch.shape[rows_axis + 1]
        own = self._windows.worth(batch.dtype.name, margins, window_px)
        if not any(own):
            return None
        try:
            output = self._run(batch, own)
        except OutOfMemory:
            return None
        top, bottom, left, right = (px - done for px, done in zip(margins, own, strict=True))
        return cut(output, (top, bottom, left, right), self.traits.scale, rows_axis=rows_axis)

    def _run(self, batch: NDArray[T], margins: Margins = NO_MARGINS) -> NDArray[T]:
        """Run the network in the type of the batch, and return a copy of what it gives."""
        whole_numbers = batch.dtype == np.uint8
        height, width = batch.shape[1:3] if whole_numbers else batch.shape[2:4]
        key = _Key(batch.shape if self._sizes_differ else (), whole_numbers, margins)
        with self._lock:
            try:
                output = np.ascontiguousarray(batch)
                for number, request in enumerate(self._compiled(key)):
                    request.infer([output] if number == 0 else [output, batch])
                    output = request.get_output_tensor().data
                for old in self._windows.used(key, margins, height * width) if self._windows else ():
                    del self._requests[cast("_Key", old)]
                return np.array(output, batch.dtype)
            except RuntimeError as error:
                size = f"{width}x{height}"
                if any(sign in str(error).lower() for sign in _FULL):
                    raise OutOfMemory(f"{self.name} does not have enough memory for {size} pixels.") from error
                raise RunError(
                    f"the network failed on a picture of {size}: {_reason(error)}", code="network-failed"
                ) from error

    @property
    def _sizes_differ(self) -> bool:
        """Whether each size gets a network of its own; on the processor one serves all."""
        return not self._on_processor

    def _compiled(self, key: _Key) -> list[InferRequest]:
        """Return the requests of a compiled network."""
        if key in self._requests:
            self._requests.move_to_end(key)
            return self._requests[key]
        try:
            network = self._network_for(key)
            parts = _with_exact_end(network, self._exact_from) if self._exact_from else [(network, {})]
            with checked_folder(_folder(), self._request.model.sha256, self.precision, key, self._options) as cache:
                requests = [
                    _core()
                    .compile_model(part, self.device.upper(), self._options | changes | cache)
                    .create_infer_request()
                    for part, changes in parts
                ]
        except RuntimeError as error:
            raise ModelError(
                f"{self.name} cannot run the model: {_reason(error)}", code="model-not-runnable"
            ) from error
        self._requests[key] = requests
        if self._sizes_differ and len(self._requests) > _KEPT_SIZES:
            self._requests.popitem(last=False)
        return requests

    def _network_for(self, key: _Key) -> Network:
        scale = self.traits.scale
        network = (
            in_whole_numbers(self._network, scale=scale, on_processor=self._on_processor)
            if key.whole_numbers
            else self._network.clone()
        )
        if any(key.margins):
            axes = (1, 2) if key.whole_numbers else (2, 3)
            network = without_margins(network, key.margins, scale=scale, axes=axes)
        if key.shape:
            network.reshape(list(key.shape))
        return network


def _own_network(request: Request, path: Path) -> Network | None:
    """The network built from its weights, where that is faster than the exported graph."""
    if request.device != "cpu" or request.model.architecture != "grl":
        return None
    return grl_network(path, dict(request.model.card.get("hyper", {})), request.model.traits.scale)


def _exact_from(network: Network, request: Request) -> str | None:
    """The layer before which a network is cut in two, None where it is computed whole."""
    layer = _EXACT_FROM.get(request.model.architecture)
    names = {node.get_friendly_name() for node in network.get_ops()} if layer else set[str]()
    return layer if layer in names else None


def _with_exact_end(network: Network, layer: str) -> list[tuple[Network, dict[str, str]]]:
    """Cut a network in two before a layer; the second part, which also gets the picture, is computed in fp32."""
    openvino = import_openvino()
    nodes = importlib.import_module("openvino.opset13")
    first, second = network, network.clone()
    before, after = (_first_of(part, layer) for part in (first, second))
    source = before.input_value(0)
    values = nodes.parameter(source.get_partial_shape(), openvino.Type.f32)
    after.input(0).replace_source_output(values.output(0))
    pictures = second.get_parameters()
    return [
        (openvino.Model([source], first.get_parameters(), "begin"), {}),
        (openvino.Model(second.get_results(), [values, *pictures], "end"), {"INFERENCE_PRECISION_HINT": "f32"}),
    ]


def _first_of(network: Network, layer: str) -> Node:
    return next(node for node in network.get_ordered_ops() if node.get_friendly_name().startswith(layer))


def _folder() -> Path:
    from apisr.weights.releases import cache_folder

    return cache_folder().parent / "openvino"


@lru_cache(maxsize=1)
def _core() -> Any:
    return import_openvino().Core()


def _held_to() -> str:
    """The instructions that the kernels are held to by a variable; empty where they may use all."""
    return next((os.environ[name].upper() for name in _HELD_BY if os.environ.get(name)), "")


def _processor_has_bf16() -> bool:
    """Whether the processor has units for bf16, and the kernels may use them."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") and _held_to() not in _WITHOUT_BF16


def _hint(precision: Precision, device: str) -> str:
    """The precision that OpenVINO is asked for; on a processor without units for bf16 that is fp32."""
    return "f32" if precision == "bf16" and device == "cpu" and not _processor_has_bf16() else _HINTS[precision]


def _kept_int8(network: Network, sha256: str) -> Network:
    """The network in 8-bit integers, made once: calibrating takes longer than the start of the program."""
    openvino = import_openvino()
    path = _folder() / f"int8-{sha256[:24]}-{__version__}-{_GRAPH}.xml"
    try:
        with wait_for_lock(path.with_suffix(".lock")):
            if not (is_whole(path) and is_whole(path.with_suffix(".bin"))):
                for old in (path, path.with_suffix(".bin")):
                    sum_path(old).unlink(missing_ok=True)
                made = in_int8(network, _run_in_fp32)
                with tempfile.TemporaryDirectory(dir=path.parent) as folder:
                    new = Path(folder) / path.name
                    openvino.save_model(made, str(new), compress_to_fp16=False)
                    new.with_suffix(".bin").replace(path.with_suffix(".bin"))
                    new.replace(path)
                seal(path)
                seal(path.with_suffix(".bin"))
            return _core().read_model(str(path))
    except (OSError, RuntimeError):  # a read-only home, or a file that was damaged: made for this run
        return in_int8(network, _run_in_fp32)


def _run_in_fp32(network: Network, picture: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    request = _core().compile_model(network, "CPU", options).create_infer_request()
    request.infer([picture])
    return [np.array(tensor.data, np.float32) for tensor in request.output_tensors]


def _read(path: Path, name: str) -> Network:
    try:
        return _core().read_model(str(path))
    except RuntimeError as error:
        raise ModelError(f"{name} cannot read '{path}': {_reason(error)}", code="model-not-runnable") from error


def _reason(error: BaseException) -> str:
    """The last line of OpenVINO's message: those before it are places in its source."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1][:300] if lines else first_line(error)


def _devices() -> dict[str, str]:
    if importlib.util.find_spec("openvino") is None:
        return {}
    core = _core()
    names: list[str] = [name for name in core.available_devices if name != "CPU" or _held_to() != _TOO_FEW]
    found = {name.lower(): str(core.get_property(name, "FULL_DEVICE_NAME")) for name in names}
    return dict(sorted(found.items(), key=lambda item: not item[0].startswith("gpu")))


def _precisions(device: str, model: Model) -> tuple[Precision, ...]:
    capabilities: list[str] = _core().get_property(device.upper(), "OPTIMIZATION_CAPABILITIES")
    if device == "cpu":
        short: tuple[Precision, ...] = ("int8",) if "INT8" in capabilities and suits_int8(model) else ()
        return (*short, "bf16", "fp32") if _processor_has_bf16() else (*short, "fp32")
    return ("fp16", "fp32") if "FP32" in capabilities else ("fp16",)


def _version() -> str:
    held = f", held to {_held_to()}" if _held_to() else ""
    return f"openvino {import_openvino().get_version()}, graph {_GRAPH}{held}"


ENGINE = EngineKind(
    name="openvino",
    package="openvino",
    extra="openvino",
    devices=_devices,
    runs=runs_as_onnx,
    precisions=_precisions,
    open=OpenvinoEngine,
    version=_version,
    rank=10,
)
