"""ICNet: how complex a picture is, as one score and as a map.

Feng et al., "IC9600: A Benchmark Dataset for Automatic Image Complexity Assessment", TPAMI 2023; the paper's curation
keeps the frames with the highest score (section 3.1). Two ResNet18 branches: details at 512x512 (two stages), context
at 256x256 (four stages); after each stage the channels are weighted by a small network over their spatial layout.
State-dict names are those of the released ``ck.pth``.

    >>> import torch
    >>> score, where = ICNet().eval()(torch.rand(1, 3, 512, 512))
    >>> tuple(score.shape), tuple(where.shape)
    ((1,), (1, 1, 64, 64))
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from apisr.networks.registry import Architecture, Hyper, HyperDict
from apisr.networks.traits import ModelTraits

#: Sides of the two branches' inputs in pixels.
DETAIL_PX, CONTEXT_PX = 512, 256


class LayoutWeights(nn.Module):
    """Weighs each channel by what it looks like as a small map of `side` x `side`."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side
        self.linear = nn.Sequential(nn.Linear(side * side, 512), nn.ReLU(), nn.Linear(512, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same."""
        small = x if x.shape[-1] == self.side else _resized(x, self.side)
        return x * self.linear(small.flatten(2)).unsqueeze(-1)


class BasicBlock(nn.Module):
    """ResNet's block of two 3x3 convolutions."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.downsample = (
            nn.Sequential(nn.Conv2d(inside, outside, 1, stride=stride, bias=False), nn.BatchNorm2d(outside))
            if stride > 1
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H/stride, W/stride)."""
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(y + self.downsample(x))


class ConvNorm(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inside: int, outside: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, kernel, padding=kernel // 2)
        self.bn = nn.BatchNorm2d(outside)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H, W)."""
        return functional.relu(self.bn(self.conv(x)))


class MapHead(nn.Module):
    """One channel in 0..1."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.to_map = nn.Sequential(nn.Conv2d(features, 1, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, 1, H, W)."""
        return self.to_map(x)


class ICNet(nn.Module):
    """IC9600's network; no hyper-parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.b1_1, self.b1_1_slam = _stem(), LayoutWeights(32)
        self.b1_2, self.b1_2_slam = _stage(64, 128), LayoutWeights(32)
        self.b2_1, self.b2_1_slam = _stem(), LayoutWeights(32)
        self.b2_2, self.b2_2_slam = _stage(64, 128), LayoutWeights(32)
        self.b2_3, self.b2_3_slam = _stage(128, 256), LayoutWeights(16)
        self.b2_4, self.b2_4_slam = _stage(256, 512), LayoutWeights(8)
        self.up1, self.up2 = ConvNorm(128, 256, 1), ConvNorm(512, 256, 1)
        self.to_map_f, self.to_map_f_slam = ConvNorm(512, 512, 3), LayoutWeights(32)
        self.to_map = MapHead(512)
        self.to_score_f, self.to_score_f_slam = ConvNorm(512, 512, 3), LayoutWeights(32)
        self.head = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Score pictures.

        Args:
            x: ``(N, 3, 512, 512)``, normalised by ImageNet's mean and deviation.

        Returns:
            Scores (N,) and maps (N, 1, 64, 64), both in [0, 1].
        """
        detail = self.b1_2_slam(self.b1_2(self.b1_1_slam(self.b1_1(x))))
        context = self.b2_1_slam(self.b2_1(_resized(x, CONTEXT_PX)))
        context = self.b2_3_slam(self.b2_3(self.b2_2_slam(self.b2_2(context))))
        context = self.b2_4_slam(self.b2_4(context))
        side = DETAIL_PX // 8
        both = torch.cat((self.up1(_resized(detail, side)), self.up2(_resized(context, side))), 1)
        where = self.to_map(self.to_map_f_slam(self.to_map_f(both)))
        score = self.head(self.to_score_f_slam(self.to_score_f(both)).mean((2, 3)))
        return score.squeeze(-1), where


def _stem() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.Sequential(BasicBlock(64, 64, 1), BasicBlock(64, 64, 1)),
    )


def _stage(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(BasicBlock(inside, outside, 2), BasicBlock(outside, outside, 1))


def _resized(x: Tensor, side: int) -> Tensor:
    return functional.interpolate(x, size=(side, side), mode="bilinear", align_corners=True)


def _build(hyper: Hyper) -> ICNet:
    return ICNet()


def _detect(state: Mapping[str, Tensor]) -> HyperDict | None:
    return {} if "b1_1_slam.linear.0.weight" in state and "to_score_f.conv.weight" in state else None


def _no_traits(hyper: Hyper) -> ModelTraits:
    raise NotImplementedError("a feature network enlarges nothing")


def _flops(hyper: Hyper) -> float:
    stem = 49 * 3 * 64 / 4 + 4 * 9 * 64 * 64 / 16
    stages = [
        (9 * i * o + 3 * 9 * o * o + i * o) / 4 ** (3 + n)
        for n, (i, o) in enumerate([(64, 128), (128, 256), (256, 512)])
    ]
    heads = (128 * 256 + 512 * 256 + 2 * 9 * 512 * 512) / 64
    return 2 * (stem + stages[0] + (stem + sum(stages)) / 4 + heads)


ARCHITECTURE = Architecture(
    name="icnet",
    title="ICNet (IC9600, image complexity)",
    kind="features",
    arguments=(),
    build=_build,
    detect=_detect,
    traits=_no_traits,
    flops_per_pixel=_flops,
)
