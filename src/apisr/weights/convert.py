"""From one model file to another format or precision, refused where the precision is not accurate enough.

Half precision stores the weights as float16 and computes in float16 where the runtime can; int8 quantises weights and
activations of convolutions and matrix products (calibrated on drawn pictures). Both are measured against the float32
network on pictures that were not used for calibration, and refused below 50 dB (fp16) and 40 dB (int8).

    >>> report = convert(Path("a.pth"), Path("a.onnx"), precision="fp16")      # doctest: +SKIP
    >>> report.psnr_db                                                         # doctest: +SKIP
    68.2
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from apisr.core.errors import InputError, ModelError
from apisr.core.files import atomic_path
from apisr.core.worker_folder import temporary_folder
from apisr.weights.checkpoint import Checkpoint, load_network, read_checkpoint, write_checkpoint
from apisr.weights.export import OPSET, embed_card, export_onnx, onnx_runner
from apisr.weights.formats.onnx_probe import read_onnx_model
from apisr.weights.model import CardDict, Model
from apisr.weights.precision import reduce_precision
from apisr.weights.resolve import resolve_model

if TYPE_CHECKING:
    from torch import nn

Runner = Callable[[NDArray[np.float32]], NDArray[np.float32]]

#: Lowest PSNR against float32 with which a precision is offered, in dB.
PRECISIONS = {"fp32": 80.0, "fp16": 50.0, "int8": 40.0}


_SMALLEST_TILE_PX = 16
#: Side of the drawn pictures.
_PICTURE_PX = 64
#: Endings that can be written, and what they are.
FORMATS = {".onnx": "ONNX", ".safetensors": "safetensors", ".pth": "a checkpoint of torch"}


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
    """Write a model in the format that the output's name says and compare both.

    A ``.pth`` or ``.safetensors`` file holds the learned values under the names of the network's original
    implementation, so that other programs load it; ``.onnx`` runs without torch.

    Args:
        source: a model file, or the name of a fetched or shipped model.
        output: the file, ending in a key of :data:`FORMATS`.
        precision: a key of :data:`PRECISIONS`.
        tile_px: accept only squares of this side (ONNX); None accepts any size.
        opset: version of the operator set (ONNX).
        pictures: (3, H, W) in [0, 1], for calibration and measurement; None draws some.
        overwrite: replace an existing file.

    Raises:
        ModelError: not a checkpoint of a network that enlarges, a tile that does not fit it, or a precision that is not
            accurate enough.
        InputError: the ending of the output is not one of those that are written (code ``unknown-model-format``).
    """
    suffix = output.suffix.lower()
    if suffix not in FORMATS:
        listed = ", ".join(FORMATS)
        raise InputError(
            f"cannot write '{output}': expected a name ending in {listed}; found '{suffix}'.",
            code="unknown-model-format",
        )
    model = resolve_model(source if source.is_file() else str(source))
    if suffix != ".onnx":
        if tile_px is not None:
            raise InputError(f"'{output}' has no fixed sizes: --tile goes with .onnx.", code="unknown-model-format")
        return _convert_to_arrays(model, output, precision, pictures=pictures, overwrite=overwrite)
    if model.format == "onnx":
        if tile_px is not None:
            raise ModelError(
                f"'{source}' is an ONNX file: its sizes cannot be fixed. Export the checkpoint.", code="fixed-sizes"
            )
        return convert_file(model, output, precision=precision, pictures=pictures, overwrite=overwrite)
    return _convert_to_onnx(
        read_checkpoint(model.path),
        output,
        precision=precision,
        tile_px=tile_px,
        opset=opset,
        pictures=pictures,
        overwrite=overwrite,
    )


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
    side = traits.fixed_size[0] if traits.fixed_size else _PICTURE_PX
    test = list(pictures) if pictures is not None else drawn_pictures(6, side=side, multiple=traits.multiple_px)
    card = {**{key: value for key, value in model.card.items() if key != "sha256"}, "precision": precision}
    with atomic_path(output, overwrite=overwrite) as partial:
        reduce_precision(model.path, partial, precision, test[: len(test) // 2])
        embed_card(
            partial, traits=traits, card={"architecture": model.architecture, **card}, fixed_size=traits.fixed_size
        )
        largest, psnr = _measure(onnx_runner(model.path), onnx_runner(partial), test[len(test) // 2 :])
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


def _convert_to_onnx(
    checkpoint: Checkpoint,
    output: Path,
    *,
    precision: str,
    tile_px: int | None,
    opset: int,
    pictures: Sequence[NDArray[np.float32]] | None,
    overwrite: bool,
) -> ExportReport:
    _upscaler(checkpoint)
    network = checkpoint.network
    traits = network.traits(checkpoint.hyper)
    if tile_px is not None and (tile_px < _SMALLEST_TILE_PX or tile_px % traits.multiple_px):
        raise ModelError(
            f"tiles of {tile_px} pixels do not fit {network.name}: give a multiple of {traits.multiple_px}.",
            code="bad-tile",
        )
    module = load_network(checkpoint)
    card = _card(checkpoint, precision)
    fixed = None if tile_px is None else (tile_px, tile_px)
    test = list(pictures or drawn_pictures(6, side=tile_px or _PICTURE_PX, multiple=traits.multiple_px))
    with temporary_folder("apisr-convert-") as folder:
        plain = folder / "fp32.onnx"
        export_onnx(module, plain, traits=traits, card=card, fixed_size=fixed, opset=opset)
        with atomic_path(output, overwrite=overwrite) as partial:
            reduce_precision(plain, partial, precision, test[: len(test) // 2])
            embed_card(partial, traits=read_onnx_model(plain).traits, card=card, fixed_size=fixed)
            largest, psnr = _measure(_torch_runner(module), onnx_runner(partial), test[len(test) // 2 :])
            _require(psnr, precision, str(checkpoint.path))
    return ExportReport(network.name, traits.scale, largest, psnr, output.stat().st_size)


def _card(checkpoint: Checkpoint, precision: str) -> CardDict:
    return {
        "name": checkpoint.path.stem,
        **checkpoint.card,
        "architecture": checkpoint.network.name,
        "hyper": checkpoint.hyper,
        "parameters": checkpoint.parameters,
        "flops_per_pixel": checkpoint.network.flops_per_pixel(checkpoint.hyper),
        "precision": precision,
    }


def _require(psnr: float, precision: str, name: str) -> None:
    if psnr < PRECISIONS[precision]:
        raise ModelError(
            f"{precision} is not accurate enough for '{name}' ({psnr:.1f} dB against fp32, "
            f"{PRECISIONS[precision]:.0f} required). Export it as fp32.",
            code="precision-not-accurate",
        )


def _torch_runner(module: nn.Module) -> Runner:
    import torch

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return module(torch.from_numpy(batch)).numpy()

    return run


def _measure(exact: Runner, other: Runner, pictures: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    largest, squares, count = 0.0, 0.0, 0
    for picture in pictures:
        difference = other(picture[None]) - exact(picture[None])
        largest = max(largest, float(np.abs(difference).max()))
        squares += float(np.square(difference, dtype=np.float64).sum())
        count += difference.size
    return largest, 10 * math.log10(1 / max(squares / count, 1e-20)) if math.isfinite(squares) else 0.0


def _upscaler(checkpoint: Checkpoint) -> Checkpoint:
    if checkpoint.network.kind != "upscaler":
        raise ModelError(
            f"'{checkpoint.path}' holds {checkpoint.network.title}: only networks that enlarge pictures can be "
            "exported.",
            code="not-an-upscaler",
        )
    return checkpoint


def _convert_to_arrays(
    model: Model,
    output: Path,
    precision: str,
    *,
    pictures: Sequence[NDArray[np.float32]] | None,
    overwrite: bool,
) -> ExportReport:
    """Write the learned values as a checkpoint of torch or a safetensors file, and compare both."""
    import torch

    if precision == "int8":
        raise InputError(
            f"'{output}' cannot hold int8: only .onnx files can. Use --precision fp32 or fp16.",
            code="unknown-model-format",
        )
    checkpoint = _upscaler(read_checkpoint(model.path))
    network, traits = checkpoint.network, checkpoint.network.traits(checkpoint.hyper)
    exact = load_network(checkpoint)
    state = {
        name: value.half() if precision == "fp16" and value.is_floating_point() else value
        for name, value in checkpoint.state.items()
    }
    test = list(pictures or drawn_pictures(3, side=_PICTURE_PX, multiple=traits.multiple_px))
    largest, psnr = _measure(_torch_runner(exact), _torch_runner(load_network(replace(checkpoint, state=state))), test)
    _require(psnr, precision, model.name)
    card = _card(checkpoint, precision)
    if output.suffix.lower() == ".pth":
        with atomic_path(output, overwrite=overwrite) as partial:
            torch.save({"params_ema": {name: value.contiguous().clone() for name, value in state.items()}}, partial)
    else:
        write_checkpoint(replace(checkpoint, state=state, card=card), output, overwrite=overwrite)
    return ExportReport(network.name, traits.scale, largest, psnr, output.stat().st_size)
