"""Loading checkpoints of all layouts, and writing ours.

The formats are read in :mod:`apisr.weights.formats`; `apisr.networks.detect` then finds the network and its
hyper-parameters in the names and shapes.

Files that we write are safetensors with the network, its hyper-parameters, the card and a SHA-256 of the arrays inside:

    >>> from apisr.networks import build
    >>> save_network(build("compact"), Path("a.safetensors"), "compact", {}, card={"name": "a"})    # doctest: +SKIP
    >>> module = load_network(Path("a.safetensors"))                                                  # doctest: +SKIP
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apisr.core.errors import ModelError
from apisr.core.files import sha256_file
from apisr.networks import NETWORKS, Architecture, Hyper, ModelTraits, architecture, check_hyper, detect, memory_per_px
from apisr.weights.formats.pickle import read_pickle, without_prefixes
from apisr.weights.formats.safetensors import read_safetensors, write_safetensors
from apisr.weights.model import ONNX_SUFFIXES, Card, CardDict, Model

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose network was recognised.

    Attributes:
        path: the file.
        network: the architecture.
        hyper: its complete hyper-parameters.
        state: names and arrays of the learned values, derived tables removed.
        card: the card inside the file, if it is one of ours.
    """

    path: Path
    network: Architecture
    hyper: CardDict
    state: dict[str, Tensor]
    card: CardDict = field(default_factory=CardDict)

    @property
    def parameters(self) -> int:
        """Number of learned values (running statistics of normalisations are not)."""
        statistics = (".running_mean", ".running_var")
        return sum(value.numel() for name, value in self.state.items() if not name.endswith(statistics))


def read_checkpoint_model(path: Path) -> Model:
    """Read what an engine needs to know of a checkpoint.

    Raises:
        ModelError: damaged, unknown, or not a network that enlarges pictures.
        MissingExtra: torch is not installed.
    """
    checkpoint = read_checkpoint(path)
    if checkpoint.network.kind != "upscaler":
        raise ModelError(
            f"'{path}' holds {checkpoint.network.title}: not a network that enlarges pictures.", code="not-an-upscaler"
        )
    traits = checkpoint.network.traits(checkpoint.hyper)
    card = {
        **checkpoint.card,
        "hyper": checkpoint.hyper,
        "parameters": checkpoint.parameters,
        "flops_per_pixel": checkpoint.network.flops_per_pixel(checkpoint.hyper),
    }
    return Model(
        name=str(card.get("name", path.stem)),
        path=path,
        architecture=checkpoint.network.name,
        traits=replace(traits, bytes_per_px=memory_per_px(checkpoint.network.name, "torch")),
        card=card,
        sha256=sha256_file(path),
    )


def read_checkpoint(path: Path) -> Checkpoint:
    """Load a checkpoint and recognise its network.

    Raises:
        ModelError: see :func:`load_state`; or the network is unknown (the message says what was recognised).
    """
    raw, metadata = _load(path)
    _check_values(path, raw)
    if "apisr.architecture" in metadata:
        state = raw
        network, hyper, card = _described(path, metadata)
        return Checkpoint(path, network, hyper, _learned(state, network), card)
    state = without_prefixes(raw)
    found = detect(state)
    if found is None:
        # Other networks may have names that begin as a wrapper does (ESRGAN's first form: "model.0.weight").
        foreign = _foreign(path, raw) or _foreign(path, state)
        if foreign is not None:
            return foreign
        raise ModelError(_explain_unknown(path, state), code="unknown-network")
    network, hyper = found
    return Checkpoint(path, network, hyper, _learned(state, network))


def load_network(source: Path | Model | Checkpoint) -> nn.Module:
    """Build the network of a checkpoint and load its values; evaluation mode, CPU, float32.

    Raises:
        ModelError: names or shapes do not fit; the message lists the first ones.
    """
    checkpoint = (
        source
        if isinstance(source, Checkpoint)
        else read_checkpoint(source if isinstance(source, Path) else source.path)
    )
    module = checkpoint.network.build(checkpoint.hyper)
    expected = module.state_dict()
    missing = [name for name in expected if name not in checkpoint.state and not _is_derived(name, checkpoint.network)]
    surplus = [name for name in checkpoint.state if name not in expected]
    wrong = [
        f"{name} {tuple(value.shape)} instead of {tuple(expected[name].shape)}"
        for name, value in checkpoint.state.items()
        if name in expected and value.shape != expected[name].shape
    ]
    if missing or surplus or wrong:
        raise ModelError(
            f"'{checkpoint.path}' looks like {checkpoint.network.name} {checkpoint.hyper}, but does not fit: "
            f"missing {_some(missing)}; unknown {_some(surplus)}; wrong shape {_some(wrong)}.",
            code="weights-do-not-fit",
        )
    module.load_state_dict(
        {name: value.float() if value.is_floating_point() else value for name, value in checkpoint.state.items()},
        strict=False,
    )
    return module.eval()


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Load the arrays of a .pth, .pt, .ckpt, .safetensors or (of ours) .onnx file without wrappers and prefixes.

    Returns:
        The arrays by name, on the CPU, and the metadata of a safetensors or ONNX file (else empty).

    Raises:
        ModelError: empty, damaged, holds more than arrays, or its SHA-256 is wrong (files of ours).
        MissingExtra: torch is not installed.
    """
    state, metadata = _load(path)
    return (state if "apisr.architecture" in metadata else without_prefixes(state)), metadata


def _check_values(path: Path, state: Mapping[str, Tensor]) -> None:
    """Refuse arrays that no network of ours can have: not plain numbers, or values that are not numbers."""
    import torch

    for name, value in state.items():
        plain = (
            value.layout == torch.strided
            and not (value.is_complex() or value.is_quantized or value.is_meta)
            and value.dtype
            != getattr(torch, "float4_e2m1fn_x2", None)  # two numbers a byte: torch cannot compute with it
        )
        if not plain:
            problem = f"'{name}' is an array of a kind that no network here has ({value.dtype}, {value.layout})"
        elif value.is_floating_point() and not bool(torch.isfinite(value).all()):
            problem = f"'{name}' holds values that are not numbers (NaN or infinite)"
        else:
            continue
        raise ModelError(f"cannot use the weights in '{path}': {problem}.", code="weights-not-numbers")


def _load(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """As :func:`load_state`, prefixes left on."""
    suffix = path.suffix.lower()
    if path.stat().st_size == 0:
        raise ModelError(f"the model '{path}' is empty (0 bytes). Fetch it again.", code="model-damaged")
    if suffix in ONNX_SUFFIXES:
        from apisr.weights.formats.onnx_weights import read_weights

        return read_weights(path)
    return read_safetensors(path) if suffix == ".safetensors" else (read_pickle(path), {})


def save_network(
    module: nn.Module, path: Path, name: str, hyper: Hyper, *, card: Card, overwrite: bool = False
) -> None:
    """Write the network's learned values as a safetensors file with everything needed to load it.

    Args:
        module: the network.
        path: the file to write (``.safetensors``).
        name: the architecture's name in the registry.
        hyper: the hyper-parameters with which the module was built.
        card: what is known of the model (JSON values).
        overwrite: replace an existing file.
    """
    network = architecture(name)
    state = _learned(module.state_dict(), network)
    write_checkpoint(Checkpoint(path, network, dict(hyper), state, dict(card)), path, overwrite=overwrite)


def write_checkpoint(checkpoint: Checkpoint, path: Path, *, overwrite: bool = False) -> None:
    """Write a checkpoint as a safetensors file of ours; see :func:`save_network`."""
    network, hyper = checkpoint.network, checkpoint.hyper
    metadata = {
        "apisr.architecture": network.name,
        "apisr.hyper": json.dumps(hyper, sort_keys=True),
        "apisr.card": json.dumps(checkpoint.card, sort_keys=True, ensure_ascii=False),
    }
    if network.kind == "upscaler":
        metadata["apisr.scale"] = str(network.traits(hyper).scale)
    write_safetensors(checkpoint.state, path, metadata, overwrite=overwrite)


def _described(path: Path, metadata: Mapping[str, str]) -> tuple[Architecture, CardDict, CardDict]:
    """What a file of ours says of itself: network, hyper-parameters, card."""
    try:
        hyper: CardDict = dict(json.loads(metadata["apisr.hyper"]))
        card: CardDict = dict(json.loads(metadata.get("apisr.card", "{}")))
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise ModelError(
            f"the metadata of '{path}' are damaged ({error!r}). Save the model again.", code="model-metadata-damaged"
        ) from error
    network = architecture(metadata["apisr.architecture"])
    check_hyper(network, hyper, where=f"'{path}'", code="model-metadata-damaged")
    return network, hyper, card


def _is_derived(name: str, network: Architecture) -> bool:
    """Whether an entry is not loaded: tables that are computed again, parts that are not built, step counters."""
    last = name.rsplit(".", 1)[-1]
    return (
        last == "num_batches_tracked"
        or (bool(network.derived) and last.startswith(network.derived))
        or (bool(network.ignored) and name.startswith(network.ignored))
    )


def _learned(state: Mapping[str, Tensor], network: Architecture) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if not _is_derived(name, network)}


def _foreign(path: Path, state: dict[str, Tensor]) -> Checkpoint | None:
    """Let spandrel (extra 'foreign') recognise a network that is not one of ours."""
    try:
        import spandrel  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    try:
        # It takes out what it knows to be ballast.
        found: Any = spandrel.ModelLoader(device="cpu").load_from_state_dict(dict(state))
    except spandrel.UnsupportedModelError:
        return None
    if not isinstance(found, spandrel.ImageModelDescriptor) or (found.input_channels, found.output_channels) != (3, 3):
        raise ModelError(
            f"'{path}' holds {found.architecture.name}: it does not map RGB pictures to RGB pictures.",
            code="not-an-upscaler",
        )
    # How far a foreign network looks is not known: a generous margin, or none where it tiles inside.
    halo = None if found.tiling == spandrel.ModelTiling.INTERNAL else 32
    multiple = max(1, found.size_requirements.multiple_of)
    traits = ModelTraits(int(found.scale), halo and -(-halo // multiple) * multiple, multiple)
    network = Architecture(
        name="foreign",
        title=f"{found.architecture.name} (by spandrel)",
        kind="upscaler",
        arguments=(),
        build=lambda hyper: found.model,
        detect=lambda names: None,
        traits=lambda hyper: traits,
        flops_per_pixel=lambda hyper: 0.0,
    )
    return Checkpoint(path, network, {"spandrel": str(found.architecture.id)}, dict(found.model.state_dict()))


def _explain_unknown(path: Path, state: Mapping[str, Tensor]) -> str:
    import torch

    best: tuple[float, str, list[str], list[str]] = (0.0, "", [], [])
    for name in NETWORKS:
        network = architecture(name)
        with torch.device("meta"):
            expected = {key for key in network.build({}).state_dict() if not _is_derived(key, network)}
        common = [key for key in state if key in expected]
        share = len(common) / max(len(expected), 1)
        if share > best[0]:
            best = (
                share,
                name,
                [key for key in expected if key not in state],
                [key for key in state if key not in expected],
            )
    known = ", ".join(NETWORKS)
    beginning = f"'{path}' holds {len(state)} arrays of no known network (known: {known})"
    if best[0] >= 0.1:
        _, name, missing, surplus = best
        # A shallower network than the default lacks whole blocks: name what no block has.
        patterns = {_pattern(key) for key in state}
        missing = [key for key in missing if _pattern(key) not in patterns] or missing
        return f"{beginning}. Nearest is {name}: missing {_some(missing)}; unknown {_some(surplus)}."
    return f"{beginning}; it has {_some(list(state))}. With the extra 'foreign', spandrel's networks load too."


def _pattern(name: str) -> str:
    return re.sub(r"(?<=\.)\d+(?=\.)", "N", name)


def _some(names: list[str], limit: int = 3) -> str:
    if not names:
        return "nothing"
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
