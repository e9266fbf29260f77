"""Networks of OpenVINO with 8-bit pictures on both sides: ``(N, H, W, 3)`` uint8 in and out; and quicker shuffles.

Most of our networks end alike: pixel shuffle of the last convolution, plus the nearest enlargement of the input. On a
processor that end is rewritten: the sum comes before the shuffle, where it is a part of the convolution, and bytes are
shuffled in place of floats. It takes 4 to 6 % of the time away, and bfloat16 becomes more exact, since a byte fits into
it: what the network leaves as it is stays exact (``apisr-x2-fast``: 64.0 dB to fp32 on the built-in picture, 58.0
before).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from apisr.core.telemetry import import_openvino

if TYPE_CHECKING:
    from openvino import Model as Network
    from openvino import Node, Output


class _End(NamedTuple):
    """The end of a network.

    Attributes:
        values: what the last convolution gives, ``(N, 3*s*s, H, W)``.
        factor: of the pixel shuffle, s.
    """

    values: Output
    factor: int


def in_whole_numbers(network: Network, *, scale: int, on_processor: bool) -> Network:
    """Return a network of ``(N, H, W, 3)`` uint8 on both sides around one of floats in [0, 1]; halves round up.

    The processor plugin computes what follows the last convolution in float32 whatever the precision, so that rounding
    is exact.

    Args:
        network: ``(N, 3, H, W)`` float32; it is not changed.
        scale: by how much it enlarges.
        on_processor: whether it is for a processor.
    """
    inner = network.clone()
    end = _end_of(inner, scale) if on_processor else None
    return _around(inner) if end is None else _with_early_sum(inner, end)


def with_quick_shuffles(network: Network) -> Network:
    """Return a network whose inner pixel shuffles copy all channels of a pixel at once; its output has the same bits.

    The output channels of the convolution before a shuffle are put into the order that this needs. It takes 2.5 % of
    the time of ``apisr-x4-fast`` away.
    """
    nodes = importlib.import_module("openvino.opset13")
    inner = network.clone()
    for shuffle in inner.get_ordered_ops():
        bias = shuffle.input_value(0).get_node() if shuffle.get_type_name() == "DepthToSpace" else None
        if bias is None or not _is_biased_convolution(bias) or _is_last(shuffle):
            continue
        attributes = shuffle.get_attributes()
        if attributes["mode"] != "depth_first":
            continue
        factor = int(attributes["block_size"])
        convolution = bias.input_value(0).get_node()
        weights, offsets = (constant_values(node.input_value(1)) for node in (convolution, bias))
        order = np.arange(len(weights)).reshape(-1, factor**2).T.ravel()
        convolution.input(1).replace_source_output(nodes.constant(weights[order]).output(0))
        bias.input(1).replace_source_output(nodes.constant(offsets.reshape(1, -1, 1, 1)[:, order]).output(0))
        quick = nodes.depth_to_space(bias.output(0), "blocks_first", factor)
        for target in list(shuffle.output(0).get_target_inputs()):
            target.replace_source_output(quick.output(0))
    return inner


def constant_values(output: Output) -> NDArray[np.float32]:
    """Return the values of a constant, behind a conversion or not."""
    node = output.get_node()
    while node.get_type_name() != "Constant":
        node = node.input_value(0).get_node()
    return np.array(node.get_data(), np.float32)


def _is_biased_convolution(node: Node) -> bool:
    """Whether a node adds a bias to a convolution that nothing else uses, and feeds a single node."""
    if node.get_type_name() != "Add" or node.input_value(0).get_node().get_type_name() != "Convolution":
        return False
    users = [
        [target.get_node().get_type_name() for target in output.get_target_inputs()]
        for output in (node.output(0), node.input_value(0))
    ]
    return all(sum(kind != "ShapeOf" for kind in kinds) == 1 for kinds in users)


def _is_last(shuffle: Node) -> bool:
    """Whether a shuffle is at the end of a network, where its output has three channels."""
    return shuffle.get_output_partial_shape(0)[1].get_length() == 3


def _around(inner: Network) -> Network:
    """The conversions before and behind any network."""
    openvino = import_openvino()
    nodes, steps = (importlib.import_module(f"openvino.{name}") for name in ("opset13", "preprocess"))
    around = steps.PrePostProcessor(inner)
    around.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    around.input().model().set_layout(openvino.Layout("NCHW"))
    around.input().preprocess().convert_element_type(openvino.Type.f32).scale(255.0)
    inner = around.build()
    values = inner.get_results()[0].input_value(0)
    values = nodes.add(nodes.multiply(values, np.float32(255)), np.float32(0.5))
    values = nodes.floor(nodes.clamp(values, 0.0, 255.0))
    whole = nodes.convert(nodes.transpose(values, np.array([0, 2, 3, 1])), "u8")
    return openvino.Model([whole], inner.get_parameters(), inner.get_friendly_name())


def _with_early_sum(inner: Network, end: _End) -> Network:
    """The conversions around a network whose end is known, with the sum before the shuffle."""
    openvino = import_openvino()
    nodes = importlib.import_module("openvino.opset13")
    (before,) = inner.get_parameters()
    pixels = nodes.parameter(openvino.PartialShape([-1, -1, -1, 3]), openvino.Type.u8)
    bytes_in = nodes.transpose(nodes.convert(pixels, "f32"), np.array([0, 3, 1, 2]))
    # The clamp changes nothing: it keeps the division out of the first convolution's weights, which lose by it.
    source = nodes.clamp(nodes.divide(bytes_in, np.float32(255)), 0.0, 1.0)
    for target in list(before.output(0).get_target_inputs()):
        target.replace_source_output(source.output(0))
    enlarged = nodes.convolution(bytes_in, _copies(end.factor**2), [1, 1], [0, 0], [0, 0], [1, 1])
    values = nodes.add(nodes.multiply(end.values, np.float32(255)), enlarged)
    values = nodes.clamp(nodes.add(values, np.float32(0.5)), 0.0, 255.0)
    whole = nodes.depth_to_space(nodes.convert(values, "u8"), "depth_first", end.factor)  # the conversion cuts
    whole = nodes.transpose(whole, np.array([0, 2, 3, 1]))
    return openvino.Model([whole], [pixels], inner.get_friendly_name())


def _copies(count: int) -> Node:
    """The weights of a 1x1 convolution that repeats each of three channels."""
    nodes = importlib.import_module("openvino.opset13")
    weights = np.repeat(np.eye(3, dtype=np.float32), count, axis=0)
    return nodes.constant(weights.reshape(3 * count, 3, 1, 1))


def _end_of(network: Network, scale: int) -> _End | None:
    """Find the end ``shuffle(values) + nearest(input)``; None where a network ends otherwise or on another grid."""
    last = network.get_results()[0].input_value(0).get_node()
    if last.get_type_name() != "Add" or len(network.get_parameters()) != 1:
        return None
    terms = {value.get_node().get_type_name(): value.get_node() for value in last.input_values()}
    if set(terms) != {"DepthToSpace", "Interpolate"}:
        return None
    shuffle, enlarged = terms["DepthToSpace"], terms["Interpolate"]
    if enlarged.input_value(0).get_node().get_type_name() != "Parameter":
        return None
    shuffled, nearest = shuffle.get_attributes(), enlarged.get_attributes()
    if shuffled["mode"] != "depth_first" or nearest["mode"] != "nearest":
        return None
    if int(shuffled["block_size"]) != scale:  # a network that begins with a pixel unshuffle
        return None
    return _End(shuffle.input_value(0), int(shuffled["block_size"]))
