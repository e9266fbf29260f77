"""Compact: a plain stack of convolutions at one resolution, with the input added at the end.

The network is that of Real-ESRGAN's "SRVGG" models (Wang et al., "Real-ESRGAN", ICCVW 2021), with the same state-dict
names (``body.N.weight``), so that ``realesr-animevideov3`` and the many community models of this form load.

The `lite` form un-shuffles pixels first (``unshuffle=2``): the body runs at half the resolution with twice the
channels, which general matrix kernels like far better (on a two-core CPU 64 channels there reach 1.6 times the FLOP/s
of 32 channels at full resolution), and ReLU or LeakyReLU fuse into the convolutions where PReLU does not.
Some of its convolutions may be dilated: a wider view for heavily compressed pictures at no cost but a larger halo.

    >>> import torch
    >>> net = Compact(features=16, depth=2, scale=2, unshuffle=2, activation="relu")
    >>> net(torch.rand(1, 3, 8, 12)).shape
    torch.Size([1, 3, 16, 24])
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal, cast

from torch import Tensor, nn
from torch.nn import functional

from apisr.core.errors import InputError
from apisr.networks.registry import Architecture, Hyper, HyperDict
from apisr.networks.traits import ModelTraits

Activation = Literal["prelu", "relu", "leakyrelu", "silu"]
DEFAULTS: HyperDict = {
    "features": 64,
    "depth": 16,
    "scale": 4,
    "unshuffle": 1,
    "activation": "prelu",
    "dilations": None,
}


class Compact(nn.Module):
    """Convolutions at one resolution, pixel shuffle at the end, plus the nearest-enlarged input.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output (equal to `in_channels` for the residual).
        features: channels of the body.
        depth: convolutions between the first and the last.
        scale: output size over input size.
        unshuffle: 1, or 2 to run the body at half resolution (input sizes must then be even).
        activation: ``prelu`` (as released by Real-ESRGAN), ``relu``, ``leakyrelu`` (slope 0.1) or ``silu``.
        dilations: dilation of each of the ``depth + 2`` convolutions; None means 1 for all.

    Raises:
        InputError: another number of dilations than convolutions.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        out_channels: int = 3,
        features: int = 64,
        depth: int = 16,
        scale: int = 4,
        unshuffle: int = 1,
        activation: Activation = "prelu",
        dilations: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.unshuffle = unshuffle
        steps = _dilations(dilations, depth)
        layers: list[nn.Module] = [_convolution(in_channels * unshuffle**2, features, steps[0])]
        for step in steps[1:-1]:
            layers += [activation_layer(activation, features), _convolution(features, features, step)]
        layers += [
            activation_layer(activation, features),
            _convolution(features, out_channels * (scale * unshuffle) ** 2, steps[-1]),
        ]
        self.body = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, 3, H, W)`` in [0, 1] to ``(N, 3, scale*H, scale*W)``; H and W multiples of `unshuffle`."""
        y = functional.pixel_unshuffle(x, self.unshuffle) if self.unshuffle > 1 else x
        for layer in self.body:
            y = layer(y)
        factor = self.scale * self.unshuffle
        y = functional.pixel_shuffle(y, factor) if factor > 1 else y
        base = functional.interpolate(x, scale_factor=self.scale, mode="nearest") if self.scale > 1 else x
        return y + base


def _dilations(dilations: Sequence[int] | None, depth: int) -> list[int]:
    steps = [1] * (depth + 2) if dilations is None else [int(step) for step in dilations]
    if len(steps) != depth + 2 or min(steps) < 1:
        raise InputError(
            f"Compact with {depth} hidden convolutions needs {depth + 2} dilations of 1 or more, "
            f"got {list(dilations or [])}: give one for each convolution, the first and the last included.",
            code="bad-dilations",
        )
    return steps


def _convolution(in_features: int, out_features: int, dilation: int) -> nn.Conv2d:
    return nn.Conv2d(in_features, out_features, 3, padding=dilation, dilation=dilation)


def activation_layer(kind: Activation, features: int) -> nn.Module:
    """The activation called `kind` for so many channels."""
    if kind == "prelu":
        return nn.PReLU(features)
    if kind == "relu":
        return nn.ReLU(inplace=True)
    if kind == "leakyrelu":
        return nn.LeakyReLU(0.1, inplace=True)
    return nn.SiLU(inplace=True)


def build(hyper: Hyper) -> Compact:
    """Build from hyper-parameters (keys of :data:`DEFAULTS`)."""
    values = {**DEFAULTS, **hyper}
    return Compact(
        features=values["features"],
        depth=values["depth"],
        scale=values["scale"],
        unshuffle=values["unshuffle"],
        activation=cast(Activation, values["activation"]),
        dilations=values["dilations"],
    )


def detect(state: Mapping[str, Tensor]) -> HyperDict | None:
    """Read the hyper-parameters.

    Activations without parameters cannot be told apart and are taken for ReLU; dilations leave no trace in the weights
    and are taken for 1 (files of ours say both).
    """
    numbers = [int(match[1]) for key in state if (match := re.fullmatch(r"body\.(\d+)\.(?:weight|bias)", key))]
    if not numbers or any(not key.startswith("body.") for key in state) or "body.0.weight" not in state:
        return None
    first, last = state["body.0.weight"], state.get(f"body.{max(numbers)}.weight")
    if first.ndim != 4 or last is None or last.ndim != 4 or max(numbers) % 2:
        return None
    unshuffle = round((first.shape[1] / 3) ** 0.5)
    factor = round((last.shape[0] / 3) ** 0.5)
    if 3 * unshuffle**2 != first.shape[1] or 3 * factor**2 != last.shape[0] or factor % unshuffle:
        return None
    return {
        "features": int(first.shape[0]),
        "depth": max(numbers) // 2 - 1,
        "scale": factor // unshuffle,
        "unshuffle": unshuffle,
        "activation": "prelu" if "body.1.weight" in state else "relu",
    }


def traits(hyper: Hyper) -> ModelTraits:
    """Every 3x3 convolution looks its dilation further, in pixels of `unshuffle` input pixels each.

    Raises:
        InputError: another number of dilations than convolutions.
    """
    values = {**DEFAULTS, **hyper}
    unshuffle = int(values["unshuffle"])
    reach = sum(_dilations(values["dilations"], values["depth"]))
    return ModelTraits(scale=values["scale"], halo_px=reach * unshuffle, multiple_px=unshuffle)


def flops_per_pixel(hyper: Hyper) -> float:
    """Two operations per multiply-add of the convolutions, at the body's resolution."""
    values = {**DEFAULTS, **hyper}
    features, unshuffle = values["features"], values["unshuffle"]
    ends = 3 * unshuffle**2 + 3 * (values["scale"] * unshuffle) ** 2
    return 2 * 9 * features * (ends + values["depth"] * features) / unshuffle**2


ARCHITECTURE = Architecture(
    name="compact",
    title="Compact (SRVGG of Real-ESRGAN; with pixel-unshuffle: our lite form)",
    kind="upscaler",
    arguments=tuple(DEFAULTS),
    build=build,
    detect=detect,
    traits=traits,
    flops_per_pixel=flops_per_pixel,
)
