"""Shift-tolerant LPIPS (Ghildyal and Liu, ECCV 2022), lower is better.

The weights are those of the authors' package ``stlpips_pytorch`` (BSD-2-Clause), which holds them in its wheel. The
package itself is not imported: it needs torchvision and IPython. The network is small enough to be written down here:
AlexNet's five convolutions, the first without stride, with a blurred halving (reflection-padded 1-2-1 filter) after it
and after each pooling of stride 1; features of each layer are normalised over channels, their squared differences
weighted and summed.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from apisr.core.errors import MissingExtra
from apisr.core.files import sha256_file
from apisr.image.types import ImageU8
from apisr.metrics.metric import Metric, Undefined, finite

if TYPE_CHECKING:
    from torch import Tensor

PACKAGE = "stlpips_pytorch"
WEIGHTS = "weights/vST0.0/alex_shift_tolerant.pth"
WEIGHTS_SHA256 = "b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee"


def open_st_lpips(*, device: str = "cpu") -> Metric:
    """Open the metric with the AlexNet trunk.

    Raises:
        MissingExtra: torch or the package with the weights is not installed.
        Undefined: the weights are not those of version 0.0.2.
    """
    package = importlib.util.find_spec(PACKAGE)
    if package is None or package.origin is None or importlib.util.find_spec("torch") is None:
        raise MissingExtra("eval", "for the metric 'st-lpips' (torch, and the weights in the package stlpips_pytorch)")
    import torch

    path = Path(package.origin).parent / WEIGHTS
    if not path.is_file() or sha256_file(path) != WEIGHTS_SHA256:
        raise Undefined(f"'{path}' does not hold the weights of {PACKAGE} 0.0.2", code="no-weights")
    target = device if device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    weights: dict[str, Tensor] = torch.load(path, map_location=target, weights_only=True)

    def tensor(picture: ImageU8) -> Tensor:
        values = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
        return values.to(target, torch.float32)[None] / 127.5 - 1

    def score(output: ImageU8, reference: ImageU8 | None) -> float:
        if reference is None:
            raise Undefined("there is no ground truth to compare with", code="no-reference")
        if min(output.shape[:2]) < 32:
            raise Undefined("at least 32x32 pixels are needed", code="picture-too-small")
        with torch.no_grad():
            return finite(float(_distance(tensor(output), tensor(reference), weights)), "st-lpips")

    return Metric(
        name="st-lpips",
        title="ST-LPIPS",
        better="lower",
        needs_reference=True,
        source=f"AlexNet trunk, weights {WEIGHTS_SHA256[:12]} of {PACKAGE} 0.0.2",
        score=score,
        learned=True,
    )


def _distance(output: Tensor, reference: Tensor, weights: dict[str, Tensor]) -> Tensor:
    total = output.new_zeros(())
    for index, (first, second) in enumerate(
        zip(_features(output, weights), _features(reference, weights), strict=True)
    ):
        difference = (_unit(first) - _unit(second)).square()
        total = total + (difference * weights[f"lin{index}.model.1.weight"]).sum(dim=1).mean()
    return total


def _features(picture: Tensor, weights: dict[str, Tensor]) -> list[Tensor]:
    from torch.nn.functional import conv2d, max_pool2d, pad, relu

    def convolve(values: Tensor, name: str, padding: int) -> Tensor:
        return conv2d(values, weights[f"net.{name}.weight"], weights[f"net.{name}.bias"], padding=padding)

    def halve(values: Tensor, name: str) -> Tensor:
        kernel = weights[f"net.{name}.filt"]
        return conv2d(pad(values, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=kernel.shape[0])

    scaled = (picture - weights["scaling_layer.shift"]) / weights["scaling_layer.scale"]
    one = relu(halve(convolve(scaled, "slice1.0", 2), "slice1.1"))
    two = relu(convolve(halve(max_pool2d(one, 3, stride=1), "slice2.4"), "slice2.5", 2))
    three = relu(convolve(halve(max_pool2d(two, 3, stride=1), "slice3.8"), "slice3.9", 1))
    four = relu(convolve(three, "slice4.11", 1))
    five = relu(convolve(four, "slice5.13", 1))
    return [one, two, three, four, five]


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)
