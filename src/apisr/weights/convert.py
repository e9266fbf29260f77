"""From a checkpoint to an ONNX file in a chosen precision, refused where the precision does not hold.

Half precision stores the weights as float16 and computes in float16 where the runtime can; int8 quantises weights and
activations of convolutions and matrix products (calibrated on drawn pictures). Both are measured against the float32
network on pictures that were not used for calibration, and refused below 50 dB (fp16) and 40 dB (int8).

    >>> report = convert(Path("a.pth"), Path("a.onnx"), precision="fp16")      # doctest: +SKIP
    >>> report.psnr_db                                                         # doctest: +SKIP
    68.2
"""

from __future__ import annotations

import logging
import math
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apisr.core.errors import MissingExtra, ModelError
from apisr.core.files import atomic_path
from apisr.core.telemetry import disable_onnxruntime_telemetry
from apisr.weights.checkpoint import Checkpoint, load_network, read_checkpoint
from apisr.weights.export import OPSET, embed_card, export_onnx, run_onnx
from apisr.weights.model import Model, resolve_model

#: Lowest PSNR against float32 with which a precision is offered, in dB.
PRECISIONS = {"fp32": 80.0, "fp16": 50.0, "int8": 40.0}


@dataclass(frozen=True)
class ExportReport:
    """What :func:`convert` wrote.

    Attributes:
        architecture: name of the network.
        scale: output size over input size.
        largest_difference: between the checkpoint in float32 and the file, values in [0, 1].
        psnr_db: the same as a PSNR.
        size_bytes: of the file.
    """

    architecture: str
    scale: int
    largest_difference: float
    psnr_db: float
    size_bytes: int


def convert(
    source: Path,
    output: Path,
    *,
    precision: str = "fp32",
    tile_px: int | None = None,
    opset: int = OPSET,
    pictures: Sequence[NDArray[np.float32]] | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Write the ONNX form of a checkpoint and compare both.

    Args:
        source: a checkpoint, or the name of a fetched model.
        output: the ``.onnx`` file.
        precision: a key of :data:`PRECISIONS`.
        tile_px: accept only squares of this side; None accepts any size.
        opset: version of the operator set.
        pictures: (3, H, W) in [0, 1], for calibration and measurement; None draws some.
        overwrite: replace an existing file.

    Raises:
        ModelError: not a checkpoint of a network that enlarges, a tile that does not fit it, or a precision that does
            not hold.
    """
    model = resolve_model(source if source.is_file() else str(source))
    if model.format == "onnx":
        if tile_px is not None:
            raise ModelError(f"'{source}' is an ONNX file: its sizes cannot be fixed. Export the checkpoint.")
        return convert_file(model, output, precision=precision, pictures=pictures, overwrite=overwrite)
    checkpoint = read_checkpoint(model.path)
    network, hyper = checkpoint.network, checkpoint.hyper
    if network.kind != "upscaler":
        raise ModelError(f"'{source}' holds {network.title}: only networks that enlarge pictures can be exported.")
    traits = network.traits(hyper)
    if tile_px is not None and (tile_px < 16 or tile_px % traits.multiple_px):
        raise ModelError(
            f"tiles of {tile_px} pixels do not fit {network.name}: give a multiple of {traits.multiple_px}."
        )
    module = load_network(checkpoint)
    card = _card(checkpoint, source, precision)
    fixed = None if tile_px is None else (tile_px, tile_px)
    test = (
        list(pictures) if pictures is not None else drawn_pictures(6, side=tile_px or 64, multiple=traits.multiple_px)
    )
    with tempfile.TemporaryDirectory(prefix="apisr-") as folder:
        plain = Path(folder) / "fp32.onnx"
        export_onnx(module, plain, traits=traits, card=card, fixed_size=fixed, opset=opset)
        with atomic_path(output, overwrite=overwrite) as partial:
            _reduce(plain, partial, precision, test[: len(test) // 2])
            embed_card(partial, traits=traits, card=card, fixed_size=fixed)
            largest, psnr = _measure(_torch_runner(module), partial, test[len(test) // 2 :])
            _require(psnr, precision, str(source))
    return ExportReport(network.name, traits.scale, largest, psnr, output.stat().st_size)


def convert_file(
    model: Model,
    output: Path,
    *,
    precision: str,
    pictures: Sequence[NDArray[np.float32]] | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Write an ONNX model in another precision and compare both; arguments and errors as in :func:`convert`."""
    traits = model.traits
    side = traits.fixed_size[0] if traits.fixed_size else 64
    test = list(pictures) if pictures is not None else drawn_pictures(6, side=side, multiple=traits.multiple_px)
    card = {**{key: value for key, value in model.card.items() if key != "sha256"}, "precision": precision}
    with atomic_path(output, overwrite=overwrite) as partial:
        _reduce(model.path, partial, precision, test[: len(test) // 2])
        embed_card(
            partial, traits=traits, card={"architecture": model.architecture, **card}, fixed_size=traits.fixed_size
        )
        largest, psnr = _measure(lambda batch: run_onnx(model.path, batch), partial, test[len(test) // 2 :])
        _require(psnr, precision, model.name)
    return ExportReport(model.architecture, model.scale, largest, psnr, output.stat().st_size)


def drawn_pictures(count: int, *, side: int, multiple: int) -> list[NDArray[np.float32]]:
    """Pictures as drawings are: flat areas with dark lines and soft gradients (3, side, side), always the same."""
    import cv2

    side = -(-side // multiple) * multiple
    rng = np.random.default_rng(11)
    result: list[NDArray[np.float32]] = []
    for _ in range(count):
        picture = np.empty((side, side, 3), np.float32)
        picture[:] = rng.random(3) * 0.5 + np.linspace(0, 0.4, side, dtype=np.float32)[:, None, None]
        for _ in range(12):
            corners = rng.integers(0, side, (int(rng.integers(3, 7)), 1, 2)).astype(np.int32)
            cv2.fillPoly(picture, [corners], [float(v) for v in rng.random(3)], cv2.LINE_AA)
            cv2.polylines(picture, [corners], True, [float(v) for v in rng.random(3) * 0.2], 1, cv2.LINE_AA)
        result.append(np.ascontiguousarray(picture.transpose(2, 0, 1)))
    return result


def _card(checkpoint: Checkpoint, source: Path, precision: str) -> dict[str, Any]:
    return {
        "name": source.stem,
        **checkpoint.card,
        "architecture": checkpoint.network.name,
        "hyper": checkpoint.hyper,
        "parameters": checkpoint.parameters,
        "flops_per_pixel": checkpoint.network.flops_per_pixel(checkpoint.hyper),
        "precision": precision,
    }


def _reduce(source: Path, target: Path, precision: str, pictures: Sequence[NDArray[np.float32]]) -> None:
    if precision == "fp16":
        _to_half(source, target)
    elif precision == "int8":
        _to_int8(source, target, pictures)
    else:
        target.write_bytes(source.read_bytes())


def _require(psnr: float, precision: str, name: str) -> None:
    if psnr < PRECISIONS[precision]:
        raise ModelError(
            f"{precision} does not hold for '{name}': {psnr:.1f} dB against fp32, at least "
            f"{PRECISIONS[precision]:.0f} expected. Export it as fp32."
        )


def _torch_runner(module: Any) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    import torch

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return module(torch.from_numpy(batch)).numpy()

    return run


def _measure(
    exact: Callable[[NDArray[np.float32]], NDArray[np.float32]], path: Path, pictures: Sequence[NDArray[np.float32]]
) -> tuple[float, float]:
    largest, squares, count = 0.0, 0.0, 0
    for picture in pictures:
        difference = run_onnx(path, picture[None]) - exact(picture[None])
        largest = max(largest, float(np.abs(difference).max()))
        squares += float(np.square(difference, dtype=np.float64).sum())
        count += difference.size
    return largest, 10 * math.log10(1 / max(squares / count, 1e-20)) if math.isfinite(squares) else 0.0


def _to_half(source: Path, target: Path) -> None:
    disable_onnxruntime_telemetry()
    try:
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16
    except ImportError as error:
        raise MissingExtra("torch", "to write fp16 files") from error
    model = onnx.load(str(source))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values below float16's smallest become zero: measured afterwards
        # Inputs and outputs stay float32: engines need no special case. Norms and softmax keep float32 inside.
        half = convert_float_to_float16(
            model,
            keep_io_types=True,
            op_block_list=["Resize", "LayerNormalization", "Softmax", "ReduceSum", "Sqrt", "Reciprocal"],
        )
    _sort_nodes(half.graph)
    onnx.save(half, str(target))


def _sort_nodes(graph: Any) -> None:
    """Put nodes after those whose results they use (the converter appends its casts at the end)."""
    known = {value.name for value in graph.input} | {value.name for value in graph.initializer} | {""}
    waiting, ordered = list(graph.node), list[Any]()
    while waiting:
        ready = [node for node in waiting if all(name in known for name in node.input)]
        if not ready:
            raise ModelError("the graph cannot be converted to fp16: its nodes form a circle. Export it as fp32.")
        ordered += ready
        known.update(name for node in ready for name in node.output)
        chosen = {id(node) for node in ready}
        waiting = [node for node in waiting if id(node) not in chosen]
    copies = [type(node).FromString(node.SerializeToString()) for node in ordered]
    del graph.node[:]
    graph.node.extend(copies)


def _to_int8(source: Path, target: Path, pictures: Sequence[NDArray[np.float32]]) -> None:
    disable_onnxruntime_telemetry()
    try:
        import onnx
        from onnxruntime.quantization import (
            CalibrationDataReader,
            CalibrationMethod,
            QuantFormat,
            QuantType,
            quantize_static,
        )
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise MissingExtra("torch", "to write int8 files") from error

    input_name: str = onnx.load(str(source), load_external_data=False).graph.input[0].name

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._rest = iter(pictures)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:  # pyright: ignore
            picture = next(self._rest, None)
            return None if picture is None else {input_name: picture[None]}

    prepared = target.with_name("prepared.onnx")
    level = logging.getLogger().level
    try:
        logging.getLogger().setLevel(logging.ERROR)  # the quantiser speaks of every node
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            op_types_to_quantize=["Conv", "MatMul", "Gemm"],
        )
    finally:
        logging.getLogger().setLevel(level)
        prepared.unlink(missing_ok=True)
