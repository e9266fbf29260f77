"""Writing a network as an ONNX file that says everything about itself, and checking that it computes the same.

The file has one input ``input`` (N, 3, H, W) and one output ``output`` (N, 3, scale*H, scale*W), all of N, H and W free
(or fixed where asked), opset 17, and the metadata that :mod:`apisr.weights.formats.onnx_probe` reads back.

    >>> from apisr.networks import architecture
    >>> compact = architecture("compact")                                               # doctest: +SKIP
    >>> hyper = {"features": 16, "depth": 2, "scale": 2}                                # doctest: +SKIP
    >>> export_onnx(                                                                    # doctest: +SKIP
    ...     compact.build(hyper), Path("tiny.onnx"), traits=compact.traits(hyper),
    ...     card={"name": "tiny", "architecture": "compact", "hyper": hyper, "license": "Apache-2.0"})
"""

from __future__ import annotations

import bisect
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from apisr.core.errors import MissingExtra, ModelError
from apisr.core.files import atomic_path, sha256_file
from apisr.core.telemetry import import_onnxruntime
from apisr.networks.traits import ModelTraits
from apisr.weights.formats.onnx import read_metadata, with_sha256
from apisr.weights.formats.onnx_weights import ENTRY, parameter_names
from apisr.weights.model import Card
from apisr.weights.rim import smallest_rim_px
from apisr.weights.sealing import sealed

if TYPE_CHECKING:
    from torch import nn

OPSET = 17


def export_onnx(
    module: nn.Module,
    path: Path,
    *,
    traits: ModelTraits,
    card: Card,
    fixed_size: tuple[int, int] | None = None,
    opset: int = OPSET,
    halves: bool = False,
    overwrite: bool = False,
) -> float:
    """Write `module` as an ONNX file with its card, and compare the two on random pictures.

    Args:
        module: the network; it is put into evaluation mode, on the CPU, float32.
        path: the file to write; its suffix is ``.onnx``.
        traits: scale, halo and multiple of the network; its rim is measured.
        card: what is known of the model: ``name``, ``architecture``, ``hyper``, ``license``, ... (JSON values).
        fixed_size: (height, width) of the only input size, or None for free sizes.
        opset: version of the operator set, 17 or newer.
        halves: store what 16 bits hold exactly in 16 bits (:func:`pack_halves`); it is still computed in 32.
        overwrite: replace an existing file.

    Returns:
        The largest absolute difference between both, over two sizes (for values in [0, 1]).

    Raises:
        ModelError: the exported file does not compute the same (difference of 1e-3 or more).
        MissingExtra: the package ``onnx`` is not installed.
    """
    module = module.eval().float().cpu()
    with atomic_path(path, overwrite=overwrite) as partial:
        _write_graph(module, partial, traits=traits, fixed_size=fixed_size, opset=opset)
        _part_equal_weights(partial, tuple(module.state_dict()))
        if halves:
            pack_halves(partial)
        names = parameter_names(module.state_dict(), partial)
        sized = replace(traits, fixed_size=fixed_size)
        traits = replace(traits, rim_px=smallest_rim_px(onnx_runner(partial), sized))
        embed_card(partial, traits=traits, card=card, fixed_size=fixed_size, parameters=names)
        difference = compare(module, partial, traits=traits, fixed_size=fixed_size)
        if not difference < 1e-3:
            raise ModelError(
                f"the exported file computes something else: largest difference {difference:.2g}, expected < 1e-3.",
                code="export-differs",
            )
    return difference


def write_card(path: Path, *, traits: ModelTraits, card: Card, overwrite: bool = False) -> Path:
    """Write the card of the model file `path` beside it (``NAME.json``) with its rim and checksums; return its path."""
    rim = read_metadata(path).get("apisr.rim_px")
    content = {
        **card,
        "scale": traits.scale,
        "halo_px": traits.halo_px,
        "multiple_px": traits.multiple_px,
        "rim_px": int(rim) if rim else None,
        "sha256": sha256_file(path),
    }
    target = path.with_suffix(".json")
    with atomic_path(target, overwrite=overwrite) as partial:
        partial.write_text(json.dumps(sealed(content), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return target


def embed_card(
    path: Path,
    *,
    traits: ModelTraits,
    card: Card,
    fixed_size: tuple[int, int] | None = None,
    parameters: Mapping[str, str] | None = None,
) -> None:
    """Put metadata and checksum into the ONNX file `path` (in place: use it on a file that is still being made).

    `parameters`: see :func:`apisr.weights.formats.onnx_weights.parameter_names`.
    """
    onnx = _onnx()
    model = onnx.load(str(path))
    content = dict(card)
    if fixed_size is not None:
        content["fixed_size"] = list(fixed_size)
    entries = {
        "apisr.scale": str(traits.scale),
        "apisr.halo_px": "" if traits.halo_px is None else str(traits.halo_px),
        "apisr.multiple_px": str(traits.multiple_px),
        "apisr.rim_px": "" if traits.rim_px is None else str(traits.rim_px),
        "apisr.architecture": str(card.get("architecture", "foreign")),
        "apisr.card": json.dumps(content, ensure_ascii=False, sort_keys=True),
    }
    if parameters:
        entries[ENTRY] = json.dumps(dict(parameters), sort_keys=True)
    kept = {
        entry.key: entry.value
        for entry in model.metadata_props
        if entry.key == ENTRY or not entry.key.startswith("apisr.")
    }
    onnx.helper.set_model_props(model, {**kept, **entries})
    model.producer_name = "apisr"
    onnx.checker.check_model(model)
    path.write_bytes(with_sha256(model.SerializeToString()))


def pack_halves(path: Path, *, at_least: int = 1024) -> int:
    """Store float32 weights in 16 bits where that loses nothing, and have them cast back when the file is loaded.

    Engines fold the cast of a constant, so that the network runs as before; only the file is smaller. Weights that were
    rounded to float16 before (``module.half().float()``) all qualify; others stay as they are.

    Args:
        path: the ONNX file, changed in place (use it on a file that is still being made).
        at_least: smallest number of values worth a cast.

    Returns:
        The number of arrays that were packed.

    Raises:
        MissingExtra: the extra ``torch`` is not installed.
    """
    onnx = _onnx()
    model = onnx.load(str(path))
    casts: list[Any] = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        if values.size < at_least or not np.array_equal(halves.astype(np.float32), values):
            continue
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(halves, f"{name}.half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    path.write_bytes(with_sha256(model.SerializeToString()))
    return len(casts)


def compare(module: nn.Module, path: Path, *, traits: ModelTraits, fixed_size: tuple[int, int] | None = None) -> float:
    """Return the largest absolute difference between `module` and the ONNX file over random pictures of two sizes.

    Raises:
        ModelError: the file gives another shape.
    """
    import torch

    unit = max(traits.multiple_px, 1)
    base = -(-32 // unit) * unit
    sizes = [fixed_size] if fixed_size is not None else [(base, base + unit), (base + 2 * unit, base)]
    rng = np.random.default_rng(0)
    largest = 0.0
    for number, (height, width) in enumerate(sizes, start=1):
        batch = rng.random((1 if fixed_size else number, 3, height, width), dtype=np.float32)
        with torch.inference_mode():
            expected = module(torch.from_numpy(batch)).numpy()
        found = run_onnx(path, batch)
        if found.shape != expected.shape:
            raise ModelError(
                f"the exported file gives the shape {found.shape}, expected {expected.shape}.", code="export-differs"
            )
        largest = max(largest, float(np.abs(found - expected).max()))
    return largest


def run_onnx(path: Path, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run an ONNX file once on the CPU: ``(N, 3, H, W)`` float32 in and out."""
    return onnx_runner(path)(batch)


def onnx_runner(path: Path) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Load an ONNX file and return what runs it on the CPU, see :func:`run_onnx`."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0)
    (value,) = session.get_inputs()
    dtype = np.float16 if value.type == "tensor(float16)" else np.float32

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        (output,) = session.run(None, {value.name: batch.astype(dtype)})
        return np.asarray(output, np.float32)

    return run


def _write_graph(
    module: nn.Module, path: Path, *, traits: ModelTraits, fixed_size: tuple[int, int] | None, opset: int
) -> None:
    import torch

    _onnx()
    unit = max(traits.multiple_px, 1)
    height, width = fixed_size if fixed_size is not None else (-(-48 // unit) * unit, -(-64 // unit) * unit)
    axes = {
        "input": {0: "batch", 2: "height", 3: "width"},
        "output": {0: "batch", 2: "high_height", 3: "high_width"},
    }
    with warnings.catch_warnings(), torch.inference_mode():
        # The tracing exporter: its graphs of these networks are smaller than the newer one's, it is many times faster
        # and needs no further package. Its deprecation is known.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.rand(1, 3, height, width),),
            str(path),
            dynamo=False,
            opset_version=opset,
            input_names=["input"],
            output_names=["output"],
            dynamic_axes=None if fixed_size is not None else axes,
            do_constant_folding=True,
        )


def _part_equal_weights(path: Path, order: Sequence[str]) -> None:
    """Give every parameter an array of its own, in the order of the module.

    The exporter stores equal arrays once. Then files of one network could differ in structure, so that twins could not
    be mixed.
    """
    onnx = _onnx()
    model = onnx.load(str(path))
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    shared = [node for node in model.graph.node if node.op_type == "Identity" and node.input[0] in stored]
    if not shared:
        return
    for node in shared:
        own = onnx.TensorProto()
        own.CopyFrom(stored[node.input[0]])
        own.name = node.output[0]
        stored[own.name] = own
    gone = {node.output[0] for node in shared}
    nodes = [node for node in model.graph.node if node.output[0] not in gone]
    numbers = sorted(_number(node.name) for node in shared)
    for node in nodes:  # names of nodes count all nodes
        if "/" not in node.name and (number := _number(node.name)):
            node.name = f"{node.name.removesuffix(str(number))}{number - bisect.bisect(numbers, number)}"
    place = {name: number for number, name in enumerate(order)}
    # What the exporter computed ahead comes last, named by the order of its making.
    names = sorted(stored, key=lambda name: (name not in place, place.get(name, _number(name))))
    tensors = [stored[name] for name in names]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(tensors)
    onnx.save(model, str(path))


def _number(name: str) -> int:
    """Return the number at the end of a name, 0 where there is none."""
    return int(name[len(name.rstrip("0123456789")) :] or 0)


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra("torch", "to write ONNX files") from error
    return onnx
