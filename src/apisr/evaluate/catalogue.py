"""Metrics by name: the built-in ones, and any other through pyiqa (extra ``eval``).

    >>> open_metric("psnr", border_px=8).info.better
    'higher'

Adding a metric: a pure function in :mod:`apisr.metrics` and one entry of `_BUILT_IN`. A value that does not exist is an
:class:`apisr.metrics.Undefined` with the reason, never 0 or NaN.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from apisr import metrics
from apisr.core.errors import InputError
from apisr.metrics import Rgb, Undefined

Direction = Literal["higher", "lower", "zero"]


@dataclass(frozen=True)
class Metric:
    """A metric that is ready to run.

    Attributes:
        name: as in `--metrics` and in the report.
        title: for people.
        better: which values are better; ``zero`` means nearer to 0.
        unit: ``dB``, ``px`` or nothing.
        needs_reference: whether it compares with ground truth.
        source: definition and origin of weights, one sentence.
        score: output and reference (None without) -> value. Raises Undefined.
        on_crops: whether the protocol's crops apply (learned no-reference metrics).
    """

    name: str
    title: str
    better: Direction
    unit: str
    needs_reference: bool
    source: str
    score: Callable[[Rgb, Rgb | None], float]
    on_crops: bool = False


@dataclass(frozen=True)
class _BuiltIn:
    title: str
    better: Direction
    unit: str
    source: str
    compare: Callable[[Rgb, Rgb, int], float] | None = None
    judge: Callable[[Rgb, int], float] | None = None


_BUILT_IN: dict[str, _BuiltIn] = {
    "psnr": _BuiltIn(
        "PSNR", "higher", "dB", "RGB, 8 bit, peak 255", lambda o, r, border: metrics.psnr(o, r, border_px=border)
    ),
    "psnr_y": _BuiltIn(
        "PSNR of luma",
        "higher",
        "dB",
        "luma of BT.601 from 16 to 235 (MATLAB rgb2ycbcr), peak 255",
        lambda o, r, border: metrics.psnr(o, r, border_px=border, channel="y"),
    ),
    "ssim": _BuiltIn(
        "SSIM",
        "higher",
        "",
        "scikit-image's default (7x7 uniform window), mean of the channels, data range 255",
        lambda o, r, border: metrics.ssim(o, r, border_px=border),
    ),
    "ms_ssim": _BuiltIn(
        "MS-SSIM",
        "higher",
        "",
        "Wang 2003, luma, five scales",
        lambda o, r, border: metrics.ms_ssim(o, r, border_px=border),
    ),
    "niqe": _BuiltIn(
        "NIQE",
        "lower",
        "",
        "Mittal 2013 with the parameters of the authors' release, details as in pyiqa",
        judge=lambda o, border: metrics.niqe(o, border_px=border),
    ),
    "edge_f1": _BuiltIn(
        "Edge F1",
        "higher",
        "",
        "Canny edges of luma, matched within 1 pixel",
        lambda o, r, border: metrics.edge_f1(o, r, border_px=border).f1,
    ),
    "line_width": _BuiltIn(
        "Line width change",
        "zero",
        "px",
        "mean change of the full width at half depth along the ground truth's dark lines; positive is thicker",
        lambda o, r, border: metrics.line_change(o, r, border_px=border).change_px,
    ),
    "line_lost": _BuiltIn(
        "Lines lost",
        "lower",
        "",
        "share of the ground truth's line points that are less than a quarter as deep",
        lambda o, r, border: metrics.line_change(o, r, border_px=border).lost_share,
    ),
}

#: Flicker is a property of a clip, not of a picture: it is computed for every clip whose held drawings are known.
FLICKER = "flicker"
FLICKER_TITLE = "Flicker of held drawings"
FLICKER_SOURCE = "mean absolute luma change, in 8-bit levels, between neighbouring frames that show one drawing"

_ALIASES = {"maniqa-koniq": "maniqa"}
_AMBIGUOUS = {
    "maniqa": "MANIQA has several sets of weights whose scores cannot be compared. Write maniqa-koniq or maniqa-pipal."
}


def built_in_names() -> tuple[str, ...]:
    """Names of the metrics that need no extra."""
    return tuple(_BUILT_IN)


def open_metric(name: str, *, border_px: int, device: str = "cpu", seed: int = 0) -> Metric:
    """Make a metric ready to run.

    Args:
        name: a built-in name, ``st-lpips``, or any name that pyiqa knows.
        border_px: cut at each side before a built-in metric looks.
        device: for metrics that are networks.
        seed: for metrics that draw random numbers.

    Raises:
        InputError: no such metric, or a name that leaves the weights open.
        MissingExtra: it needs an extra that is not installed.
        Undefined: it cannot be computed on this machine (its weights cannot be had); the message is the reason.
    """
    if name in _AMBIGUOUS:
        raise InputError(f"unknown metric '{name}': {_AMBIGUOUS[name]}")
    if name in _BUILT_IN:
        return _open_built_in(name, border_px)
    if name == "st-lpips":
        from apisr.evaluate.st_lpips import open_st_lpips

        return open_st_lpips(device=device)
    from apisr.evaluate.learned import open_learned

    return open_learned(name, _ALIASES.get(name, name), device=device, seed=seed)


def unknown_metric(name: str, known: tuple[str, ...]) -> InputError:
    """Return the error for a name that no metric has, with the nearest one."""
    near = difflib.get_close_matches(name, _BUILT_IN, n=1, cutoff=0.8) or difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean '{near[0]}'?" if near else f"Built in: {', '.join(_BUILT_IN)}; others by their name in pyiqa."
    return InputError(f"unknown metric '{name}'. {hint}")


def finite(value: float, what: str) -> float:
    """Return the value if it is a number.

    Raises:
        Undefined: it is infinite or NaN.
    """
    if not math.isfinite(value):
        raise Undefined(f"{what} gave {value}")
    return value


def _open_built_in(name: str, border_px: int) -> Metric:
    entry = _BUILT_IN[name]

    def score(output: Rgb, reference: Rgb | None) -> float:
        if entry.judge is not None:
            return finite(entry.judge(output, border_px), name)
        if entry.compare is None or reference is None:
            raise Undefined("there is no ground truth to compare with")
        return finite(entry.compare(output, reference, border_px), name)

    return Metric(name, entry.title, entry.better, entry.unit, entry.compare is not None, entry.source, score)
