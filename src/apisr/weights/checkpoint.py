"""Loading checkpoints of all layouts, and writing ours.

A checkpoint is a dictionary of arrays, wrapped in ways that differ from project to project: under ``params_ema``,
``params``, ``state_dict``, ``model_state_dict``..., each name after ``module.`` (DataParallel), ``_orig_mod.``
(torch.compile) or ``model.``/``net_g.``/``generator.``. :func:`load_state` takes all of that off;
`apisr.networks.detect` then reads the network and its hyper-parameters from the names and shapes.

Pickles can run code: they are opened with ``weights_only=True`` and anything but arrays and plain values is refused.

Files that we write are safetensors with the network, its hyper-parameters, the card and a SHA-256 of the arrays inside:

    >>> from apisr.networks import build
    >>> save_network(build("compact"), Path("a.safetensors"), "compact", {}, card={"name": "a"})    # doctest: +SKIP
    >>> module = load_network(Path("a.safetensors"))                                                  # doctest: +SKIP
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from apisr.core.errors import MissingExtra, ModelError
from apisr.core.files import atomic_path, sha256_file
from apisr.networks import NETWORKS, Architecture, Hyper, ModelTraits, architecture, detect, memory_per_px
from apisr.weights.model import ONNX_SUFFIXES, Model

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Names under which state dicts are wrapped, the preferred first (averaged parameters before raw ones).
WRAPPERS = (
    "params_ema",
    "ema",
    "ema_state_dict",
    "params",
    "model_state_dict",
    "state_dict",
    "model",
    "net_g",
    "generator",
    "weights",
)

#: Beginnings that training wrappers put before every name.
PREFIXES = ("module.", "_orig_mod.", "model.", "net_g.", "generator.", "network.", "net.", "ema_model.")


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
    hyper: dict[str, Any]
    state: dict[str, Tensor]
    card: dict[str, Any] = field(default_factory=dict[str, Any])

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
        raise ModelError(f"'{path}' holds {checkpoint.network.title}: not a network that enlarges pictures.")
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
    if "apisr.architecture" in metadata:
        state = raw
        network = architecture(metadata["apisr.architecture"])
        hyper: dict[str, Any] = json.loads(metadata["apisr.hyper"])
        card: dict[str, Any] = json.loads(metadata.get("apisr.card", "{}"))
        return Checkpoint(path, network, hyper, _learned(state, network), card)
    state = _strip(raw)
    found = detect(state)
    if found is None:
        # Other networks may have names that begin as a wrapper does (ESRGAN's first form: "model.0.weight").
        foreign = _foreign(path, raw) or _foreign(path, state)
        if foreign is not None:
            return foreign
        raise ModelError(_explain_unknown(path, state))
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
            f"missing {_some(missing)}; unknown {_some(surplus)}; wrong shape {_some(wrong)}."
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
    return (state if "apisr.architecture" in metadata else _strip(state)), metadata


def _load(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """As :func:`load_state`, prefixes left on."""
    if path.suffix.lower() in ONNX_SUFFIXES:
        from apisr.weights.onnx_weights import read_weights

        return read_weights(path)
    torch = _torch(path)
    if path.stat().st_size == 0:
        raise ModelError(f"the model '{path}' is empty (0 bytes). Fetch it again.")
    if path.suffix.lower() == ".safetensors":
        return _load_safetensors(path)
    try:
        content: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported global" in str(error) or "Unsupported class" in str(error) or "REDUCE" in str(error):
            raise ModelError(
                f"'{path}' holds more than arrays and plain values and could run code when opened: refused. "
                "Save its state dict alone (torch.save(model.state_dict(), ...)) or as .safetensors."
            ) from error
        raise ModelError(f"cannot read the checkpoint '{path}': damaged, or not a checkpoint.") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, IndexError, TypeError) as error:
        raise ModelError(f"cannot read the checkpoint '{path}': damaged, or not a checkpoint.") from error
    state = _unwrap(content)
    if not state:
        found = (
            ", ".join(str(key) for key in list(cast(Mapping[object, object], content))[:8])
            if isinstance(content, Mapping)
            else type(content).__name__
        )
        raise ModelError(f"'{path}' holds no state dict (expected names with arrays; found {found}).")
    return state, {}


def save_network(
    module: nn.Module, path: Path, name: str, hyper: Hyper, *, card: Mapping[str, Any], overwrite: bool = False
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
    from safetensors.torch import save

    network = architecture(name)
    state = {
        key: value.detach().cpu().contiguous().clone() for key, value in _learned(module.state_dict(), network).items()
    }
    metadata = {
        "format": "pt",
        "apisr.architecture": name,
        "apisr.hyper": json.dumps(dict(hyper), sort_keys=True),
        "apisr.card": json.dumps(dict(card), sort_keys=True, ensure_ascii=False),
        "apisr.sha256": state_sha256(state),
    }
    if network.kind == "upscaler":
        metadata["apisr.scale"] = str(network.traits(hyper).scale)
    with atomic_path(path, overwrite=overwrite) as partial:
        partial.write_bytes(save(state, metadata))  # save_file would make a file that only its owner can read


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Return a SHA-256 over names, types, shapes and values, independent of the order and of the file format."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _load_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise MissingExtra("torch", f"to load '{path}'") from error
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            state: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    except (SafetensorError, OSError) as error:
        raise ModelError(f"cannot read the model '{path}': damaged, or not a safetensors file.") from error
    if "apisr.sha256" in metadata and state_sha256(state) != metadata["apisr.sha256"]:
        raise ModelError(
            f"the model '{path}' is damaged: its values do not have the SHA-256 that it states. Fetch it again."
        )
    return state, metadata


def _unwrap(content: object) -> dict[str, Tensor]:
    """Find the state dict inside the usual wrappers; empty if there is none."""
    from torch import Tensor

    for _ in range(4):
        if not isinstance(content, Mapping):
            return {}
        mapping = cast(Mapping[object, object], content)
        inner = next((mapping[key] for key in WRAPPERS if isinstance(mapping.get(key), Mapping) and mapping[key]), None)
        if inner is None:
            return {str(key): value for key, value in mapping.items() if isinstance(value, Tensor)}
        content = inner
    return {}


def _strip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take common prefixes off the names; of a whole training module, keep the generator."""
    result = {name: value for name, value in state.items() if name != "n_averaged"}
    changed = True
    while changed:
        changed = False
        for prefix in PREFIXES:
            inside = {name[len(prefix) :]: value for name, value in result.items() if name.startswith(prefix)}
            whole = len(inside) == len(result)
            if inside and (whole or (prefix in ("generator.", "net_g.", "ema_model.") and len(inside) > 1)):
                result, changed = inside, True
                break
    return result


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
        found: Any = spandrel.ModelLoader(device="cpu").load_from_state_dict(
            dict(state)
        )  # it takes out what it knows to be ballast
    except spandrel.UnsupportedModelError:
        return None
    if not isinstance(found, spandrel.ImageModelDescriptor) or (found.input_channels, found.output_channels) != (3, 3):
        raise ModelError(f"'{path}' holds {found.architecture.name}: it does not map RGB pictures to RGB pictures.")
    # How far a foreign network looks is not known: a generous margin, or none where it tiles inside.
    halo = None if found.tiling == spandrel.ModelTiling.INTERNAL else 32
    multiple = max(1, found.size_requirements.multiple_of)
    traits = ModelTraits(int(found.scale), halo and -(-halo // multiple) * multiple, multiple)
    network = Architecture(
        name="foreign",
        title=f"{found.architecture.name} (by spandrel)",
        kind="upscaler",
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


def _torch(path: Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("torch", f"to load '{path}'") from error
    return torch
