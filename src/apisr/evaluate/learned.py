"""Metrics that are networks, through the library pyiqa (extra ``eval``).

MANIQA, CLIPIQA, LPIPS, DISTS and any other, by pyiqa's name.
pyiqa downloads a metric's weights when it is first used. Where that is not possible the metric is absent, and the
report says so.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import io
import socket
import warnings
from collections.abc import Generator
from typing import Any

import numpy as np

from apisr.core.errors import MissingExtra
from apisr.evaluate.catalogue import Direction, Metric, built_in_names, finite, unknown_metric
from apisr.metrics import Rgb, Undefined

#: Seconds without a byte after which a download of weights is given up.
_ANSWER_S = 30.0


def open_learned(name: str, pyiqa_name: str, *, device: str = "cpu", seed: int = 0) -> Metric:
    """Open a metric of pyiqa.

    Args:
        name: how it is called in the report.
        pyiqa_name: how pyiqa calls it.
        device: ``auto``, ``cpu``, ``cuda``, ...
        seed: torch's generator is set to it before each picture, for metrics that draw crops.

    Raises:
        MissingExtra: pyiqa is not installed.
        InputError: pyiqa knows no such metric.
        Undefined: its weights cannot be had.
    """
    if importlib.util.find_spec("pyiqa") is None:
        if difflib.get_close_matches(name, built_in_names(), n=1, cutoff=0.85):  # more likely a slip than a metric
            raise unknown_metric(name, built_in_names())
        raise MissingExtra("eval", f"for the metric '{name}'")
    import torch

    target = device if device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of pyiqa's dependencies, about themselves
        pyiqa: Any = importlib.import_module("pyiqa")
        known = tuple(str(entry) for entry in pyiqa.list_models())
        if pyiqa_name not in known:
            raise unknown_metric(name, known)
        try:
            with _network_timeout():
                network: Any = pyiqa.create_metric(pyiqa_name, device=target, as_loss=False)
        except Exception as error:  # the library lets every error of its downloads through
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise Undefined(f"pyiqa could not load its weights ({reason[:160]})") from error
    better: Direction = "lower" if bool(network.lower_better) else "higher"
    compares = str(network.metric_mode) == "FR"

    def tensor(picture: Rgb) -> Any:
        values = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
        return values.to(target, torch.float32)[None] / 255

    def score(output: Rgb, reference: Rgb | None) -> float:
        if compares and reference is None:
            raise Undefined("there is no ground truth to compare with")
        with torch.no_grad(), torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            try:
                pictures = [output] if reference is None or not compares else [output, reference]
                value = network(*(tensor(picture) for picture in pictures))
            except (RuntimeError, ValueError, AssertionError, IndexError) as error:
                raise Undefined(f"pyiqa: {str(error).strip().splitlines()[0][:160] or type(error).__name__}") from error
        return finite(float(value), name)

    version = getattr(pyiqa, "__version__", "")
    return Metric(
        name,
        name,
        better,
        "",
        compares,
        f"pyiqa {version} '{pyiqa_name}'".replace("  ", " "),
        score,
        on_crops=not compares,
    )


@contextlib.contextmanager
def _network_timeout() -> Generator[None]:
    """Let downloads end that get no answer (torch's and pyiqa's wait for ever by default)."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_ANSWER_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
