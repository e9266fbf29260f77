"""The residual path of Compact and Lite networks: the input goes through all layers, the smooth enlargement is exact.

Such a network adds its output to the *nearest* enlargement, so in smooth areas it has to make the difference to a
smooth one. Learning that costs the first part of a short training, and in bfloat16 it never becomes good: near 1 values
have steps of 1/256, the differences drown, and the picture shows a grid of input pixels.

So the first ``3*u*u`` features of every layer (u: un-shuffling) are kept equal to the input: their rows are an
identity and get no gradient. ReLU passes them, since pictures are not negative. While training, *bilinear minus
nearest* is added outside the network in float32 (:class:`BilinearResidual`); in weights that are saved, validated or
exported it is part of the last convolution (:func:`fuse`), which reads it off the path's features. The result is a
plain network with the same output. In a Lite network, the rows of the context branch's last convolution that would
reach the path stay zero. (A convolution pads with zeros, so that both differ from a bilinear enlargement at the
picture's rim, alike.)

    >>> import torch
    >>> from apisr.networks.compact import Compact
    >>> net = Compact(features=8, depth=1, scale=2, activation="relu")
    >>> init_residual_path(net)
    >>> picture = torch.rand(1, 3, 6, 6)
    >>> apart = net(picture) + BilinearResidual(net)(picture)
    >>> fuse(net)
    >>> torch.allclose(net(picture), apart, atol=1e-5), has_residual_path(net)
    (True, True)

The method is ours; ``docs/experiments.md`` has what it gained.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from apisr.core.errors import InputError
from apisr.networks.compact import Compact
from apisr.networks.lite import BLOCK, Lite

#: Networks that can have a residual path.
ResidualNetwork = Compact | Lite

#: Gain of He's rule for the hidden layers: below 1, since the path's features add to every layer's input.
_HIDDEN_GAIN = 0.7
_LAST_DEVIATION = 1e-3


class BilinearResidual(nn.Module):
    """Bilinear minus nearest enlargement as the one convolution that :func:`fuse` puts into the network.

    Args:
        network: its scale and un-shuffling count; it is not kept.
    """

    weight: Tensor

    def __init__(self, network: ResidualNetwork) -> None:
        super().__init__()
        self.scale = network.scale
        self.unshuffle = _unshuffle(network)
        self.factor = self.scale * self.unshuffle
        self.multiple_px = network.multiple_px if isinstance(network, Lite) else self.unshuffle
        self.register_buffer("weight", enlargement_weight(scale=self.scale, unshuffle=self.unshuffle))

    def forward(self, picture: Tensor) -> Tensor:
        """Map float32 pictures (N, 3, H, W) to what is to be added, (N, 3, scale*H, scale*W) float32."""
        height, width = picture.shape[-2:]
        bottom, right = -height % self.multiple_px, -width % self.multiple_px
        if bottom or right:  # as Lite does, so that fusing is exact there too
            whole = self(functional.pad(picture, (0, right, 0, bottom), "replicate"))
            return whole[:, :, : height * self.scale, : width * self.scale]
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


def check_residual_path(network: nn.Module) -> ResidualNetwork:
    """Return `network` if it can have a residual path.

    Raises:
        InputError: it is not a Lite network or a Compact one with ReLU, LeakyReLU or PReLU whose last convolution is
            not dilated, or it has no more features than input channels.
    """
    if not isinstance(network, Compact | Lite):
        raise InputError(
            "model.residual_path is for the networks 'compact' and 'lite'. Set model.residual_path=false.",
            code="no-residual-path",
        )
    if isinstance(network.body[1], nn.SiLU):
        raise InputError(
            "model.residual_path needs an activation that passes positive values: relu, leakyrelu or prelu.",
            code="no-residual-path",
        )
    if (dilation := _convolutions(network)[-1].dilation[0]) > 1:
        raise InputError(
            f"model.residual_path needs a last convolution without dilation, got {dilation}.", code="no-residual-path"
        )
    features, channels = _convolutions(network)[0].weight.shape[:2]
    if features <= channels:
        raise InputError(
            f"model.residual_path needs more than {channels} features, got model.arguments.features={features}.",
            code="no-residual-path",
        )
    return network


@torch.no_grad()
def init_residual_path(network: ResidualNetwork) -> None:
    """Give the network its first weights: the path, He's rule for all else, a last layer of nearly nothing.

    Randomness is torch's global generator, as for every layer's own start.
    """
    channels = _path_channels(network)
    *hidden, last = _convolutions(network)
    if isinstance(network, Lite):
        init_context(network)
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
def init_context(network: Lite) -> None:
    """Give the context branch its first weights: He's rule, and zero for its last convolution, as if it were not there.

    The same for the deep level, if the network has one. Randomness is torch's global generator.
    """
    _init_branch(network.context)
    init_deep(network)


@torch.no_grad()
def init_deep(network: Lite) -> None:
    """Give the deep level its first weights in the way of :func:`init_context`; without one, do nothing."""
    if network.multiple_px > BLOCK:
        _init_branch(network.deep)


def _init_branch(branch: nn.ModuleList) -> None:
    *before, joint = (layer for layer in branch if isinstance(layer, nn.Conv2d))
    for convolution in before:
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        _bias(convolution).zero_()
    joint.weight.zero_()
    _bias(joint).zero_()


@torch.no_grad()
def has_residual_path(network: ResidualNetwork) -> bool:
    """Whether the first features of every layer are the input, exactly."""
    channels = _path_channels(network)
    return not any(rows.any() for rows in _context_rows(network)) and all(
        torch.equal(convolution.weight[:channels], _identity(convolution, channels))
        and not _bias(convolution)[:channels].any()
        for convolution in _convolutions(network)[:-1]
    )


@torch.no_grad()
def fuse(network: ResidualNetwork, *, sign: float = 1.0) -> None:
    """Add the enlargement to the last convolution, in place: the network then makes the whole output itself."""
    last = _convolutions(network)[-1]
    weight = enlargement_weight(scale=network.scale, unshuffle=_unshuffle(network))
    last.weight[:, : _path_channels(network)] += sign * weight.to(last.weight)


def unfuse(network: ResidualNetwork) -> None:
    """The opposite of :func:`fuse` (to rounding): for training on from weights that were saved."""
    fuse(network, sign=-1.0)


def mask_gradients(network: ResidualNetwork) -> None:
    """Take the gradients of the path's rows away; Adam without weight decay then never moves them."""
    channels = _path_channels(network)
    rows = [(convolution, channels) for convolution in _convolutions(network)[:-1]]
    if isinstance(network, Lite):
        rows.append((_joint(network), channels * BLOCK**2))
    for convolution, count in rows:
        for parameter in (convolution.weight, _bias(convolution)):
            if parameter.grad is not None:
                parameter.grad[:count] = 0


def _set_rows(network: ResidualNetwork) -> None:
    channels = _path_channels(network)
    for convolution in _convolutions(network)[:-1]:
        convolution.weight[:channels] = _identity(convolution, channels)


def _identity(convolution: nn.Conv2d, channels: int) -> Tensor:
    rows = torch.zeros_like(convolution.weight[:channels])
    for channel in range(channels):
        rows[channel, channel, 1, 1] = 1
    return rows


def _convolutions(network: ResidualNetwork) -> list[nn.Conv2d]:
    return [layer for layer in network.body if isinstance(layer, nn.Conv2d)]


def _joint(network: Lite) -> nn.Conv2d:
    return cast("nn.Conv2d", network.context[-1])


def _context_rows(network: ResidualNetwork) -> list[Tensor]:
    """What the context branch would add to the path's features: weights and biases of its last convolution."""
    if not isinstance(network, Lite):
        return []
    count = _path_channels(network) * BLOCK**2  # pixels are shuffled by BLOCK behind it
    return [_joint(network).weight[:count], _bias(_joint(network))[:count]]


def _bias(convolution: nn.Conv2d) -> Tensor:
    return cast("Tensor", convolution.bias)


def _unshuffle(network: ResidualNetwork) -> int:
    return network.unshuffle if isinstance(network, Compact) else 1


def _path_channels(network: ResidualNetwork) -> int:
    return 3 * _unshuffle(network) ** 2
