"""What an ONNX file says of itself, and finding out by running it where it says nothing.

Files written by :mod:`apisr.weights.export` hold these metadata entries (all text):

    apisr.scale         "2"
    apisr.halo_px       "20", or "" when the picture must not be cut
    apisr.multiple_px   "2"
    apisr.rim_px        "4", or "" or nothing where it was not measured
    apisr.architecture  "compact"
    apisr.card          the card as JSON
    apisr.sha256        of all other bytes of the file, checked before anything else is believed

A foreign file is run on small pictures: the scale is the ratio of the sizes, the multiple is found by trying sizes, and
the halo by comparing cut tiles with the whole.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from apisr.core.errors import MissingExtra, ModelError
from apisr.core.files import sha256_file
from apisr.core.telemetry import import_onnxruntime
from apisr.networks import ModelTraits
from apisr.weights.formats.onnx import check_sha256, read_metadata
from apisr.weights.model import CardDict, Model, from_card

#: A tile may differ from the whole picture by this much (a quarter of an 8-bit step) where a foreign file is probed.
PROBE_TOLERANCE = 1e-3
PROBE_HALOS_PX = (8, 16, 24, 32, 48, 64)


def read_onnx_model(path: Path) -> Model:
    """Read the scale, halo and card of an ONNX file; probe it when it has none of ours.

    Raises:
        ModelError: not an ONNX file, damaged, or not a network that maps pictures to pictures.
    """
    check_sha256(path)
    metadata = read_metadata(path)
    sha256 = sha256_file(path)
    if "apisr.scale" not in metadata:
        return _probe(path, sha256)
    try:
        halo, rim = metadata["apisr.halo_px"], metadata.get("apisr.rim_px")
        card: CardDict = {
            **json.loads(metadata.get("apisr.card", "{}")),
            "scale": int(metadata["apisr.scale"]),
            "halo_px": int(halo) if halo else None,
            "multiple_px": int(metadata["apisr.multiple_px"]),
            "rim_px": int(rim) if rim else None,
            "architecture": metadata["apisr.architecture"],
        }
        return from_card(card, path, sha256=sha256)
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise ModelError(
            f"the metadata of '{path}' are damaged ({error!r}). Export the model again.", code="model-metadata-damaged"
        ) from error


class _Prober:
    """Runs a foreign file on small pictures, whatever its input's name and type."""

    def __init__(self, path: Path) -> None:
        try:
            onnxruntime = import_onnxruntime()
        except ImportError as error:
            raise MissingExtra("torch", f"to find the scale of '{path}' (package onnxruntime)") from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
        except Exception as error:
            raise ModelError(
                f"cannot load the model '{path}': {_first_line(error)}", code="model-not-runnable"
            ) from error
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[1] not in (3, "3"):
            shapes = "; ".join(f"{value.name} {value.shape}" for value in inputs)
            raise ModelError(
                f"'{path}' does not map pictures to pictures: expected one input (N, 3, H, W), found {shapes}.",
                code="not-an-upscaler",
            )
        self.input_name = inputs[0].name
        self.dtype = np.float16 if inputs[0].type == "tensor(float16)" else np.float32
        height, width = inputs[0].shape[2:]
        self.fixed_size = (height, width) if isinstance(height, int) and isinstance(width, int) else None

    def run(self, picture: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Run ``(3, H, W)``; None if the file does not accept the size."""
        try:
            (output,) = self.session.run(None, {self.input_name: picture[None].astype(self.dtype)})
        except Exception:  # noqa: BLE001 - onnxruntime raises many kinds; each means that the size does not fit
            return None
        return np.asarray(output, np.float32)[0]


def _probe(path: Path, sha256: str) -> Model:
    prober = _Prober(path)
    rng = np.random.default_rng(0)
    if prober.fixed_size is not None:
        height, width = prober.fixed_size
        output = prober.run(rng.random((3, height, width), dtype=np.float32))
        scale = _ratio(path, output, (height, width))
        return Model(path.stem, path, "foreign", ModelTraits(scale, None, 1, prober.fixed_size), {}, sha256)
    output = prober.run(rng.random((3, 64, 64), dtype=np.float32))
    scale = _ratio(path, output, (64, 64))
    multiple = 64
    for candidate in (1, 2, 4, 8, 16, 32):
        height, width = 64 + candidate, 64 - candidate
        result = prober.run(rng.random((3, height, width), dtype=np.float32))
        if result is not None and result.shape == (3, scale * height, scale * width):
            multiple = candidate
            break
    halo, multiple = _probe_halo(prober, scale, multiple, rng)
    return Model(path.stem, path, "foreign", ModelTraits(scale, halo, multiple), {}, sha256)


def _probe_halo(prober: _Prober, scale: int, multiple: int, rng: np.random.Generator) -> tuple[int | None, int]:
    """Return the smallest halo with which a cut tile gives the whole picture's values, and the grid on which it does.

    Networks with windows accept any size (they pad) but care where the windows start: if no halo works on the grid
    that the sizes allow, the grids of 8 and 16 are tried.
    """
    core, largest = 16, max(PROBE_HALOS_PX)
    size = 2 * largest + 64
    picture = rng.random((3, size, size), dtype=np.float32)
    whole = prober.run(picture)
    if whole is None:
        return None, multiple
    grids = [multiple, *(grid for grid in (8, 16) if grid > multiple)]
    for grid in grids:
        start = largest // grid * grid + grid  # a tile origin on this grid and, as far as possible, on no coarser one
        for halo in PROBE_HALOS_PX:
            if halo % grid:
                continue
            low, high = start - halo, start + core + halo
            if low < 0:
                continue
            part = prober.run(picture[:, low:high, low:high])
            if part is None:
                break
            inner = part[:, halo * scale : (halo + core) * scale, halo * scale : (halo + core) * scale]
            expected = whole[:, start * scale : (start + core) * scale, start * scale : (start + core) * scale]
            if inner.shape == expected.shape and float(np.abs(inner - expected).max()) <= PROBE_TOLERANCE:
                return halo, grid
    return None, multiple


def _ratio(path: Path, output: NDArray[np.float32] | None, size: tuple[int, int]) -> int:
    if output is None or output.ndim != 3 or output.shape[0] != 3:
        found = "an error" if output is None else f"shape {output.shape}"
        raise ModelError(
            f"'{path}' does not map pictures to pictures: a {size[1]}x{size[0]} picture gave {found}.",
            code="not-an-upscaler",
        )
    scale = output.shape[1] // size[0]
    if scale < 1 or output.shape[1:] != (scale * size[0], scale * size[1]):
        raise ModelError(
            f"'{path}' changes a {size[1]}x{size[0]} picture to {output.shape[2]}x{output.shape[1]}: "
            "not a whole scale.",
            code="not-an-upscaler",
        )
    return scale


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
