"""Validation on fixed pairs: full pictures, the scores of :mod:`apisr.metrics`, and panels to look at.

Scores are computed on 8-bit pictures with a rim cut off, as in our published tables, so that a validation score and an
evaluation score are the same number.

    >>> better("psnr", 30.0, 29.0), better("niqe", 5.0, 6.0), better("psnr", 30.0, None)
    (True, True, True)
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from apisr import metrics
from apisr.core.errors import InputError
from apisr.image import from_float, from_tensor, is_picture_name, read_rgb, to_float, to_tensor
from apisr.metrics.registry import open_metric
from apisr.train.config import PairSet, ValidationConfig

Rgb = NDArray[np.uint8]


@dataclass(frozen=True)
class Pair:
    """A picture to enlarge and what it should become.

    Attributes:
        group: name of the set.
        name: file name without ending.
        low: low-resolution file.
        high: high-resolution file.
    """

    group: str
    name: str
    low: Path
    high: Path


@dataclass
class Scores:
    """What a validation found.

    Attributes:
        sums: set -> metric -> (sum, number of pictures); a picture for which a score does not exist is not counted.
        panels: name -> picture with low (enlarged without smoothing), output and high side by side.
    """

    sums: dict[str, dict[str, tuple[float, int]]] = field(default_factory=dict[str, dict[str, tuple[float, int]]])
    panels: dict[str, Rgb] = field(default_factory=dict[str, Rgb])

    def means(self) -> dict[str, float]:
        """``SET/METRIC`` -> mean, and ``METRIC`` -> mean over the sets."""
        result: dict[str, float] = {}
        by_metric: dict[str, list[float]] = {}
        for group, scores in self.sums.items():
            for metric, (total, count) in scores.items():
                if count:
                    result[f"{group}/{metric}"] = total / count
                    by_metric.setdefault(metric, []).append(total / count)
        return result | {metric: float(np.mean(values)) for metric, values in by_metric.items()}


def find_pairs(sets: Sequence[PairSet]) -> list[Pair]:
    """List the pairs: files of the low folder whose stem is in the high folder too.

    Raises:
        InputError: a folder is missing or has no pairs, or a low picture has no partner.
    """
    pairs: list[Pair] = []
    for chosen in sets:
        for folder in (chosen.low, chosen.high):
            if not folder.is_dir():
                raise InputError(f"validation set '{chosen.name}': no such folder: '{folder}'.")
        high = {path.stem: path for path in sorted(chosen.high.iterdir()) if is_picture_name(path)}
        low = sorted(path for path in chosen.low.iterdir() if is_picture_name(path))
        lonely = [path for path in low if path.stem not in high]
        if not low or lonely:
            what = (
                f"'{lonely[0].name}' has no partner in '{chosen.high}'" if lonely else f"no pictures in '{chosen.low}'"
            )
            raise InputError(f"validation set '{chosen.name}': {what}. Expected the same names in both folders.")
        low = low[: chosen.limit] if chosen.limit else low
        pairs += [Pair(chosen.name, path.stem, path, high[path.stem]) for path in low]
    return pairs


def validate(
    module: nn.Module,
    pairs: Sequence[Pair],
    config: ValidationConfig,
    *,
    scale: int,
    multiple_px: int,
    device: torch.device,
    panel_names: Sequence[tuple[str, str]] = (),
) -> Scores:
    """Enlarge every low picture with `module` (evaluation mode, float32) and score it.

    Args:
        module: the network.
        pairs: the pictures of this process.
        config: metrics and rim.
        scale: of the network.
        multiple_px: sizes are padded to multiples of this.
        device: where the network is.
        panel_names: (set, name) of the pictures to show.

    Raises:
        InputError: sizes of a pair do not fit the scale, or a metric is unknown.
    """
    measures = {name: _measure(name) for name in config.metrics}
    scores = Scores()
    wanted = set(panel_names)
    module.eval()
    for pair in pairs:
        low, high = read_rgb(pair.low), read_rgb(pair.high)
        if (low.shape[0] * scale, low.shape[1] * scale) != high.shape[:2]:
            raise InputError(
                f"validation pair '{pair.low}' is {low.shape[1]}x{low.shape[0]} and '{pair.high}' "
                f"{high.shape[1]}x{high.shape[0]}: expected {scale} times the size."
            )
        output = enlarge(module, low, scale=scale, multiple_px=multiple_px, device=device)
        group = scores.sums.setdefault(pair.group, {})
        for name, measure in measures.items():
            total, count = group.get(name, (0.0, 0))
            # A score that does not exist (identical pictures, too small for the metric): the mean is over the others.
            with contextlib.suppress(metrics.Undefined):
                total, count = total + measure(output, high, config.crop_px), count + 1
            group[name] = (total, count)
        if (pair.group, pair.name) in wanted:
            nearest = low.repeat(scale, axis=0).repeat(scale, axis=1)
            scores.panels[f"{pair.group}-{pair.name}"] = np.concatenate([nearest, output, high], axis=1)
    return scores


def enlarge(module: nn.Module, low: Rgb, *, scale: int, multiple_px: int, device: torch.device) -> Rgb:
    """Run a network on a whole picture: uint8 ``(H, W, 3)`` to uint8 ``(scale*H, scale*W, 3)``."""
    height, width = low.shape[:2]
    batch: Tensor = torch.from_numpy(to_tensor(to_float(low))).to(device)
    pad = (0, -width % multiple_px, 0, -height % multiple_px)
    if any(pad):
        batch = functional.pad(batch, pad, mode="replicate")
    with torch.inference_mode():
        output = module(batch).float()[..., : height * scale, : width * scale]
    return from_float(from_tensor(output.clamp(0, 1).cpu().numpy()), np.uint8)


def better(metric: str, value: float, best: float | None) -> bool:
    """Whether `value` is better than the best so far."""
    if best is None:
        return True
    return value < best if lower_is_better(metric) else value > best


def lower_is_better(metric: str) -> bool:
    """Whether less is better."""
    return _opened(metric, 0).better == "lower"


@lru_cache
def _opened(name: str, rim_px: int) -> metrics.Metric:
    return open_metric(name, border_px=rim_px)


def _measure(name: str) -> Callable[[Rgb, Rgb, int], float]:
    def measure(output: Rgb, high: Rgb, rim_px: int) -> float:
        metric = _opened(name, rim_px)
        if metric.learned and rim_px:
            output, high = (np.ascontiguousarray(picture[rim_px:-rim_px, rim_px:-rim_px]) for picture in (output, high))
        return metric.score(output, high)

    _opened(name, 0)
    return measure
