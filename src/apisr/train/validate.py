"""Validation on fixed pairs: full pictures, the scores of :mod:`apisr.metrics`, and panels to look at.

Scores are computed on 8-bit pictures with a rim cut off, as in our published tables, so that a validation score and an
evaluation score are the same number.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from apisr.core.errors import InputError
from apisr.core.media import find_media
from apisr.image import ImageU8, from_float, from_tensor, read_rgb, to_float, to_tensor
from apisr.image.chroma import clean_colours
from apisr.metrics.metric import Metric, Undefined
from apisr.metrics.registry import open_metric
from apisr.train.config import PairSet, ValidationConfig


@dataclass(frozen=True)
class Pair:
    """A picture to enlarge and what it should become.

    Attributes:
        group: name of the set.
        name: file name without ending.
        low: low-resolution file, or the picture itself.
        high: high-resolution file, or the picture itself.
    """

    group: str
    name: str
    low: Path | ImageU8
    high: Path | ImageU8

    def read(self) -> tuple[ImageU8, ImageU8]:
        """Return the low and the high picture."""
        low, high = (read_rgb(part) if isinstance(part, Path) else part for part in (self.low, self.high))
        return low, high


@dataclass
class Scores:
    """What a validation found.

    Attributes:
        sums: set -> metric -> (sum, number of pictures); a picture for which a score does not exist is not counted.
        panels: name -> picture with low (enlarged without smoothing), output and high side by side.
    """

    sums: dict[str, dict[str, tuple[float, int]]] = field(default_factory=dict[str, dict[str, tuple[float, int]]])
    panels: dict[str, ImageU8] = field(default_factory=dict[str, ImageU8])

    def add(self, group: str, name: str, value: float) -> None:
        """Count the score of one picture."""
        total, count = self.sums.setdefault(group, {}).get(name, (0.0, 0))
        self.sums[group][name] = total + value, count + 1

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


class Validator:
    """Scores networks on fixed pairs.

    Args:
        config: metrics, rim, panels.
        scale: of the network.
        multiple_px: sizes are padded to multiples of this.
        cleans_colours: the colours of low pictures are cleaned before the network (:mod:`apisr.image.chroma`).
        held_out: more pairs, beside those of the configuration.

    Raises:
        InputError: a folder is missing or has no pairs, a low picture has no partner, or a metric is unknown.
        MissingExtra: a metric needs an extra that is not installed.
    """

    def __init__(
        self,
        config: ValidationConfig,
        *,
        scale: int,
        multiple_px: int,
        cleans_colours: bool = False,
        held_out: Sequence[Pair] = (),
    ) -> None:
        self.config = config
        self.scale = scale
        self.multiple_px = multiple_px
        self.cleans_colours = cleans_colours
        self.pairs = [*find_pairs(config.pairs), *held_out]
        self._metrics = {name: open_metric(name, border_px=config.crop_px) for name in config.metrics}

    def improves(self, value: float, best: float | None) -> bool:
        """Whether a value of the deciding metric is better than the best so far."""
        return best is None or self._metrics[self.config.best].improves(value, best)

    def score(self, module: nn.Module, *, device: torch.device, rank: int = 0, world: int = 1) -> Scores:
        """Enlarge the low pictures of one process with `module` (evaluation mode, float32) and score them.

        Raises:
            InputError: sizes of a pair do not fit the scale.
        """
        shown = {(pair.group, pair.name) for pair in self._shown()}
        scores = Scores()
        module.eval()
        for pair in self.pairs[rank::world]:
            low, high = pair.read()
            _check_sizes(pair, low, high, self.scale)
            seen = clean_colours(low) if self.cleans_colours else low
            output = enlarge(module, seen, scale=self.scale, multiple_px=self.multiple_px, device=device)
            for name, metric in self._metrics.items():
                # A score that does not exist (identical pictures, too small for the metric): the mean is of the others.
                with contextlib.suppress(Undefined):
                    scores.add(pair.group, name, self._value(metric, output, high))
            if (pair.group, pair.name) in shown:
                nearest = low.repeat(self.scale, axis=0).repeat(self.scale, axis=1)
                scores.panels[f"{pair.group}-{pair.name}"] = np.concatenate([nearest, output, high], axis=1)
        return scores

    def groups(self) -> list[str]:
        """The names of the sets, in order."""
        return list(dict.fromkeys(pair.group for pair in self.pairs))

    def _shown(self) -> list[Pair]:
        """The pairs of the panels: the first of each set, then the second of each, ..."""
        by_group = [[pair for pair in self.pairs if pair.group == group] for group in self.groups()]
        return [pair for row in zip(*by_group, strict=False) for pair in row][: self.config.panels]

    def _value(self, metric: Metric, output: ImageU8, high: ImageU8) -> float:
        rim = self.config.crop_px
        if metric.learned and rim:
            output, high = (np.ascontiguousarray(picture[rim:-rim, rim:-rim]) for picture in (output, high))
        return metric.score(output, high)


def find_pairs(sets: Sequence[PairSet]) -> list[Pair]:
    """List the pairs: files of the low folder whose stem is in the high folder too.

    Raises:
        InputError: a folder is missing or has no pairs, or a low picture has no partner.
    """
    pairs: list[Pair] = []
    for chosen in sets:
        for folder in (chosen.low, chosen.high):
            if not folder.is_dir():
                raise InputError(
                    f"validation set '{chosen.name}': no such folder: '{folder}'.", code="bad-validation-set"
                )
        high, low = (
            {path.stem: path for path in find_media(folder, kinds=("picture",), recursive=False).found}
            for folder in (chosen.high, chosen.low)
        )
        lonely = [path for stem, path in low.items() if stem not in high]
        if not low or lonely:
            what = (
                f"'{lonely[0].name}' has no partner in '{chosen.high}'" if lonely else f"no pictures in '{chosen.low}'"
            )
            raise InputError(
                f"validation set '{chosen.name}': {what}. Expected the same names in both folders.",
                code="bad-validation-set",
            )
        listed = list(low.items())[: chosen.limit or None]
        pairs += [Pair(chosen.name, stem, path, high[stem]) for stem, path in listed]
    return pairs


def enlarge(module: nn.Module, low: ImageU8, *, scale: int, multiple_px: int, device: torch.device) -> ImageU8:
    """Run a network on a whole picture: uint8 ``(H, W, 3)`` to uint8 ``(scale*H, scale*W, 3)``."""
    height, width = low.shape[:2]
    batch: Tensor = torch.from_numpy(to_tensor(to_float(low))).to(device)
    pad = (0, -width % multiple_px, 0, -height % multiple_px)
    if any(pad):
        batch = functional.pad(batch, pad, mode="replicate")
    with torch.inference_mode():
        output = module(batch).float()[..., : height * scale, : width * scale]
    return from_float(from_tensor(output.clamp(0, 1).cpu().numpy()), np.uint8)


def _check_sizes(pair: Pair, low: ImageU8, high: ImageU8, scale: int) -> None:
    if (low.shape[0] * scale, low.shape[1] * scale) != high.shape[:2]:
        raise InputError(
            f"validation pair '{pair.name}' of '{pair.group}': low is {low.shape[1]}x{low.shape[0]} and high "
            f"{high.shape[1]}x{high.shape[0]}, expected {scale} times the size.",
            code="bad-validation-set",
        )
