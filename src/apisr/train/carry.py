"""A start for Compact networks: the input is carried through all layers, the smooth enlargement is exact.

A Compact network adds its output to the *nearest* enlargement, so in smooth areas it has to make the difference to a
smooth one. Learning that costs the first part of a short training, and in bfloat16 it never becomes good: near 1 values
have steps of 1/256, the differences drown, and the picture shows a grid of input pixels.

So the first ``3*u*u`` features of every layer (u: un-shuffling) are kept equal to the input: their rows are an
identity and get no gradient. ReLU passes them, since pictures are not negative. While training, *bilinear minus
nearest* is added outside the network in float32 (:class:`CarriedPath`); in weights that are saved, validated or
exported it is part of the last convolution (:func:`fold`), which reads it off the carried features. The result is a
plain Compact network with the same output. (A convolution pads with zeros, so that both differ from a bilinear
enlargement at the picture's rim, alike.)

    >>> import torch
    >>> from apisr.networks.compact import Compact
    >>> net = Compact(features=8, depth=1, scale=2, activation="relu")
    >>> start_carried(net)
    >>> picture = torch.rand(1, 3, 6, 6)
    >>> apart = net(picture) + CarriedPath(net)(picture)
    >>> fold(net)
    >>> torch.allclose(net(picture), apart, atol=1e-5), is_carried(net)
    (True, True)

The method is ours; ``docs/experiments.md`` has what it gained.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from apisr.errors import InputError
from apisr.networks.compact import Compact

#: Gain of He's rule for the hidden layers: below 1, since the carried features add to every layer's input.
_HIDDEN_GAIN = 0.7
_LAST_DEVIATION = 1e-3


class CarriedPath(nn.Module):
    """Bilinear minus nearest enlargement as the one convolution that :func:`fold` puts into the network.

    Args:
        network: tells scale and un-shuffling; not kept.
    """

    weight: Tensor

    def __init__(self, network: Compact) -> None:
        super().__init__()
        self.unshuffle = network.unshuffle
        self.factor = network.scale * network.unshuffle
        self.register_buffer("weight", enlargement_weight(scale=network.scale, unshuffle=network.unshuffle))

    def forward(self, picture: Tensor) -> Tensor:
        """Map float32 pictures (N, 3, H, W) to what is to be added, (N, 3, scale*H, scale*W) float32."""
        apart = functional.pixel_unshuffle(picture, self.unshuffle) if self.unshuffle > 1 else picture
        return functional.pixel_shuffle(functional.conv2d(apart, self.weight, padding=1), self.factor)


def enlargement_weight(*, scale: int, unshuffle: int) -> Tensor:
    """The 3x3 convolution that makes bilinear minus nearest, pixels un-shuffled before and shuffled after.

    Returns:
        ``(3*(scale*unshuffle)**2, 3*unshuffle**2, 3, 3)`` float32.
    """
    channels, side = 3 * unshuffle**2, 5
    weight = torch.zeros(3 * (scale * unshuffle) ** 2, channels, 3, 3)
    for channel in range(channels):
        for row in range(3):
            for column in range(3):
                # What a single 1 at this place of the window does to the pixels of the middle.
                dot = torch.zeros(1, channels, side, side)
                dot[0, channel, row + 1, column + 1] = 1
                dot = functional.pixel_shuffle(dot, unshuffle) if unshuffle > 1 else dot
                smooth = functional.interpolate(dot, scale_factor=scale, mode="bilinear", align_corners=False)
                difference = smooth - functional.interpolate(dot, scale_factor=scale, mode="nearest")
                weight[:, channel, row, column] = functional.pixel_unshuffle(difference, scale * unshuffle)[0, :, 2, 2]
    return weight


def check_can_carry(network: nn.Module) -> Compact:
    """Return `network` if it can carry its input.

    Raises:
        InputError: it is not a Compact network with ReLU, LeakyReLU or PReLU and more features than input channels.
    """
    if not isinstance(network, Compact):
        raise InputError("model.carry is for the network 'compact'. Set model.carry=false.")
    if isinstance(network.body[1], nn.SiLU):
        raise InputError("model.carry needs an activation that passes positive values: relu, leakyrelu or prelu.")
    features, channels = _convolutions(network)[0].weight.shape[:2]
    if features <= channels:
        raise InputError(f"model.carry needs more than {channels} features, got model.arguments.features={features}.")
    return network


@torch.no_grad()
def start_carried(network: Compact) -> None:
    """Give the network its first weights: carried features, He's rule for the others, a last layer of nearly nothing.

    Randomness is torch's global generator, as for every layer's own start.
    """
    channels = _carried(network)
    *hidden, last = _convolutions(network)
    for number, convolution in enumerate(hidden):
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        if number:
            convolution.weight.mul_(_HIDDEN_GAIN)
        _bias(convolution).zero_()
    nn.init.normal_(last.weight, std=_LAST_DEVIATION)
    last.weight[:, :channels] = 0
    _bias(last).zero_()
    _set_rows(network)


@torch.no_grad()
def is_carried(network: Compact) -> bool:
    """Whether the first features of every layer are the input, exactly."""
    channels = _carried(network)
    return all(
        torch.equal(convolution.weight[:channels], _identity(convolution, channels))
        and not _bias(convolution)[:channels].any()
        for convolution in _convolutions(network)[:-1]
    )


@torch.no_grad()
def fold(network: Compact, *, sign: float = 1.0) -> None:
    """Add the enlargement to the last convolution, in place: the network then makes the whole output itself."""
    last = _convolutions(network)[-1]
    weight = enlargement_weight(scale=network.scale, unshuffle=network.unshuffle)
    last.weight[:, : _carried(network)] += sign * weight.to(last.weight)


def unfold(network: Compact) -> None:
    """The opposite of :func:`fold` (to rounding): for training on from weights that were saved."""
    fold(network, sign=-1.0)


def keep_carried(network: Compact) -> None:
    """Take the gradients of the carried rows away; Adam without weight decay then never moves them."""
    channels = _carried(network)
    for convolution in _convolutions(network)[:-1]:
        for parameter in (convolution.weight, _bias(convolution)):
            if parameter.grad is not None:
                parameter.grad[:channels] = 0


def _set_rows(network: Compact) -> None:
    channels = _carried(network)
    for convolution in _convolutions(network)[:-1]:
        convolution.weight[:channels] = _identity(convolution, channels)


def _identity(convolution: nn.Conv2d, channels: int) -> Tensor:
    rows = torch.zeros_like(convolution.weight[:channels])
    for channel in range(channels):
        rows[channel, channel, 1, 1] = 1
    return rows


def _convolutions(network: Compact) -> list[nn.Conv2d]:
    return [layer for layer in network.body if isinstance(layer, nn.Conv2d)]


def _bias(convolution: nn.Conv2d) -> Tensor:
    return cast("Tensor", convolution.bias)


def _carried(network: Compact) -> int:
    return 3 * network.unshuffle**2
