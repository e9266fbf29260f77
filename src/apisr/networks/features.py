"""Feature networks for perceptual losses: ResNet50 (Danbooru tags) and VGG (ImageNet).

Paper section 3.4: mean absolute differences of features of five layers, from a ResNet50 that was trained on anime
tags and from a VGG19. Names are those of the released weights: ``0.<body>`` of danbooru-pretrained's
``resnet50-13306192.pth`` (heads ``1.*`` unused), ``features.N`` of torchvision's VGG (``classifier.*`` unused).

Both normalise with ImageNet's mean and deviation inside, never change (evaluation mode, no gradients to parameters),
and pass gradients through to the picture.

    >>> import torch
    >>> vgg = Vgg(19)
    >>> features = vgg(torch.rand(1, 3, 32, 32))
    >>> list(features)
    ['conv1_2', 'conv2_2', 'conv3_4', 'conv4_4', 'conv5_4']
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from apisr.networks.registry import Architecture, Hyper, HyperDict
from apisr.networks.traits import ModelTraits

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

#: Output of the first convolution, and of conv3 in the last block of each layer before its batch norm.
RESNET_LAYERS = ("0", "4_2_conv3", "5_3_conv3", "6_5_conv3", "7_2_conv3")
#: Outputs of convolutions before ReLU.
VGG19_LAYERS = ("conv1_2", "conv2_2", "conv3_4", "conv4_4", "conv5_4")
VGG16_LAYERS = ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3")

_VGG_DEPTHS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_VGG_WIDTHS = (64, 128, 256, 512, 512)


class Frozen(nn.Module):
    """A network that stays in evaluation mode and whose parameters never learn."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> Frozen:
        """Stay in evaluation mode, whatever the module around does."""
        super().train(False)
        return self

    def _freeze(self) -> None:
        self.requires_grad_(False)
        self.train()

    def _normalised(self, x: Tensor) -> Tensor:
        return (x - self.mean.to(x.dtype)) / self.std.to(x.dtype)


class Bottleneck(nn.Module):
    """ResNet's 1x1, 3x3, 1x1 block (stride on the 3x3)."""

    def __init__(self, inside: int, middle: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, middle, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, 4 * middle, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * middle)
        self.relu = nn.ReLU()
        if stride > 1 or inside != 4 * middle:
            self.downsample = nn.Sequential(
                nn.Conv2d(inside, 4 * middle, 1, stride=stride, bias=False), nn.BatchNorm2d(4 * middle)
            )
        else:
            self.downsample = nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the block's output and that of conv3 before its norm."""
        y = self.relu(self.bn1(self.conv1(x)))
        raw = self.conv3(self.relu(self.bn2(self.conv2(y))))
        return self.relu(self.bn3(raw) + self.downsample(x)), raw


class ResNet50(Frozen):
    """ResNet50's body as a sequence, under the name ``0`` as in danbooru-pretrained."""

    def __init__(self) -> None:
        super().__init__()
        body: list[nn.Module] = [
            nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        ]
        inside = 64
        for number, (middle, depth) in enumerate(zip((64, 128, 256, 512), (3, 4, 6, 3), strict=True)):
            blocks: list[nn.Module] = []
            for index in range(depth):
                blocks.append(Bottleneck(inside, middle, 2 if number and index == 0 else 1))
                inside = 4 * middle
            body.append(nn.ModuleList(blocks))
        self.add_module("0", nn.ModuleList(body))
        self._freeze()

    def forward(self, x: Tensor, layers: Sequence[str] = RESNET_LAYERS) -> dict[str, Tensor]:
        """Map RGB pictures (N, 3, H, W) in [0, 1] to the features of `layers` (of :data:`RESNET_LAYERS`)."""
        body = cast(nn.ModuleList, self.get_submodule("0"))
        found: dict[str, Tensor] = {}
        x = body[0](self._normalised(x))
        found["0"] = x
        x = body[3](body[2](body[1](x)))
        for number in (4, 5, 6, 7):
            blocks = cast(nn.ModuleList, body[number])
            raw = x
            for block in blocks:
                x, raw = block(x)
            found[f"{number}_{len(blocks) - 1}_conv3"] = raw
            if len(found) == len(RESNET_LAYERS) or not _later(
                RESNET_LAYERS, layers, f"{number}_{len(blocks) - 1}_conv3"
            ):
                break
        return {name: found[name] for name in layers}


class Vgg(Frozen):
    """VGG16 or VGG19 up to the last convolution."""

    def __init__(self, depth: int = 19) -> None:
        super().__init__()
        self.depth = depth
        self.layers = VGG19_LAYERS if depth == 19 else VGG16_LAYERS
        self._names: dict[int, str] = {}
        features: list[nn.Module] = []
        inside = 3
        for stage, (width, count) in enumerate(zip(_VGG_WIDTHS, _VGG_DEPTHS[depth], strict=True), start=1):
            for index in range(1, count + 1):
                self._names[len(features)] = f"conv{stage}_{index}"
                features += [nn.Conv2d(inside, width, 3, padding=1), nn.ReLU()]
                inside = width
            features.append(nn.MaxPool2d(2))
        self.features = nn.ModuleList(features)
        self._freeze()

    def forward(self, x: Tensor, layers: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Map RGB pictures (N, 3, H, W) in [0, 1] to the features of `layers` (names ``convI_J``, before ReLU)."""
        requested = tuple(layers or self.layers)
        found: dict[str, Tensor] = {}
        x = self._normalised(x)
        for number, layer in enumerate(self.features):
            x = layer(x)
            name = self._names.get(number)
            if name in requested:
                found[name] = x
                if len(found) == len(requested):
                    break
        return {name: found[name] for name in requested}


def _later(order: Sequence[str], requested: Sequence[str], reached: str) -> bool:
    return any(order.index(name) > order.index(reached) for name in requested)


def _build_resnet(hyper: Hyper) -> ResNet50:
    return ResNet50()


def _build_vgg(hyper: Hyper) -> Vgg:
    return Vgg(hyper.get("depth", 19))


def _detect_resnet(state: Mapping[str, Tensor]) -> HyperDict | None:
    return {} if "0.4.0.conv1.weight" in state and "0.7.2.conv3.weight" in state else None


def _detect_vgg(state: Mapping[str, Tensor]) -> HyperDict | None:
    if "features.0.weight" not in state or tuple(state["features.0.weight"].shape) != (64, 3, 3, 3):
        return None
    if "features.34.weight" in state:
        return {"depth": 19}
    return {"depth": 16} if "features.28.weight" in state and "features.30.weight" not in state else None


def _no_traits(hyper: Hyper) -> ModelTraits:
    raise NotImplementedError("a feature network enlarges nothing")


def _flops_resnet(hyper: Hyper) -> float:
    return 2 * 4.09e9 / 224**2  # the published 4.09 G multiply-adds at 224x224


def _flops_vgg(hyper: Hyper) -> float:
    total, inside = 0.0, 3
    for stage, (width, count) in enumerate(zip(_VGG_WIDTHS, _VGG_DEPTHS[hyper.get("depth", 19)], strict=True)):
        for _ in range(count):
            total += 9 * inside * width / 4**stage
            inside = width
    return 2 * total


RESNET50 = Architecture(
    name="resnet50",
    title="ResNet50 body (danbooru-pretrained)",
    kind="features",
    arguments=(),
    build=_build_resnet,
    detect=_detect_resnet,
    traits=_no_traits,
    flops_per_pixel=_flops_resnet,
    ignored=("1.",),
)
VGG = Architecture(
    name="vgg",
    title="VGG16 or VGG19 (torchvision)",
    kind="features",
    arguments=("depth",),
    build=_build_vgg,
    detect=_detect_vgg,
    traits=_no_traits,
    flops_per_pixel=_flops_vgg,
    ignored=("classifier.",),
)
