"""8-bit integers for Compact networks with ReLU in OpenVINO.

A plain quantisation of ``apisr-x2-fast`` reaches 45 dB to fp32 on the built-in picture, this one 53. With strong noise
on it that falls to 47, so that this precision is taken where it is named. The channels
between two layers are brought to similar sizes first: a ReLU lets a positive factor through, so that it can be taken
from the weights in front and given to those behind. Weights have a scale for each channel, and ranges come from
built-in pictures. The last three convolutions, whose errors reach the output as they are, stay in bfloat16 or fp32.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from apisr.core.telemetry import import_openvino
from apisr.engines.base import probe_picture
from apisr.engines.openvino_pixels import constant_values

if TYPE_CHECKING:
    from openvino import Model as Network
    from openvino import Node, Output

    from apisr.weights import Model

Floats = NDArray[np.float32]
#: Runs a network in fp32 and returns its outputs.
Runner = Callable[["Network", Floats], list[Floats]]

#: Convolutions at the end that are not quantised.
_KEPT_AT_END = 3
#: Share of a channel's size that is taken from the activations and given to the weights behind.
_EQUALISED = 0.7
#: Largest factor of a channel.
_MOST = 32.0
#: Percentile of the activations that is the end of their range, in a channel and in a layer.
_CHANNEL_END, _LAYER_END = 99.95, 99.98
_LEVELS, _WEIGHT_LEVELS = 256, 255


@dataclass
class _Layer:
    """A convolution with what is changed of it.

    Attributes:
        node: the convolution.
        weights: ``(out, in, 3, 3)``.
        bias: the node that adds the bias.
        inputs: what it was given on the built-in pictures, ``(in, values)``.
    """

    node: Node
    weights: Floats
    bias: Node
    inputs: Floats


def suits_int8(model: Model) -> bool:
    """Whether a model is of the kind that this way of making 8-bit integers is for."""
    return model.architecture == "compact" and dict(model.card.get("hyper", {})).get("activation") == "relu"


def in_int8(network: Network, run: Runner) -> Network:
    """Return a Compact network with ReLU whose convolutions, but for the last three, are computed in 8-bit integers.

    Args:
        network: of floats in [0, 1]; it is not changed.
        run: for the built-in pictures.
    """
    inner = network.clone()
    layers = _layers(inner, run)
    quantised = layers[: len(layers) - _KEPT_AT_END]
    for before, layer in itertools.pairwise(quantised):
        _equalise(before, layer)
    for layer in layers:
        _set(layer.node, 1, _constant(layer.weights).output(0))
    for layer in quantised:
        _quantise(layer)
    inner.validate_nodes_and_infer_types()
    return inner


def _layers(network: Network, run: Runner) -> list[_Layer]:
    openvino = import_openvino()
    nodes = [node for node in network.get_ordered_ops() if node.get_type_name() == "Convolution"]
    inputs = [node.input_value(0) for node in nodes]
    watched = openvino.Model(inputs, network.get_parameters(), "watched").clone()
    results = [run(watched, picture) for picture in _pictures()]
    joined = [
        np.concatenate([result[place].swapaxes(0, 1).reshape(result[place].shape[1], -1) for result in results], axis=1)
        for place in range(len(nodes))
    ]
    return [
        _Layer(node, constant_values(node.input_value(1)), _bias_of(node), values)
        for node, values in zip(nodes, joined, strict=True)
    ]


def _pictures() -> list[Floats]:
    """Edges and flat areas, the same darker and paler, noise, and a dark and a bright ramp."""
    sharp = probe_picture(96, 96)
    ramp = np.broadcast_to(np.linspace(0, 1, 96, dtype=np.float32), sharp.shape)
    noise = np.random.default_rng(3).random(sharp.shape, dtype=np.float32)
    return [np.ascontiguousarray(values, np.float32) for values in (sharp, 0.3 * sharp, 1 - 0.4 * sharp, ramp, noise)]


def _equalise(before: _Layer, layer: _Layer) -> None:
    """Bring the channels between two layers to similar sizes; what the network computes stays the same."""
    nodes = importlib.import_module("openvino.opset13")
    sizes = np.percentile(np.abs(layer.inputs), _CHANNEL_END, axis=1) + 1e-6
    weights = np.abs(layer.weights).transpose(1, 0, 2, 3).reshape(len(sizes), -1).max(axis=1) + 1e-9
    factors = sizes**_EQUALISED / weights ** (1 - _EQUALISED)
    factors = _rounded(np.clip(factors / np.exp(np.log(factors).mean()), 1 / _MOST, _MOST))
    layer.weights = layer.weights * factors.reshape(1, -1, 1, 1)
    layer.inputs = layer.inputs / factors.reshape(-1, 1)
    before.weights = before.weights / factors.reshape(-1, 1, 1, 1)
    bias = before.bias.input_value(1)
    _set(before.bias, 1, nodes.divide(bias, _constant(factors.reshape(1, -1, 1, 1))).output(0))


def _quantise(layer: _Layer) -> None:
    """Put the quantisation of the input (a byte, from zero on) and of the weights (a scale for each channel) in."""
    nodes = importlib.import_module("openvino.opset13")
    low = np.float32(0)
    high = _rounded(np.asarray(np.percentile(layer.inputs, _LAYER_END)))
    source = nodes.fake_quantize(layer.node.input_value(0), low, high, low, high, _LEVELS)
    _set(layer.node, 0, source.output(0))
    most = np.abs(layer.weights).reshape(len(layer.weights), -1).max(axis=1).reshape(-1, 1, 1, 1) + 1e-9
    ends = (_constant(-most), _constant(most))
    weights = nodes.fake_quantize(_constant(layer.weights), *ends, *ends, _WEIGHT_LEVELS)
    _set(layer.node, 1, weights.output(0))


def _bias_of(node: Node) -> Node:
    targets: Sequence[Node] = [target.get_node() for target in node.output(0).get_target_inputs()]
    return next(target for target in targets if target.get_type_name() == "Add")


def _rounded(values: NDArray[np.floating]) -> Floats:
    """Three digits, so that the last bits of a processor do not decide."""
    digits = 10.0 ** (2 - np.floor(np.log10(values)))
    return (np.round(values * digits) / digits).astype(np.float32)


def _constant(values: NDArray[np.floating]) -> Node:
    return importlib.import_module("openvino.opset13").constant(np.ascontiguousarray(values, np.float32))


def _set(node: Node, place: int, value: Output) -> None:
    node.input(place).replace_source_output(value)
