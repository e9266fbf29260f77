"""Making a trained Compact network deeper, or a Lite network of it, without losing what it knows.

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
    >>> grow(large, small.state_dict(), noise=0.0)
    >>> picture = torch.rand(1, 3, 6, 6)
    >>> torch.allclose(large(picture), small(picture))
    True
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from apisr.core.errors import InputError
from apisr.networks.compact import Compact
from apisr.networks.lite import BLOCK, Lite
from apisr.train.carry import start_context, start_deep

#: Standard deviation of the noise on the weights of new layers.
NOISE = 0.01


@torch.no_grad()
def grow(network: Compact | Lite, state: Mapping[str, Tensor], *, noise: float = NOISE) -> None:
    """Give `network` the weights of a smaller one, a Compact network, or a Lite one without the deep level.

    Convolutions of a Compact network with a dilation above 1 become identities; the context branch of a Lite network
    begins by He's rule, but for its last convolution, which is zero.

    Args:
        network: the larger one, with ReLU.
        state: of the smaller one: the same number of features, scale and un-shuffling.
        noise: on new weights but those of carried features (:mod:`apisr.train.carry`); torch's global generator.

    Raises:
        InputError: the layers of the two do not match.
    """
    convolutions = [layer for layer in network.body if isinstance(layer, nn.Conv2d)]
    given = sorted({int(match[1]) for key in state if (match := re.fullmatch(r"body\.(\d+)\.weight", key))})
    given = [number for number in given if state[f"body.{number}.weight"].ndim == 4]
    new = [layer for layer in convolutions if layer.dilation[0] > 1]
    if isinstance(network, Lite) and network.multiple_px > BLOCK and "context.0.weight" in state:
        _grow_deep(network, state)
        return
    if isinstance(network, Lite):
        _check_is_body(state, given, len(convolutions))
        start_context(network)
    if not isinstance(network.body[1], nn.ReLU):
        raise InputError("model.grow needs the activation relu, which leaves identities as they are.")
    if len(given) + len(new) != len(convolutions) or not given:
        raise InputError(
            f"cannot grow {len(given)} convolutions to {len(convolutions)}: expected as many dilations above 1 as "
            f"there are new ones, got {len(new)}. Set model.arguments.dilations."
        )
    numbers = iter(given)
    for layer in convolutions:
        bias = layer.bias
        if layer in new:
            nn.init.dirac_(layer.weight)
            channels = convolutions[0].weight.shape[1]
            layer.weight[channels:] += noise * torch.randn_like(layer.weight[channels:])
            if bias is not None:
                bias.zero_()
            continue
        name = f"body.{next(numbers)}"
        weight = state[f"{name}.weight"]
        if weight.shape != layer.weight.shape:
            raise InputError(
                f"cannot grow: '{name}.weight' is {tuple(weight.shape)}, expected {tuple(layer.weight.shape)}. "
                "Features, scale and un-shuffling must be the same."
            )
        layer.weight.copy_(weight)
        if bias is not None:
            bias.copy_(state[f"{name}.bias"])


def _grow_deep(network: Lite, state: Mapping[str, Tensor]) -> None:
    """Take all weights of a Lite network; the deep level, which that one must not have, begins by adding nothing."""
    own = {key: value for key, value in network.state_dict().items() if not key.startswith("deep.")}
    wrong = sorted(set(state) ^ set(own)) or sorted(key for key in own if own[key].shape != state[key].shape)
    if wrong:
        raise InputError(
            f"model.grow gives a Lite network a deep level and leaves all else as it is: '{wrong[0]}' differs. "
            "Set model.arguments as in the smaller network, and deep_features, deep_depth."
        )
    network.load_state_dict(state, strict=False)
    start_deep(network)


def _check_is_body(state: Mapping[str, Tensor], given: list[int], expected: int) -> None:
    """Refuse what is not the body of a Lite network: a Compact one with as many convolutions, without PReLU."""
    names = {f"body.{number}.{kind}" for number in given for kind in ("weight", "bias")}
    if len(given) == expected and names == set(state):
        return
    other = sorted(set(state) - names)
    found = f"'{other[0]}' besides" if other else f"{len(given)} convolutions"
    raise InputError(
        f"model.grow makes a Lite network of a Compact one with the activation relu and {expected} convolutions, got "
        f"{found}. Set model.arguments.depth, or model.grow=false for weights of a whole Lite network."
    )
