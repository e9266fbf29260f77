"""Discriminators for training: three patch discriminators at three scales (the paper's), and Real-ESRGAN's U-Net.

Spectral norm on the convolutions as in the released code (state-dict names ``weight_orig``, ``weight_u``,
``weight_v``). Both give raw scores; the loss decides what they mean.

    >>> import torch
    >>> [tuple(y.shape) for y in MultiScalePatch(features=8)(torch.rand(1, 3, 128, 128))]
    [(1, 1, 14, 14), (1, 1, 6, 6), (1, 1, 2, 2)]
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from apisr.networks.registry import Architecture, Hyper, HyperDict
from apisr.networks.traits import ModelTraits


class Patch(nn.Module):
    """PatchGAN: 4x4 convolutions, three of stride 2, two of stride 1 (named as with norm layers, which are absent)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        f = features
        self.model = nn.ModuleDict(
            {
                "0": _normed(nn.Conv2d(3, f, 4, stride=2, padding=1)),
                "2": _normed(nn.Conv2d(f, 2 * f, 4, stride=2, padding=1)),
                "5": _normed(nn.Conv2d(2 * f, 4 * f, 4, stride=2, padding=1)),
                "8": _normed(nn.Conv2d(4 * f, 8 * f, 4, padding=1)),
                "11": _normed(nn.Conv2d(8 * f, 1, 4, padding=1)),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to scores (N, 1, about H/8, about W/8)."""
        *inner, last = self.model.values()
        for convolution in inner:
            x = functional.leaky_relu(convolution(x), 0.2)
        return last(x)


class MultiScalePatch(nn.Module):
    """Three patch discriminators; each sees the picture halved again."""

    def __init__(self, *, features: int = 64, scales: int = 3) -> None:
        super().__init__()
        self.dis_list = nn.ModuleList(Patch(features) for _ in range(scales))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (N, 3, H, W) to one score map per scale, the finest first."""
        scores: list[Tensor] = []
        for number, discriminator in enumerate(self.dis_list):
            if number:
                x = functional.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=True)
            scores.append(discriminator(x))
        return scores


class UNet(nn.Module):
    """Real-ESRGAN's U-Net discriminator: one score per pixel."""

    def __init__(self, *, features: int = 64) -> None:
        super().__init__()
        f = features
        self.conv0 = nn.Conv2d(3, f, 3, padding=1)
        self.conv1 = _normed(nn.Conv2d(f, 2 * f, 4, stride=2, padding=1, bias=False))
        self.conv2 = _normed(nn.Conv2d(2 * f, 4 * f, 4, stride=2, padding=1, bias=False))
        self.conv3 = _normed(nn.Conv2d(4 * f, 8 * f, 4, stride=2, padding=1, bias=False))
        self.conv4 = _normed(nn.Conv2d(8 * f, 4 * f, 3, padding=1, bias=False))
        self.conv5 = _normed(nn.Conv2d(4 * f, 2 * f, 3, padding=1, bias=False))
        self.conv6 = _normed(nn.Conv2d(2 * f, f, 3, padding=1, bias=False))
        self.conv7 = _normed(nn.Conv2d(f, f, 3, padding=1, bias=False))
        self.conv8 = _normed(nn.Conv2d(f, f, 3, padding=1, bias=False))
        self.conv9 = nn.Conv2d(f, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W), sides multiples of 8, to scores (N, 1, H, W)."""
        levels = [_leaky(self.conv0(x))]
        for convolution in (self.conv1, self.conv2, self.conv3):
            levels.append(_leaky(convolution(levels[-1])))
        y = levels[3]
        for convolution, skipped in zip((self.conv4, self.conv5, self.conv6), reversed(levels[:3]), strict=True):
            y = functional.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)
            y = _leaky(convolution(y)) + skipped
        return self.conv9(_leaky(self.conv8(_leaky(self.conv7(y)))))


def _leaky(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, 0.2)


def _normed(convolution: nn.Conv2d) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older form of spectral norm: its names are those of released files
        return torch.nn.utils.spectral_norm(convolution)


def _build_patch(hyper: Hyper) -> MultiScalePatch:
    return MultiScalePatch(**hyper)


def _build_unet(hyper: Hyper) -> UNet:
    return UNet(**hyper)


def _detect_patch(state: Mapping[str, Tensor]) -> HyperDict | None:
    first = state.get("dis_list.0.model.0.weight_orig")
    if first is None:
        return None
    scales = sum(key.endswith(".model.0.weight_orig") for key in state)
    return {"features": int(first.shape[0]), "scales": scales}


def _detect_unet(state: Mapping[str, Tensor]) -> HyperDict | None:
    first = state.get("conv0.weight")
    if first is None or "conv9.weight" not in state or "conv1.weight_orig" not in state:
        return None
    return {"features": int(first.shape[0])}


def _no_traits(hyper: Hyper) -> ModelTraits:
    raise NotImplementedError("a discriminator enlarges nothing")


def _flops_patch(hyper: Hyper) -> float:
    f = hyper.get("features", 64)
    one = 16 * (3 * f / 4 + 2 * f * f / 16 + 8 * f * f / 64 + 32 * f * f / 64 + 8 * f / 64)
    return 2 * one * sum(0.25**k for k in range(hyper.get("scales", 3)))


def _flops_unet(hyper: Hyper) -> float:
    f = hyper.get("features", 64)
    down = 16 * (2 * f * f / 4 + 8 * f * f / 16 + 32 * f * f / 64)
    up = 9 * (32 * f * f / 16 + 8 * f * f / 4 + 2 * f * f)
    return 2 * (9 * 3 * f + down + up + 9 * 2 * f * f + 9 * f)


PATCH = Architecture(
    name="patch_multiscale",
    title="three-scale patch discriminator",
    kind="discriminator",
    arguments=("features", "scales"),
    build=_build_patch,
    detect=_detect_patch,
    traits=_no_traits,
    flops_per_pixel=_flops_patch,
)
UNET = Architecture(
    name="unet_sn",
    title="U-Net discriminator with spectral norm (Real-ESRGAN)",
    kind="discriminator",
    arguments=("features",),
    build=_build_unet,
    detect=_detect_unet,
    traits=_no_traits,
    flops_per_pixel=_flops_unet,
)
