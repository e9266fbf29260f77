"""GRL for OpenVINO on a processor, built anew from the weights: the same sums in an order that suits its kernels.

The exported graph spends more time on copies than on products. Here the tokens of a window stand quadrant by quadrant,
and in a quadrant cell by cell (what one anchor stands for). Then

- shifting the windows by half of their side moves whole quadrants: one copy of long runs in place of two roundtrips
  through the picture;
- the tokens of a cell lie side by side: their mean and the anchors' linear layer are one product;
- lengths of queries and keys come from a product with a matrix of ones, not from sums over 16 channels;
- biases are constants, and the masks of shifted windows are made once for all blocks.

Sizes stay free. Only the order of the sums differs from the exported graph.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from apisr.core.errors import ModelError
from apisr.core.telemetry import import_openvino
from apisr.networks.position_tables import logarithmic_offsets, pair_index
from apisr.weights.formats.onnx_weights import read_named_arrays

if TYPE_CHECKING:
    from collections.abc import Mapping

    from openvino import Model as Network
    from openvino import Node

Floats = NDArray[np.floating]

#: Name of the layer from which on bf16 is not exact enough: what comes before loses little.
EXACT_FROM = "/exact_end"
#: As in :mod:`apisr.networks.grl`, which needs torch.
_MEAN = (0.4488, 0.4371, 0.4040)
_WINDOW, _ANCHOR_FACTOR = 8, 2
_MASKED = -100.0
_EPSILON = 1e-5
#: The one order of axes for which the kernels have a quick way; taken twice, it turns planes into pixels.
_LAST_FIRST = (0, 3, 1, 2)
_FIRST_BIAS = "layers.0.blocks.0.attn."


@dataclass(frozen=True)
class _Attended:
    """What one attention needs beside its queries, keys and values.

    Attributes:
        heads: attention heads.
        queries: tokens that ask.
        keys: tokens that answer.
        bias: ``(heads, queries, keys)``.
        mask: ``(windows, 1, queries, keys)``, or None.
    """

    heads: int
    queries: int
    keys: int
    bias: Floats
    mask: Node | None = None


def grl_network(path: Path, hyper: Mapping[str, object], scale: int) -> Network | None:
    """Build the network of an exported GRL file; None where the file does not hold what is needed.

    Args:
        path: an ONNX file of ours.
        hyper: the hyper-parameters of its card; those that are left out are the paper's.
        scale: by how much it enlarges.
    """
    window, factor = (
        int(str(hyper.get(name, default))) for name, default in (("window", _WINDOW), ("anchor_factor", _ANCHOR_FACTOR))
    )
    if window % (2 * factor):  # a cell would lie in two quadrants
        return None
    try:
        return _Builder(read_named_arrays(path), window, factor, scale).network()
    except (KeyError, ModelError):
        return None


class _Builder:
    """Builds the graph from arrays by the names that they have in the network."""

    def __init__(self, arrays: Mapping[str, Floats], window: int, factor: int, scale: int) -> None:
        self._arrays = arrays
        self._nodes = importlib.import_module("openvino.opset13")
        self._window, self._factor, self._scale = window, factor, scale
        self._features = len(arrays["conv_first.weight"])
        self._tokens, self._anchors = window**2, (window // factor) ** 2
        self._heads = arrays[_FIRST_BIAS + "window_attn.attn_transform.logit_scale"].size
        self._stripe_heads = arrays[_FIRST_BIAS + "stripe_attn.attn_transform1.logit_scale"].size
        self._order = _by_quadrant(window, factor)
        self._anchor_order = _by_quadrant(window // factor, 1)
        openvino = import_openvino()
        self._picture = self._nodes.parameter(openvino.PartialShape([-1, 3, -1, -1]), np.float32, name="input")

    def network(self) -> Network:
        """The whole graph: ``(N, 3, H, W)`` to ``(N, 3, s*H, s*W)`` in float32; H and W are whole windows."""
        nodes = self._nodes
        mean = self._constant(np.reshape(_MEAN, (1, 3, 1, 1)))
        first = self._convolution(nodes.subtract(self._picture, mean), "conv_first")
        x = self._norm(self._to_windows(first), "norm_start")
        for stage, blocks in enumerate(self._depths()):
            y = x
            for block in range(blocks):
                y = self._block(y, f"layers.{stage}.blocks.{block}.", shifted=block % 2 == 0)
            y = self._convolution(self._from_windows(y), f"layers.{stage}.conv")
            x = nodes.add(self._to_windows(y), x)
        x = self._convolution(self._from_windows(self._norm(x, "norm_end")), "conv_after_body")
        result = nodes.result(nodes.add(self._tail(nodes.add(x, first)), mean), name="output")
        return import_openvino().Model([result], [self._picture], "grl")

    def _depths(self) -> list[int]:
        pairs = [name.split(".")[1:4:2] for name in self._arrays if name.endswith("attn.proj.bias")]
        stages = [int(stage) for stage, _ in pairs]
        return [stages.count(stage) for stage in range(max(stages) + 1)]

    def _block(self, x: Node, name: str, *, shifted: bool) -> Node:
        nodes, arrays = self._nodes, self._arrays
        attention = f"{name}attn."
        windows = self._in_windows(self._moved(x, self._shifted) if shifted else x, attention, masked=shifted)
        if shifted:
            windows = self._moved(windows, self._shifted_back)
        both = nodes.concat([windows, self._in_stripes(x, attention)], 2)
        y = self._linear(both, arrays[f"{attention}proj.weight"], arrays[f"{attention}proj.bias"])
        x = nodes.add(x, self._norm(y, f"{name}norm1"))
        hidden = self._linear(x, arrays[f"{name}mlp.fc1.weight"], arrays[f"{name}mlp.fc1.bias"])
        y = self._linear(nodes.gelu(hidden, "erf"), arrays[f"{name}mlp.fc2.weight"], arrays[f"{name}mlp.fc2.bias"])
        return nodes.add(x, self._norm(y, f"{name}norm2"))

    def _in_windows(self, x: Node, name: str, *, masked: bool) -> Node:
        """Attention of the first half of the channels: ``(windows, tokens, C)`` to ``(windows, tokens, C/2)``."""
        scale, bias = self._scale_and_bias(f"{name}window_attn.attn_transform.", self._window, self._window)
        q, k, v = (self._qkv(x, name, part) for part in range(3))
        q, k = self._unit(q, self._heads, scale), self._unit(k, self._heads)
        bias = bias[:, self._order][:, :, self._order]
        mask = self._masks if masked else None
        return self._attend(q, k, v, _Attended(self._heads, self._tokens, self._tokens, bias, mask))

    def _in_stripes(self, x: Node, name: str) -> Node:
        """Attention of the second half through anchors."""
        nodes, heads, factor = self._nodes, self._stripe_heads, self._factor
        side = self._window // factor
        gather, bias_in = self._scale_and_bias(f"{name}stripe_attn.attn_transform1.", side, self._window)
        spread, bias_out = self._scale_and_bias(f"{name}stripe_attn.attn_transform2.", self._window, side)
        bias_in = bias_in[:, self._anchor_order][:, :, self._order]
        bias_out = bias_out[:, self._order][:, :, self._anchor_order]
        q, k, v = (self._qkv(x, name, part) for part in range(3, 6))
        q, k = self._unit(q, heads), self._unit(k, heads)
        reduction = f"{name}anchor.body.0.reduction."
        weight = np.tile(self._arrays[f"{reduction}weight"] / factor**2, (1, factor**2))
        cells = nodes.reshape(x, _whole([-1, self._anchors, factor**2 * self._features]), False)
        anchors = self._unit(self._linear(cells, weight, self._arrays[f"{reduction}bias"]), heads)
        asking, asked = (
            nodes.multiply(anchors, self._constant(self._per_channel(scale, heads))) for scale in (gather, spread)
        )
        gathered = self._attend(asking, k, v, _Attended(heads, self._anchors, self._tokens, bias_in))
        return self._attend(q, asked, gathered, _Attended(heads, self._tokens, self._anchors, bias_out))

    def _qkv(self, x: Node, name: str, part: int) -> Node:
        """One of the six linear layers: queries, keys and values of windows, then of stripes."""
        half = self._features // 2
        rows = slice(part * half, (part + 1) * half)
        weight, bias = (self._arrays[f"{name}qkv.body.{kind}"] for kind in ("weight", "bias"))
        return self._linear(x, weight[rows], bias[rows])

    def _unit(self, x: Node, heads: int, scale: Floats | None = None) -> Node:
        """The vectors of each head over their lengths, times a scale: ``(windows, tokens, C/2)``."""
        nodes = self._nodes
        width = self._features // 2
        ones = np.kron(np.eye(heads), np.ones((width // heads, width // heads)))
        squares = self._linear(nodes.multiply(x, x), ones, np.full(width, 1e-24))
        length = nodes.sqrt(squares)
        if scale is not None:
            length = nodes.multiply(length, self._constant(1 / self._per_channel(scale, heads)))
        return nodes.divide(x, length)

    def _per_channel(self, scale: Floats, heads: int) -> Floats:
        return np.repeat(scale, self._features // 2 // heads).reshape(1, 1, -1)

    def _attend(self, q: Node, k: Node, v: Node, what: _Attended) -> Node:
        nodes = self._nodes
        turned = [[0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]]
        tokens = [what.queries, what.keys, what.keys]
        width = self._features // 2
        q, k, v = (
            nodes.transpose(
                nodes.reshape(x, _whole([-1, count, what.heads, width // what.heads]), False), _whole(order)
            )
            for x, count, order in zip((q, k, v), tokens, turned, strict=True)
        )
        scores = nodes.add(nodes.matmul(q, k, False, False), self._constant(what.bias[None]))
        if what.mask is not None:
            scores = nodes.add(scores, what.mask)
        mixed = nodes.matmul(nodes.softmax(scores, 3), v, False, False)
        return nodes.reshape(nodes.transpose(mixed, _whole(turned[0])), _whole([-1, what.queries, width]), False)

    def _tail(self, x: Node) -> Node:
        """What enlarges; the exact end begins where the picture is still small, so that little is copied there."""
        nodes, steps = self._nodes, self._scale.bit_length() - 1
        if "upsample.up.0.weight" in self._arrays and "conv_before_upsample.0.weight" not in self._arrays:
            x = self._exact(self._convolution(x, "upsample.up.0"))
            return nodes.depth_to_space(x, "depth_first", self._scale)
        x = self._leaky(self._convolution(x, "conv_before_upsample.0"), 0.01)
        if "upsample.up.0.weight" in self._arrays:
            for step in range(steps):
                x = self._convolution(x, f"upsample.up.{2 * step}")
                x = nodes.depth_to_space(x if step else self._exact(x), "depth_first", 2)
            return self._last(x)
        for step in range(1, steps + 1):
            x = self._enlarged(x, f"conv_up{step}")
            x = self._leaky(x if step > 1 else self._exact(x), 0.2)
        return self._last(self._leaky(self._convolution(x, "conv_hr"), 0.2))

    def _enlarged(self, x: Node, name: str) -> Node:
        """Nearest x2 and a 3x3 convolution: a transposed one on the small grid, taps that meet the same row added."""
        kernel = self._arrays[f"{name}.weight"]
        for axis in (2, 3):
            first, second, third = np.moveaxis(kernel, axis, 0)
            kernel = np.stack((third, second + third, first + second, first), axis)
        y = self._nodes.convolution_backprop_data(
            x,
            self._constant(kernel.transpose(1, 0, 2, 3)),
            [2, 2],
            pads_begin=[1, 1],
            pads_end=[1, 1],
            dilations=[1, 1],
            auto_pad="explicit",
        )
        return self._nodes.add(y, self._constant(self._arrays[f"{name}.bias"].reshape(1, -1, 1, 1)))

    def _last(self, x: Node) -> Node:
        """The last 3x3 convolution, four pixels at once: a kernel of 4x4 in steps of two has 12 outputs in place of 3.

        The kernels compute 16 outputs at least, so that this takes less than half of the products.
        """
        kernel = self._arrays["conv_last.weight"]
        four = np.zeros((2, 2, *kernel.shape[:2], 4, 4), np.float32)
        for row, column in np.ndindex(2, 2):
            four[row, column, :, :, row : row + 3, column : column + 3] = kernel
        weights = self._constant(four.reshape(-1, *four.shape[3:]))
        y = self._nodes.convolution(x, weights, [2, 2], [1, 1], [1, 1], [1, 1])
        y = self._nodes.add(y, self._constant(np.tile(self._arrays["conv_last.bias"], 4).reshape(1, -1, 1, 1)))
        return self._nodes.depth_to_space(y, "blocks_first", 2)

    def _exact(self, biased: Node) -> Node:
        """Name a convolution, given with its bias, as the one where the exact end begins."""
        biased.input_value(0).get_node().set_friendly_name(EXACT_FROM)
        return biased

    def _leaky(self, x: Node, slope: float) -> Node:
        return self._nodes.prelu(x, self._constant([slope]))

    def _convolution(self, x: Node, name: str) -> Node:
        y = self._nodes.convolution(x, self._constant(self._arrays[f"{name}.weight"]), [1, 1], [1, 1], [1, 1], [1, 1])
        return self._nodes.add(y, self._constant(self._arrays[f"{name}.bias"].reshape(1, -1, 1, 1)))

    def _linear(self, x: Node, weight: Floats, bias: Floats) -> Node:
        y = self._nodes.matmul(x, self._constant(weight), False, True)
        return self._nodes.add(y, self._constant(bias.reshape(1, 1, -1)))

    def _norm(self, x: Node, name: str) -> Node:
        weight, bias = (self._constant(self._arrays[f"{name}.{kind}"].reshape(1, 1, -1)) for kind in ("weight", "bias"))
        y = self._nodes.mvn(x, _whole([2]), True, _EPSILON, "inside_sqrt")
        return self._nodes.add(self._nodes.multiply(y, weight), bias)

    def _scale_and_bias(self, name: str, side: int, key_side: int) -> tuple[Floats, Floats]:
        arrays = self._arrays
        table = logarithmic_offsets(max(side, key_side), min(side, key_side))
        hidden = np.maximum(table @ arrays[f"{name}cpb_mlp.0.weight"].T + arrays[f"{name}cpb_mlp.0.bias"], 0)
        scale = np.exp(np.minimum(arrays[f"{name}logit_scale"].reshape(-1), np.log(100.0)))
        last = arrays[f"{name}cpb_mlp.2.weight"].reshape(len(scale), -1)  # of one head it may be stored transposed
        values = 16 / (1 + np.exp(-(hidden @ last.T)))
        return scale, values[pair_index((side, side), (key_side, key_side))].transpose(2, 0, 1)

    # Copies. The numbers below are made in the graph, from the size of the picture.

    def _to_windows(self, x: Node) -> Node:
        """``(N, C, H, W)`` to ``(N * windows, tokens, C)``: runs of pixels of a cell are copied."""
        nodes = self._nodes
        columns = nodes.transpose(x, _whole(_LAST_FIRST))
        rows = self._shape(self._side(0), self._times(self._side(3), self._features), 1, self._side(2))
        pixels = nodes.transpose(nodes.reshape(columns, rows, False), _whole(_LAST_FIRST))
        runs = nodes.reshape(pixels, self._shape_of_runs, False)
        return nodes.reshape(
            nodes.gather(runs, self._into_windows, _whole(1)), _whole([-1, self._tokens, self._features]), False
        )

    def _from_windows(self, x: Node) -> Node:
        nodes = self._nodes
        runs = nodes.gather(nodes.reshape(x, self._shape_of_runs, False), self._out_of_windows, _whole(1))
        shape = self._shape(self._side(0), self._side(2), self._side(3), self._features)
        return nodes.transpose(nodes.reshape(runs, shape, False), _whole(_LAST_FIRST))

    def _moved(self, x: Node, order: Node) -> Node:
        """Bring the quadrants of all windows into another order."""
        nodes = self._nodes
        channels = x.get_output_partial_shape(0)[2].get_length()
        quadrants = self._shape(self._side(0), self._times(self._windows, 4), self._tokens // 4 * channels)
        moved = nodes.gather(nodes.reshape(x, quadrants, False), order, _whole(1))
        return nodes.reshape(moved, _whole([-1, self._tokens, channels]), False)

    @cached_property
    def _shape_of_runs(self) -> Node:
        return self._shape(self._side(0), self._run_count, self._factor * self._features)

    @cached_property
    def _into_windows(self) -> Node:
        half, factor = self._window // 2 // self._factor, self._factor
        shape = self._shape(self._rows, 2, half, factor, self._columns, 2, half)
        return self._numbers(self._run_count, shape, [0, 4, 1, 5, 2, 6, 3])

    @cached_property
    def _out_of_windows(self) -> Node:
        half, factor = self._window // 2 // self._factor, self._factor
        shape = self._shape(self._rows, self._columns, 2, 2, half, half, factor)
        return self._numbers(self._run_count, shape, [0, 2, 4, 6, 1, 3, 5])

    @cached_property
    def _shifted(self) -> Node:
        return self._rolled(-1)

    @cached_property
    def _shifted_back(self) -> Node:
        return self._rolled(1)

    def _rolled(self, by: int) -> Node:
        """Numbers of the quadrants after the picture was rolled by so many of them in both directions."""
        nodes = self._nodes
        count = self._times(self._windows, 4)
        grid = self._numbers(count, self._shape(self._rows, self._columns, 2, 2), [0, 2, 1, 3])
        sides = self._shape(self._times(self._rows, 2), self._times(self._columns, 2))
        rolled = nodes.roll(nodes.reshape(grid, sides, False), _whole([by, by]), _whole([0, 1]))
        rolled = nodes.reshape(rolled, self._shape(self._rows, 2, self._columns, 2), False)
        return nodes.reshape(nodes.transpose(rolled, _whole([0, 2, 1, 3])), _whole([-1]), False)

    @cached_property
    def _masks(self) -> Node:
        """``(N * windows, 1, tokens, tokens)``: shifted windows at the edge hold pixels from opposite sides."""
        nodes = self._nodes
        far = (np.arange(self._window) >= self._window // 2).astype(np.int64)
        regions = [
            (2 * far[:, None] * (kind // 2) + far[None, :] * (kind % 2)).ravel()[self._order] for kind in range(4)
        ]
        table = np.stack([(region[:, None] != region[None, :]) * _MASKED for region in regions])[:, None]
        last = [
            nodes.convert(nodes.equal(self._range(count), nodes.subtract(count, _whole([1]))), "i64")
            for count in (self._rows, self._columns)
        ]
        kinds = nodes.add(nodes.multiply(nodes.unsqueeze(last[0], _whole(1)), _whole(2)), last[1])
        kinds = nodes.reshape(kinds, self._shape(1, self._windows), False)
        kinds = nodes.broadcast(kinds, self._shape(self._side(0), self._windows))
        return nodes.gather(self._constant(table), nodes.reshape(kinds, _whole([-1]), False), _whole(0))

    @cached_property
    def _sides(self) -> Node:
        return self._nodes.shape_of(self._picture, "i64")

    @cached_property
    def _rows(self) -> Node:
        return self._nodes.divide(self._side(2), _whole([self._window]))

    @cached_property
    def _columns(self) -> Node:
        return self._nodes.divide(self._side(3), _whole([self._window]))

    @cached_property
    def _windows(self) -> Node:
        return self._nodes.multiply(self._rows, self._columns)

    @cached_property
    def _run_count(self) -> Node:
        return self._times(self._windows, self._tokens // self._factor)

    def _side(self, axis: int) -> Node:
        return self._nodes.gather(self._sides, _whole([axis]), _whole(0))

    def _times(self, count: Node, factor: int) -> Node:
        return self._nodes.multiply(count, _whole([factor]))

    def _range(self, count: Node) -> Node:
        return self._nodes.range(_whole(0), self._nodes.squeeze(count, _whole(0)), _whole(1), "i64")

    def _numbers(self, count: Node, shape: Node, order: Sequence[int]) -> Node:
        """0 to `count` in a shape, its axes brought into an order, flat."""
        nodes = self._nodes
        numbers = nodes.reshape(self._range(count), shape, False)
        return nodes.reshape(nodes.transpose(numbers, _whole(order)), _whole([-1]), False)

    def _shape(self, *sides: Node | int) -> Node:
        return self._nodes.concat([_whole([side]) if isinstance(side, int) else side for side in sides], 0)

    def _constant(self, values: NDArray[np.floating] | Sequence[float]) -> Node:
        return self._nodes.constant(np.ascontiguousarray(values, np.float32))


def _by_quadrant(side: int, cell: int) -> NDArray[np.int64]:
    """Numbers of the pixels of a window, quadrant by quadrant, in a quadrant cell by cell."""
    half = side // 2 // cell
    numbers = np.arange(side * side, dtype=np.int64).reshape(2, half, cell, 2, half, cell)
    return numbers.transpose(0, 3, 1, 4, 2, 5).ravel()


def _whole(values: int | Sequence[int]) -> Node:
    return importlib.import_module("openvino.opset13").constant(np.array(values, np.int64))
