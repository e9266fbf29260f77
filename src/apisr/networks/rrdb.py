"""RRDB: residual-in-residual dense blocks, the generator of ESRGAN and Real-ESRGAN.

Wang et al., "ESRGAN", ECCVW 2018, and "Real-ESRGAN", ICCVW 2021; APISR released 6-block versions (x2 and x4).
State-dict names are those of Real-ESRGAN. Scale 2 and 1 un-shuffle pixels first, by 2 and 4. Nearest x2 before a
convolution is one transposed convolution here (4 multiplications in place of 9; equal up to rounding).

    >>> import torch
    >>> RRDB(features=8, blocks=1, growth=4, scale=2)(torch.rand(1, 3, 9, 12)).shape
    torch.Size([1, 3, 18, 24])
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from apisr.networks.functional import up_conv
from apisr.networks.registry import Architecture, Hyper, HyperDict
from apisr.networks.traits import ModelTraits

DEFAULTS: HyperDict = {"features": 64, "blocks": 6, "growth": 32, "scale": 4}
#: Halo in pixels of the body at which a cut tile and the whole picture agree to an 8-bit step (docs/networks.md).
HALO_PX = 32


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees all results before it."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, growth, 3, padding=1)
        self.conv2 = nn.Conv2d(features + growth, growth, 3, padding=1)
        self.conv3 = nn.Conv2d(features + 2 * growth, growth, 3, padding=1)
        self.conv4 = nn.Conv2d(features + 3 * growth, growth, 3, padding=1)
        self.conv5 = nn.Conv2d(features + 4 * growth, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same."""
        features = x
        for convolution in (self.conv1, self.conv2, self.conv3, self.conv4):
            features = torch.cat((features, functional.leaky_relu(convolution(features), 0.2)), 1)
        return x + 0.2 * self.conv5(features)


class Block(nn.Module):
    """Three dense blocks with a residual around them."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(features, growth)
        self.rdb2 = DenseBlock(features, growth)
        self.rdb3 = DenseBlock(features, growth)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same."""
        return x + 0.2 * self.rdb3(self.rdb2(self.rdb1(x)))


class RRDB(nn.Module):
    """ESRGAN's generator.

    Args:
        features: channels of the body.
        blocks: residual-in-residual blocks.
        growth: channels that each convolution of a dense block adds.
        scale: 1, 2 or 4.
    """

    def __init__(self, *, features: int = 64, blocks: int = 6, growth: int = 32, scale: int = 4) -> None:
        super().__init__()
        self.scale = scale
        self.unshuffle = 4 // scale
        self.conv_first = nn.Conv2d(3 * self.unshuffle**2, features, 3, padding=1)
        self.body = nn.Sequential(*(Block(features, growth) for _ in range(blocks)))
        self.conv_body = nn.Conv2d(features, features, 3, padding=1)
        self.conv_up1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv_up2 = nn.Conv2d(features, features, 3, padding=1)
        self.conv_hr = nn.Conv2d(features, features, 3, padding=1)
        self.conv_last = nn.Conv2d(features, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, 3, H, W)`` in [0, 1] to ``(N, 3, scale*H, scale*W)``; sizes are filled up inside by mirroring."""
        height, width = x.shape[-2:]
        if self.unshuffle > 1:
            x = functional.pixel_unshuffle(_pad(x, self.unshuffle), self.unshuffle)
        first = self.conv_first(x)
        y = first + self.conv_body(self.body(first))
        y = functional.leaky_relu(up_conv(y, self.conv_up1), 0.2)
        y = functional.leaky_relu(up_conv(y, self.conv_up2), 0.2)
        y = self.conv_last(functional.leaky_relu(self.conv_hr(y), 0.2))
        return y[:, :, : height * self.scale, : width * self.scale]


def build(hyper: Hyper) -> RRDB:
    """Build from hyper-parameters (keys of :data:`DEFAULTS`)."""
    return RRDB(**{**DEFAULTS, **hyper})


def detect(state: Mapping[str, Tensor]) -> HyperDict | None:
    """Read the hyper-parameters."""
    blocks = [int(m[1]) for key in state if (m := re.match(r"body\.(\d+)\.rdb1\.conv1\.weight", key))]
    first, growth = state.get("conv_first.weight"), state.get("body.0.rdb1.conv1.weight")
    if not blocks or first is None or growth is None or "conv_up2.weight" not in state:
        return None
    scale = {3: 4, 12: 2, 48: 1}.get(int(first.shape[1]))
    if scale is None:
        return None
    return {"features": int(first.shape[0]), "blocks": max(blocks) + 1, "growth": int(growth.shape[0]), "scale": scale}


def traits(hyper: Hyper) -> ModelTraits:
    """The halo is what is seen in practice (the theoretical one is 15 pixels a block)."""
    scale = {**DEFAULTS, **hyper}["scale"]
    return ModelTraits(scale=scale, halo_px=HALO_PX * (4 // scale), multiple_px=4 // scale)


def flops_per_pixel(hyper: Hyper) -> float:
    """Two operations per multiply-add of the convolutions as carried out here."""
    values = {**DEFAULTS, **hyper}
    c, g, unshuffle = values["features"], values["growth"], 4 // values["scale"]
    dense = sum(9 * (c + i * g) * g for i in range(4)) + 9 * (c + 4 * g) * c
    total = 9 * 3 * unshuffle**2 * c + values["blocks"] * 3 * dense + 9 * c * c
    total += 16 * c * c * (1 + 4) + 16 * (9 * c * c + 9 * c * 3)
    return 2 * total / unshuffle**2


def _pad(x: Tensor, multiple: int) -> Tensor:
    if torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage] - exported networks are given whole cells
        return x
    bottom, right = -x.shape[-2] % multiple, -x.shape[-1] % multiple
    if not bottom and not right:
        return x
    mirrored = bottom < x.shape[-2] and right < x.shape[-1]
    return functional.pad(x, (0, right, 0, bottom), "reflect" if mirrored else "replicate")


ARCHITECTURE = Architecture(
    name="rrdb",
    title="RRDB (ESRGAN, Real-ESRGAN)",
    kind="upscaler",
    arguments=tuple(DEFAULTS),
    build=build,
    detect=detect,
    traits=traits,
    flops_per_pixel=flops_per_pixel,
)
