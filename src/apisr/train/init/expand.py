"""Expanding a trained Compact network to a deeper one, or to a Lite network, without losing what it knows (Net2Net).

Layers with dilation let a network see farther (a compression block, a whole line) at little cost, but train slowly from
nothing. Put between the layers of a network that is already good, as identities with a little noise, they begin where
that network stands: after a ReLU nothing is negative, so an identity and another ReLU change nothing. The new layers
are those with a dilation above 1; all others take the given weights in order. (Net2Net, Chen et al., ICLR 2016, calls
such steps function-preserving; the noise here breaks the symmetry.)

A Lite network takes the weights of a Compact one as its body; its context branch begins by adding nothing. Or those of
another Lite network, to which its deep level is new.

    >>> import torch
    >>> from apisr.networks.compact import Compact
    >>> small = Compact(features=8, depth=1, scale=2, activation="relu")
    >>> large = Compact(features=8, depth=2, scale=2, activation="relu", dilations=[1, 2, 1, 1])
    >>> expand(large, small.state_dict(), noise=0.0)
    >>> picture = torch.rand(1, 3, 6, 6)
    >>> torch.allclose(large(picture), small(picture))
    True
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from apisr.core.errors import InputError
from apisr.networks.compact import Compact
from apisr.networks.lite import BLOCK, Lite
from apisr.train.init.residual_path import init_context, init_deep

#: Standard deviation of the noise on the weights of new layers.
NOISE = 0.01


@torch.no_grad()
def expand(network: Compact | Lite, state: Mapping[str, Tensor], *, noise: float = NOISE) -> None:
    """Give `network` the weights of a smaller one: of a Compact network, or of a Lite one without the deep level.

    Convolutions of a Compact network with a dilation above 1 become identities; the context branch of a Lite network
    begins by He's rule, but for its last convolution, which is zero.

    Args:
        network: the larger one; a Compact network with ReLU, or a Lite one with the activation of the smaller one.
        state: of the smaller one: the same number of features, scale and un-shuffling.
        noise: on new weights but those of the residual path (:mod:`apisr.train.init.residual_path`); it comes from
            torch's global generator.

    Raises:
        InputError: the layers of the two do not match.
    """
    convolutions = [layer for layer in network.body if isinstance(layer, nn.Conv2d)]
    numbers = sorted({int(match[1]) for key in state if (match := re.fullmatch(r"body\.(\d+)\.weight", key))})
    numbers = [number for number in numbers if state[f"body.{number}.weight"].ndim == 4]
    if isinstance(network, Lite) and network.multiple_px > BLOCK and "context.0.weight" in state:
        _expand_deep(network, state)
        return
    if isinstance(network, Lite):
        _expand_body(network, state, numbers)
        return
    _check_layers(network, convolutions, numbers)
    remaining = iter(numbers)
    for layer in convolutions:
        if layer.dilation[0] > 1:
            _become_identity(layer, channels=convolutions[0].weight.shape[1], noise=noise)
        else:
            _take(layer, state, f"body.{next(remaining)}")


def _check_layers(network: Compact, convolutions: list[nn.Conv2d], numbers: list[int]) -> None:
    if not isinstance(network.body[1], nn.ReLU):
        raise InputError(
            "model.expand needs the activation relu, which leaves identities as they are. Start from weights of such a "
            "network.",
            code="cannot-expand",
        )
    new = sum(layer.dilation[0] > 1 for layer in convolutions)
    if len(numbers) + new != len(convolutions) or not numbers:
        raise InputError(
            f"cannot expand {len(numbers)} convolutions to {len(convolutions)}: expected as many dilations above 1 as "
            f"there are new ones, got {new}. Set model.arguments.dilations.",
            code="cannot-expand",
        )


def _become_identity(layer: nn.Conv2d, *, channels: int, noise: float) -> None:
    nn.init.dirac_(layer.weight)
    layer.weight[channels:] += noise * torch.randn_like(layer.weight[channels:])
    if layer.bias is not None:
        layer.bias.zero_()


def _take(layer: nn.Conv2d, state: Mapping[str, Tensor], name: str) -> None:
    weight = state[f"{name}.weight"]
    if weight.shape != layer.weight.shape:
        raise InputError(
            f"cannot expand: '{name}.weight' is {tuple(weight.shape)}, expected {tuple(layer.weight.shape)}. "
            "Features, scale and un-shuffling must be the same.",
            code="cannot-expand",
        )
    layer.weight.copy_(weight)
    if layer.bias is not None:
        layer.bias.copy_(state[f"{name}.bias"])


def _expand_deep(network: Lite, state: Mapping[str, Tensor]) -> None:
    """Take all weights of a Lite network; the deep level, which that one must not have, begins by adding nothing."""
    own = {key: value for key, value in network.state_dict().items() if not key.startswith("deep.")}
    wrong = sorted(set(state) ^ set(own)) or sorted(key for key in own if own[key].shape != state[key].shape)
    if wrong:
        raise InputError(
            f"model.expand gives a Lite network a deep level and leaves all else as it is: '{wrong[0]}' differs. "
            "Set model.arguments as in the smaller network, and deep_features, deep_depth.",
            code="cannot-expand",
        )
    network.load_state_dict(state, strict=False)
    init_deep(network)


def _expand_body(network: Lite, state: Mapping[str, Tensor], numbers: list[int]) -> None:
    """Take the weights of a Compact network as the body; the context branch begins by adding nothing."""
    _check_is_body(network, state, numbers)
    init_context(network)
    for number in numbers:
        _take(cast(nn.Conv2d, network.body[number]), state, f"body.{number}")
    for number, layer in enumerate(network.body):
        if isinstance(layer, nn.PReLU):
            layer.weight.copy_(state[f"body.{number}.weight"])


def _check_is_body(network: Lite, state: Mapping[str, Tensor], numbers: list[int]) -> None:
    """Refuse what is not the body of a Lite network: a Compact one with as many convolutions and its activation."""
    expected = {f"body.{name}" for name in network.body.state_dict()}
    if expected == set(state):
        return
    activation = "prelu" if isinstance(network.body[1], nn.PReLU) else "relu"
    count = sum(isinstance(layer, nn.Conv2d) for layer in network.body)
    other = sorted(set(state) - expected)
    found = f"'{other[0]}' besides" if other and len(numbers) == count else f"{len(numbers)} convolutions"
    raise InputError(
        f"model.expand makes a Lite network of a Compact one with the activation {activation} and {count} "
        f"convolutions, got {found}. Set model.arguments.depth and activation, or model.expand=false for weights of a "
        "whole Lite network.",
        code="cannot-expand",
    )
