"""ONNX files in reduced precision: float16 weights and arithmetic, or 8-bit integers calibrated on pictures.

>>> reduce_precision(Path("a.onnx"), Path("b.onnx"), "fp16", [])     # doctest: +SKIP
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apisr.core.errors import MissingExtra, ModelError
from apisr.core.telemetry import disable_onnxruntime_telemetry


def reduce_precision(source: Path, target: Path, precision: str, pictures: Sequence[NDArray[np.float32]]) -> None:
    """Write an ONNX file in another precision; how accurate it is must be measured afterwards.

    Args:
        source: the float32 file.
        target: the file to write.
        precision: ``fp32`` (a copy), ``fp16`` or ``int8``.
        pictures: (3, H, W) in [0, 1], for the calibration of int8.

    Raises:
        ModelError: the graph cannot be converted.
        MissingExtra: the package onnx is not installed.
    """
    if precision == "fp16":
        _to_half(source, target)
    elif precision == "int8":
        _to_int8(source, target, pictures)
    else:
        target.write_bytes(source.read_bytes())


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
            raise ModelError(
                "the graph cannot be converted to fp16: its nodes form a circle. Export it as fp32.",
                code="cannot-convert",
            )
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
