"""Metrics that are networks: ST-LPIPS, and any metric of the library pyiqa (extra ``eval``).

pyiqa downloads a metric's weights when it is first used. Where that is not possible the metric is undefined on this
machine, and the reason is said. ``st-lpips`` needs torch and the package ``stlpips_pytorch``, which holds its weights.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import socket
import warnings
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np

from apisr.core.errors import MissingExtra
from apisr.image.types import ImageU8
from apisr.metrics.metric import Direction, Metric, Undefined, finite

if TYPE_CHECKING:
    from torch import Tensor

#: Seconds without a byte after which a download of weights is given up.
_ANSWER_S = 30.0


def pyiqa_names(*, without_reference: bool = False) -> tuple[str, ...]:
    """Return the names of pyiqa's metrics; none where it is not installed, or not whole."""
    try:
        pyiqa = _pyiqa()
    except ModuleNotFoundError:
        return ()
    return tuple(str(name) for name in pyiqa.list_models(metric_mode="NR" if without_reference else None))


def open_pyiqa(name: str, pyiqa_name: str, *, device: str = "cpu", seed: int = 0) -> Metric:
    """Open a metric of pyiqa.

    Args:
        name: how it is called in reports.
        pyiqa_name: how pyiqa calls it; it must be one of :func:`pyiqa_names`.
        device: ``auto``, ``cpu``, ``cuda``, ...
        seed: torch's generator is set to it before each picture, for metrics that draw crops.

    Raises:
        MissingExtra: pyiqa is not installed, or not whole.
        Undefined: its weights cannot be had.
    """
    try:
        pyiqa = _pyiqa()
    except ModuleNotFoundError as error:
        raise missing_pyiqa(name) from error
    import torch

    target = device if device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        with _quiet(), _network_timeout():
            network = pyiqa.create_metric(pyiqa_name, device=target, as_loss=False)
    except Exception as error:  # the library lets every error of its downloads through
        raise Undefined(f"pyiqa could not load its weights ({_first_line(error)})", code="no-weights") from error
    better: Direction = "lower" if bool(network.lower_better) else "higher"
    compares = str(network.metric_mode) == "FR"

    def tensor(picture: ImageU8) -> Tensor:
        values = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
        return values.to(target, torch.float32)[None] / 255

    def score(output: ImageU8, reference: ImageU8 | None) -> float:
        if compares and reference is None:
            raise Undefined("there is no ground truth to compare with", code="no-reference")
        with torch.no_grad(), torch.random.fork_rng(), _quiet():
            torch.manual_seed(seed)
            try:
                pictures = [output] if reference is None or not compares else [output, reference]
                value = network(*(tensor(picture) for picture in pictures))
            except (RuntimeError, ValueError, AssertionError, IndexError) as error:
                raise Undefined(f"pyiqa: {_first_line(error)}") from error
        return finite(float(value), name)

    version = getattr(pyiqa, "__version__", "")
    return Metric(
        name=name,
        title=name,
        better=better,
        needs_reference=compares,
        source=f"pyiqa {version} '{pyiqa_name}'".replace("  ", " "),
        score=score,
        learned=True,
    )


def missing_pyiqa(name: str) -> MissingExtra:
    """Return the error for a metric that pyiqa may have, where pyiqa cannot be loaded; it says which module is missing.

    Args:
        name: of the metric.
    """
    try:
        _pyiqa()
    except ModuleNotFoundError as error:
        if error.name not in (None, "pyiqa"):
            return MissingExtra(
                "eval", f"for the metric '{name}' (pyiqa needs the package '{error.name}', which is not installed)"
            )
    return MissingExtra("eval", f"for the metric '{name}'")


def _pyiqa() -> Any:
    with _quiet():
        return importlib.import_module("pyiqa")


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Keep pyiqa's dependencies from talking about themselves."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _network_timeout() -> Generator[None]:
    """Let downloads end that get no answer (torch's and pyiqa's wait for ever by default)."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_ANSWER_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__
