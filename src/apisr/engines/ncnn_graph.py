"""Our networks as ncnn graphs, written from hyper-parameters and weights: no converter and no torch is needed.

An ncnn network is a text (one line a layer: type, name, how many inputs and outputs, their names, numbered parameters)
and a file of weights, in the order of the layers. A convolution's weights begin with a flag of four bytes, 0 for plain
float32; biases and slopes have none.

>>> graph = Graph({"a.weight": np.zeros((4, 3, 3, 3), np.float32), "a.bias": np.zeros(4, np.float32)})
>>> graph.finish(graph.convolution("in0", "a", slope=0.0))
>>> print(graph.text().splitlines()[3])
Convolution l1 1 1 in0 out0 0=4 1=3 2=1 4=1 5=1 6=108 9=1
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[np.float32]]

_MAGIC = 7767517
_SOURCE, _RESULT = "in0", "out0"
#: Slopes of the activations that a convolution of ncnn can do itself.
_SLOPES = {"relu": 0.0, "leakyrelu": 0.1}


@dataclass
class _Layer:
    kind: str
    inputs: list[str]
    output: str
    parameters: str
    weights: list[bytes] = field(default_factory=list[bytes])


class Graph:
    """A graph that grows layer by layer.

    Args:
        arrays: learned values by their name in the network.
        margin_px: by how much the network wants its picture continued on every side.
    """

    def __init__(self, arrays: Arrays, *, margin_px: int = 0) -> None:
        self._arrays = arrays
        self.margin_px = margin_px
        self._layers: list[_Layer] = []

    def convolution(self, source: str, name: str, *, dilation: int = 1, slope: float | None = None) -> str:
        """Add a zero-padded convolution with the weights `name`; a slope adds (leaky) ReLU, 0 the plain one."""
        weight, bias = self._arrays[f"{name}.weight"], self._arrays[f"{name}.bias"]
        side = weight.shape[2]
        parameters = f"0={weight.shape[0]} 1={side} 2={dilation} 4={dilation * (side // 2)} 5=1 6={weight.size}"
        parameters += _activation(slope)
        return self.add("Convolution", [source], parameters, [bytes(4) + _raw(weight), _raw(bias)])

    def valid(self, source: str, name: str, *, stride: int = 1, slope: float | None = None) -> str:
        """Add a convolution without padding."""
        weight, bias = self._arrays[f"{name}.weight"], self._arrays[f"{name}.bias"]
        parameters = f"0={weight.shape[0]} 1={weight.shape[2]} 3={stride} 5=1 6={weight.size}{_activation(slope)}"
        return self.add("Convolution", [source], parameters, [bytes(4) + _raw(weight), _raw(bias)])

    def doubled(self, source: str, name: str, *, cut: int = 0, slope: float | None = None) -> str:
        """Add a transposed convolution of stride 2 whose output is cut by so many pixels on every side."""
        weight, bias = self._arrays[f"{name}.weight"].swapaxes(0, 1), self._arrays[f"{name}.bias"]
        parameters = f"0={weight.shape[0]} 1={weight.shape[2]} 3=2 4={cut} 5=1 6={weight.size}{_activation(slope)}"
        return self.add("Deconvolution", [source], parameters, [bytes(4) + _raw(weight), _raw(bias)])

    def cropped(self, source: str, border: int) -> str:
        """Cut a border away."""
        return self.add("Crop", [source], f"-23309=2,{border},{border} -23310=2,-{border},-{border} -23311=2,1,2")

    def weighted(self, source: str, name: str) -> str:
        """Squeeze and excitation: channels weighted by their means."""
        y = self.add("Pooling", [source], "0=1 4=1")
        for layer, activation in (("conv1", 1), ("conv2", 4)):
            weight, bias = (self._arrays[f"{name}.{layer}.{kind}"] for kind in ("weight", "bias"))
            parameters = f"0={weight.shape[0]} 1=1 2={weight.size} 9={activation}"
            y = self.add("InnerProduct", [y], parameters, [bytes(4) + _raw(weight), _raw(bias)])
        return self.add("BinaryOp", [source, self.add("Reshape", [y], "0=1 1=1 2=-1")], "0=2")

    def slopes(self, source: str, name: str) -> str:
        """Add a PReLU with one slope a channel."""
        weight = self._arrays[f"{name}.weight"]
        return self.add("PReLU", [source], f"0={weight.size}", [_raw(weight)])

    def relu(self, source: str, *, slope: float = 0.0) -> str:
        """Add a ReLU, or a leaky one with that slope."""
        return self.add("ReLU", [source], f"0={slope}")

    def sum(self, first: str, second: str) -> str:
        """Add the sum of two blobs."""
        return self.add("BinaryOp", [first, second], "0=0")

    def scaled(self, source: str, factor: float) -> str:
        """Multiply by a number."""
        return self.add("BinaryOp", [source], f"0=2 1=1 2={factor:e}")

    def joined(self, sources: Sequence[str]) -> str:
        """Join channels."""
        return self.add("Concat", list(sources), "0=0")

    def shuffled(self, source: str, factor: int) -> str:
        """Pixel shuffle: channels to space."""
        return self.add("PixelShuffle", [source], f"0={factor}") if factor > 1 else source

    def unshuffled(self, source: str, factor: int) -> str:
        """Pixel unshuffle: space to channels."""
        return self.add("Reorg", [source], f"0={factor}") if factor > 1 else source

    def enlarged(self, source: str, factor: int) -> str:
        """Nearest enlargement."""
        return self.add("Interp", [source], f"0=1 1={factor:e} 2={factor:e}") if factor > 1 else source

    def add(self, kind: str, inputs: list[str], parameters: str, weights: Sequence[bytes] = ()) -> str:
        """Add a layer and return the name of its output."""
        output = f"b{len(self._layers) + 1}"
        self._layers.append(_Layer(kind, inputs, output, parameters, list(weights)))
        return output

    def finish(self, result: str) -> None:
        """Name the output of the graph."""
        for layer in self._layers:
            if layer.output == result:
                layer.output = _RESULT

    def weights(self) -> bytes:
        """Return the content of the file of weights."""
        return b"".join(part for layer in self._layers for part in layer.weights)

    def text(self) -> str:
        """Return the text of the graph, with a ``Split`` behind every blob that several layers take."""
        users: dict[str, int] = {}
        for layer in self._layers:
            for name in layer.inputs:
                users[name] = users.get(name, 0) + 1
        taken: dict[str, int] = {}
        lines = [f"Input {_SOURCE} 0 1 {_SOURCE}", *_split(_SOURCE, users)]
        for number, layer in enumerate(self._layers, start=1):
            inputs: list[str] = []
            for name in layer.inputs:
                inputs.append(f"{name}_{taken.get(name, 0)}" if users[name] > 1 else name)
                taken[name] = taken.get(name, 0) + 1
            places = f"{len(inputs)} 1 {' '.join(inputs)} {layer.output}"
            lines.append(f"{layer.kind} l{number} {places} {layer.parameters}")
            lines += _split(layer.output, users)
        blobs = 1 + len(self._layers) + sum(count for count in users.values() if count > 1)
        return "\n".join([str(_MAGIC), f"{len(lines)} {blobs}", *lines]) + "\n"


def _activation(slope: float | None) -> str:
    return "" if slope is None else " 9=1" if slope == 0 else f" 9=2 -23310=1,{slope:e}"


def _split(name: str, users: Mapping[str, int]) -> list[str]:
    count = users.get(name, 0)
    if count < 2:
        return []
    return [f"Split s_{name} 1 {count} {name} {' '.join(f'{name}_{index}' for index in range(count))}"]


def _raw(values: NDArray[np.float32]) -> bytes:
    return np.ascontiguousarray(values, dtype="<f4").tobytes()


def compact(hyper: Mapping[str, Any], arrays: Arrays) -> Graph:
    """:class:`apisr.networks.compact.Compact` as a graph."""
    values: dict[str, Any] = {
        "depth": 16,
        "scale": 4,
        "unshuffle": 1,
        "activation": "prelu",
        "dilations": None,
        **hyper,
    }
    count, unshuffle, scale = int(values["depth"]) + 2, int(values["unshuffle"]), int(values["scale"])
    dilations = cast(Sequence[int], values["dilations"] or [1] * count)
    graph = Graph(arrays)
    y = graph.unshuffled(_SOURCE, unshuffle)
    for number in range(count - 1):
        y = _activated(graph, y, 2 * number, str(values["activation"]), dilation=dilations[number])
    y = graph.convolution(y, f"body.{2 * count - 2}", dilation=dilations[-1])
    y = graph.shuffled(y, scale * unshuffle)
    graph.finish(graph.sum(y, graph.enlarged(_SOURCE, scale)))
    return graph


def _activated(graph: Graph, source: str, number: int, activation: str, *, dilation: int = 1) -> str:
    """Layer `number` of a Compact body, a convolution, and the activation behind it."""
    slope = _SLOPES.get(activation)
    y = graph.convolution(source, f"body.{number}", dilation=dilation, slope=slope)
    return y if slope is not None else _after(graph, y, number, activation)


def _after(graph: Graph, source: str, number: int, activation: str) -> str:
    """The activation behind layer `number` of a Compact body, as a layer of its own."""
    if activation == "prelu":
        return graph.slopes(source, f"body.{number + 1}")
    if activation == "silu":
        return graph.add("Swish", [source], "")
    return graph.relu(source, slope=_SLOPES[activation])


def lite(hyper: Mapping[str, Any], arrays: Arrays) -> Graph:
    """:class:`apisr.networks.lite.Lite` as a graph."""
    values: dict[str, Any] = {
        "depth": 8,
        "scale": 4,
        "context_depth": 6,
        "deep_depth": 0,
        "activation": "relu",
        **hyper,
    }
    depth, context = int(values["depth"]), int(values["context_depth"])
    deep, scale, activation = int(values["deep_depth"]), int(values["scale"]), str(values["activation"])
    graph = Graph(arrays)
    y = graph.unshuffled(_SOURCE, 4)
    for number in range(context + 2):
        meeting = number == context // 2 and bool(values.get("deep_features"))
        slope = None if meeting or number == context + 1 else 0.0
        y = graph.convolution(y, f"context.{2 * number}", slope=slope)
        if meeting:
            y = graph.relu(graph.sum(y, _deep(graph, y, deep)))
    y = _after(graph, graph.sum(graph.convolution(_SOURCE, "body.0"), graph.shuffled(y, 4)), 0, activation)
    for number in range(1, depth + 1):
        y = _activated(graph, y, 2 * number, activation)
    y = graph.convolution(y, f"body.{2 * depth + 2}")
    graph.finish(graph.sum(graph.shuffled(y, scale), graph.enlarged(_SOURCE, scale)))
    return graph


def _deep(graph: Graph, source: str, depth: int) -> str:
    y = graph.unshuffled(source, 2)
    for number in range(depth + 2):
        y = graph.convolution(y, f"deep.{2 * number}", slope=None if number == depth + 1 else 0.0)
    return graph.shuffled(y, 2)


def rrdb(hyper: Mapping[str, Any], arrays: Arrays) -> Graph:
    """:class:`apisr.networks.rrdb.RRDB` as a graph."""
    graph = Graph(arrays)
    first = graph.convolution(graph.unshuffled(_SOURCE, 4 // int(hyper.get("scale", 4))), "conv_first")
    y = first
    for block in range(int(hyper.get("blocks", 6))):
        inside = y
        for part in (1, 2, 3):
            inside = _dense(graph, inside, f"body.{block}.rdb{part}")
        y = graph.sum(y, graph.scaled(inside, 0.2))
    y = graph.sum(first, graph.convolution(y, "conv_body"))
    for name in ("conv_up1", "conv_up2"):
        y = graph.convolution(graph.enlarged(y, 2), name, slope=0.2)
    graph.finish(graph.convolution(graph.convolution(y, "conv_hr", slope=0.2), "conv_last"))
    return graph


def _dense(graph: Graph, source: str, name: str) -> str:
    joined, parts = source, [source]
    for number in range(1, 5):
        parts.append(graph.convolution(joined, f"{name}.conv{number}", slope=0.2))
        joined = graph.joined(parts)
    return graph.sum(source, graph.scaled(graph.convolution(joined, f"{name}.conv5"), 0.2))


def cunet(hyper: Mapping[str, Any], arrays: Arrays) -> Graph:
    """:class:`apisr.networks.cunet.CUNet` as a graph."""
    graph = Graph(arrays, margin_px=18)

    def pair(source: str, name: str, *, weighted: bool = True) -> str:
        y = source
        for layer in ("conv.0", "conv.2"):
            y = graph.valid(y, f"{name}.{layer}", slope=0.1)
        return graph.weighted(y, f"{name}.seblock") if weighted else y

    full = pair(_SOURCE, "unet1.conv1", weighted=False)
    low = pair(graph.valid(full, "unet1.conv1_down", stride=2, slope=0.1), "unet1.conv2")
    low = graph.doubled(low, "unet1.conv2_up", slope=0.1)
    y = graph.valid(graph.sum(graph.cropped(full, 4), low), "unet1.conv3", slope=0.1)
    first = graph.doubled(y, "unet1.conv_bottom", cut=3)

    full = pair(first, "unet2.conv1", weighted=False)
    half = pair(graph.valid(full, "unet2.conv1_down", stride=2, slope=0.1), "unet2.conv2")
    quarter = pair(graph.valid(half, "unet2.conv2_down", stride=2, slope=0.1), "unet2.conv3")
    quarter = graph.doubled(quarter, "unet2.conv3_up", slope=0.1)
    half = pair(graph.sum(graph.cropped(half, 4), quarter), "unet2.conv4")
    half = graph.doubled(half, "unet2.conv4_up", slope=0.1)
    y = graph.valid(graph.sum(graph.cropped(full, 16), half), "unet2.conv5", slope=0.1)
    graph.finish(graph.sum(graph.valid(y, "unet2.conv_bottom"), graph.cropped(first, 20)))
    return graph


#: Network -> its writer.
GRAPHS: dict[str, Callable[[Mapping[str, Any], Arrays], Graph]] = {
    "compact": compact,
    "cunet": cunet,
    "lite": lite,
    "rrdb": rrdb,
}
