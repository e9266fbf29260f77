"""CUNet: two chained U-Nets with squeeze-and-excitation, x2 (the form of Real-CUGAN's 2x network).

State-dict names are those of the released checkpoints. Convolutions are valid (unpadded), so the picture is mirrored
by 18 pixels first. The channel weights come from means over the whole picture: a picture cut into tiles shows seams,
so the traits say that it must not be cut.

    >>> import torch
    >>> CUNet()(torch.rand(1, 3, 33, 20)).shape
    torch.Size([1, 3, 66, 40])
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from apisr.networks.registry import Architecture, Hyper, HyperDict
from apisr.networks.traits import ModelTraits

_MARGIN = 18


class ChannelWeights(nn.Module):
    """Squeeze and excitation: channels weighted by what the whole picture holds."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features // 8, 1)
        self.conv2 = nn.Conv2d(features // 8, features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same."""
        mean = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.conv2(functional.relu(self.conv1(mean))))


class Pair(nn.Module):
    """Two valid 3x3 convolutions, then channel weights where asked."""

    def __init__(self, inside: int, middle: int, outside: int, *, weighted: bool) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(inside, middle, 3), nn.LeakyReLU(0.1), nn.Conv2d(middle, outside, 3), nn.LeakyReLU(0.1)
        )
        if weighted:
            self.seblock = ChannelWeights(outside)
        self.weighted = weighted

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H-4, W-4)."""
        x = self.conv(x)
        return self.seblock(x) if self.weighted else x


class FirstUNet(nn.Module):
    """One level; ends in a transposed convolution that doubles the size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = Pair(3, 32, 64, weighted=False)
        self.conv1_down = nn.Conv2d(64, 64, 2, stride=2)
        self.conv2 = Pair(64, 128, 64, weighted=True)
        self.conv2_up = nn.ConvTranspose2d(64, 64, 2, stride=2)
        self.conv3 = nn.Conv2d(64, 64, 3)
        self.conv_bottom = nn.ConvTranspose2d(64, 3, 4, stride=2, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 3, 2H-36, 2W-36)."""
        full = self.conv1(x)
        low = _leaky(self.conv2_up(self.conv2(_leaky(self.conv1_down(full)))))
        return self.conv_bottom(_leaky(self.conv3(_cut(full, 4) + low)))


class SecondUNet(nn.Module):
    """Two levels; keeps the size but for the borders."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = Pair(3, 32, 64, weighted=False)
        self.conv1_down = nn.Conv2d(64, 64, 2, stride=2)
        self.conv2 = Pair(64, 64, 128, weighted=True)
        self.conv2_down = nn.Conv2d(128, 128, 2, stride=2)
        self.conv3 = Pair(128, 256, 128, weighted=True)
        self.conv3_up = nn.ConvTranspose2d(128, 128, 2, stride=2)
        self.conv4 = Pair(128, 64, 64, weighted=True)
        self.conv4_up = nn.ConvTranspose2d(64, 64, 2, stride=2)
        self.conv5 = nn.Conv2d(64, 64, 3)
        self.conv_bottom = nn.Conv2d(64, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 3, H-40, W-40)."""
        full = self.conv1(x)
        half = self.conv2(_leaky(self.conv1_down(full)))
        quarter = _leaky(self.conv3_up(self.conv3(_leaky(self.conv2_down(half)))))
        half = _leaky(self.conv4_up(self.conv4(_cut(half, 4) + quarter)))
        return self.conv_bottom(_leaky(self.conv5(_cut(full, 16) + half)))


class CUNet(nn.Module):
    """The x2 network; no hyper-parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = 2
        self.unet1 = FirstUNet()
        self.unet2 = SecondUNet()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, 3, H, W)`` in [0, 1] to ``(N, 3, 2H, 2W)``; sides of at least 20 pixels, or edges are repeated."""
        height, width = x.shape[-2:]
        if torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage] - exported networks are given even sizes
            x = functional.pad(x, (_MARGIN,) * 4, "reflect")
        else:
            right, bottom = _MARGIN + width % 2, _MARGIN + height % 2
            mirrored = right < width and bottom < height
            x = functional.pad(x, (_MARGIN, right, _MARGIN, bottom), "reflect" if mirrored else "replicate")
        first = self.unet1(x)
        y = self.unet2(first) + _cut(first, 20)
        return y[:, :, : 2 * height, : 2 * width]


def _leaky(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, 0.1)


def _cut(x: Tensor, border: int) -> Tensor:
    return x[:, :, border:-border, border:-border]


def build(hyper: Hyper) -> CUNet:
    """Build; `hyper` holds at most the (only possible) scale 2."""
    return CUNet()


def detect(state: Mapping[str, Tensor]) -> HyperDict | None:
    """Recognise the x2 network (its first U-Net ends in a 4x4 transposed convolution to 3 channels)."""
    bottom = state.get("unet1.conv_bottom.weight")
    if bottom is None or tuple(bottom.shape) != (64, 3, 4, 4) or "unet2.conv5.weight" not in state:
        return None
    return {"scale": 2}


def traits(hyper: Hyper) -> ModelTraits:
    """Not to be cut: channel weights come from the whole picture."""
    return ModelTraits(scale=2, halo_px=None, multiple_px=2)


def flops_per_pixel(hyper: Hyper) -> float:
    """Two operations per multiply-add, borders left out."""
    first = (
        9 * 3 * 32 + 9 * 32 * 64 + (4 * 64 * 64 + 9 * 64 * 128 + 9 * 128 * 64) / 4 + 64 * 64 + 9 * 64 * 64 + 16 * 64 * 3
    )
    second = 9 * 3 * 32 + 9 * 32 * 64 + (4 * 64 * 64 + 9 * 64 * 64 + 9 * 64 * 128) / 4
    second += (4 * 128 * 128 + 9 * 128 * 256 + 9 * 256 * 128) / 16 + 128 * 128 / 4
    second += (9 * 128 * 64 + 9 * 64 * 64) / 4 + 64 * 64 + 9 * 64 * 64 + 9 * 64 * 3
    return 2 * (first + 4 * second)


ARCHITECTURE = Architecture(
    name="cunet",
    title="CUNet (Real-CUGAN 2x)",
    kind="upscaler",
    arguments=("scale",),
    build=build,
    detect=detect,
    traits=traits,
    flops_per_pixel=flops_per_pixel,
)
