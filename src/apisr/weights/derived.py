"""Files made from a model and kept in the cache: a checkpoint as ONNX, an ONNX file in another precision.

They are named by the SHA-256 of the model they were made from, so that a changed file makes a new one.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from apisr.core.errors import ModelError
from apisr.core.files import sha256_file
from apisr.core.locks import wait_for_lock
from apisr.weights.formats.onnx import check_sha256
from apisr.weights.releases import cache_folder

if TYPE_CHECKING:
    from apisr.weights.model import Model

#: Raised when what the files hold changes.
_FORMAT = 2


def as_onnx(model: Model, precision: str = "fp32") -> Model:
    """Return the model as an ONNX file in a precision, made and kept in the cache where it is not one already.

    Args:
        model: any model.
        precision: ``fp32`` or ``bf16`` (both take the fp32 file), ``fp16`` or ``int8``.

    Raises:
        ModelError: the precision is not accurate enough for the network, or the network cannot be exported.
        MissingExtra: torch or onnx is needed and not installed.
    """
    stored = "fp32" if precision == "bf16" else precision
    if model.format == "onnx" and (stored == "fp32" or model.card.get("precision") == stored):
        return model
    folder = cache_folder().parent / "derived"
    path = folder / f"{(model.sha256 or sha256_file(model.path))[:24]}-{stored}-{_FORMAT}.onnx"
    with wait_for_lock(path.with_suffix(".lock")):
        if not _is_whole(path):
            path.unlink(missing_ok=True)
            _make(model, path, stored)
    return replace(model, path=path, sha256=sha256_file(path))


def _is_whole(path: Path) -> bool:
    """Whether a file was made before and has the bytes that it was made with."""
    try:
        check_sha256(path)
    except ModelError:
        return False
    return True


def _make(model: Model, path: Path, precision: str) -> None:
    from apisr.weights.convert import convert, convert_file

    if model.format == "onnx":
        convert_file(model, path, precision=precision)
    else:
        convert(model.path, path, precision=precision)
    try:
        model.check_unchanged()
    except ModelError:  # what was made is kept under the SHA-256 of another file
        path.unlink(missing_ok=True)
        raise
