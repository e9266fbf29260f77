"""The registry of networks: one file each; `functional` and `position_tables` have what several share.

Every network module holds an ``ARCHITECTURE``: how to build the network from its hyper-parameters, how to read the
hyper-parameters from the names and shapes of a state dict (never from flags), and how its output relates to its input.
The registry itself imports no torch; the modules do.

    >>> from apisr.networks import architecture
    >>> compact = architecture("compact")                                     # doctest: +SKIP
    >>> module = compact.build({"features": 64, "depth": 8, "scale": 2})      # doctest: +SKIP

To add a network: write the file; nothing else names it. Arrays of the original implementation go into the parity test.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from apisr.core.config import nearest
from apisr.core.discovery import file_names
from apisr.core.errors import ModelError
from apisr.core.text import printable
from apisr.networks.traits import BYTES_PER_PX, ModelTraits

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class NetworkEntry:
    """Where a network is, and what is known of it without loading it.

    Attributes:
        module: the module of the network.
        attribute: name of its :class:`Architecture` there.
        bytes_per_px: memory of one input pixel by engine, where it is far from :data:`BYTES_PER_PX`.
    """

    module: str
    attribute: str = "ARCHITECTURE"
    bytes_per_px: Mapping[str, int] = field(default_factory=dict[str, int])


#: Files of this package that hold no network of their own name.
_OTHER_FILES = {"discriminators", "features", "functional", "position_tables", "registry", "traits"}
_ENTRIES: dict[str, NetworkEntry] = {
    # Measured at 64 features, the largest that ships.
    "compact": NetworkEntry("apisr.networks.compact", bytes_per_px={"onnx": 800, "openvino": 1_050, "ncnn": 1_050}),
    "lite": NetworkEntry("apisr.networks.lite"),
    # onnxruntime keeps the attention scores of all windows; the torch engine goes through bundles of them.
    "grl": NetworkEntry("apisr.networks.grl", bytes_per_px={"onnx": 23_000, "openvino": 13_000, "torch": 6_800}),
    # The tail runs 64 channels at the full size of the output.
    "rrdb": NetworkEntry(
        "apisr.networks.rrdb", bytes_per_px={"onnx": 23_000, "openvino": 12_500, "ncnn": 23_000, "torch": 23_000}
    ),
    "dat": NetworkEntry("apisr.networks.dat"),
    # Measured in ncnn on lavapipe; the picture cannot be cut.
    "cunet": NetworkEntry("apisr.networks.cunet", bytes_per_px={"ncnn": 13_000}),
    "patch_multiscale": NetworkEntry("apisr.networks.discriminators", "PATCH"),
    "unet_sn": NetworkEntry("apisr.networks.discriminators", "UNET"),
    "resnet50": NetworkEntry("apisr.networks.features", "RESNET50"),
    "vgg": NetworkEntry("apisr.networks.features", "VGG"),
    "icnet": NetworkEntry("apisr.networks.icnet"),
}
#: Name -> entry, in the order in which a checkpoint is tried: those above, then every other file by its name.
NETWORKS: dict[str, NetworkEntry] = _ENTRIES | {
    name: NetworkEntry(f"apisr.networks.{name}")
    for name in file_names("apisr.networks")
    if name not in _ENTRIES and name not in _OTHER_FILES
}

#: Largest number and longest list among the hyper-parameters of a file.
_MAX_HYPER, _MAX_HYPER_ENTRIES = 4096, 64

#: Hyper-parameters: plain values that fit in JSON.
Hyper = Mapping[str, Any]
HyperDict = dict[str, Any]


@dataclass(frozen=True)
class Architecture:
    """One kind of network.

    Attributes:
        name: key in the registry, stored in files.
        title: name and origin for people.
        kind: ``upscaler`` maps pictures to pictures; ``discriminator`` and ``features`` serve training and curation.
        arguments: names of the hyper-parameters that `build` takes.
        build: hyper-parameters -> module with fresh parameters (missing ones take the network's defaults).
        detect: state dict -> complete hyper-parameters, or None when the names are not this network's.
        traits: hyper-parameters -> :class:`ModelTraits` (upscalers only).
        flops_per_pixel: hyper-parameters -> floating-point operations (2 per multiply-add) per *input* pixel.
        derived: beginnings of the last part of state-dict names that hold no learned values (tables, masks): dropped on
            loading and computed again.
        ignored: beginnings of names that belong to parts which are not built here (classification heads).
    """

    name: str
    title: str
    kind: Literal["upscaler", "discriminator", "features"]
    arguments: tuple[str, ...]
    build: Callable[[Hyper], nn.Module]
    detect: Callable[[Mapping[str, Tensor]], HyperDict | None]
    traits: Callable[[Hyper], ModelTraits]
    flops_per_pixel: Callable[[Hyper], float]
    derived: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


def architecture(name: str) -> Architecture:
    """Return the registered architecture called `name`.

    Raises:
        ModelError: there is none (code ``unknown-network``).
    """
    if name not in NETWORKS:
        near = nearest(name, NETWORKS)
        hint = f" Did you mean '{near}'?" if near else ""
        raise ModelError(
            f"there is no network '{name}'.{hint} There are: {', '.join(NETWORKS)}.", code="unknown-network"
        )
    entry = NETWORKS[name]
    found: Architecture = getattr(importlib.import_module(entry.module), entry.attribute)
    return found


def check_hyper(network: Architecture, hyper: Hyper, *, where: str, code: str) -> None:
    """Check hyper-parameters that come from a file: a network is built of them before its weights are compared.

    Args:
        network: what they are for.
        hyper: names and values.
        where: they come from, for messages.
        code: of the error for values that are too large.

    Raises:
        ModelError: a name that the network has not (``"unknown-argument"``), or a number or a list that is larger than
            any network of this package has (`code`).
    """
    for key, value in hyper.items():
        if key not in network.arguments:
            near = nearest(key, network.arguments)
            hint = f" Did you mean '{near}'?" if near else ""
            names = ", ".join(network.arguments) or "none"
            raise ModelError(
                f"{where}: the network '{network.name}' has no argument '{printable(key)}'.{hint} There are: {names}.",
                code="unknown-argument",
            )
        if problem := _problem_of(key, value):
            raise ModelError(f"{where}: {problem}, more than any network here has.", code=code)


def _problem_of(key: str, value: object) -> str:
    numbers: list[object] = list(value) if isinstance(value, (list, tuple)) else [value]  # pyright: ignore[reportUnknownArgumentType]
    if len(numbers) > _MAX_HYPER_ENTRIES:
        return f"{key} has {len(numbers)} entries"
    large = [number for number in numbers if isinstance(number, (int, float)) and not 0 <= number <= _MAX_HYPER]
    return f"{key} is {large[0]}" if large else ""


def memory_per_px(name: str, engine: str) -> int:
    """Return the memory in bytes that one input pixel costs in the network `name` on an engine.

    >>> memory_per_px("lite", "onnx"), memory_per_px("grl", "torch")
    (420, 6800)
    """
    entry = NETWORKS.get(name)
    return entry.bytes_per_px.get(engine, BYTES_PER_PX) if entry else BYTES_PER_PX


def build(name: str, hyper: Hyper | None = None) -> nn.Module:
    """Build the network `name` with fresh parameters; `hyper` overrides its defaults."""
    return architecture(name).build(hyper or {})


def detect(state: Mapping[str, Tensor]) -> tuple[Architecture, HyperDict] | None:
    """Find the architecture and the hyper-parameters of a state dict (prefixes already removed); None if unknown."""
    for name in NETWORKS:
        candidate = architecture(name)
        hyper = candidate.detect(state)
        if hyper is not None:
            return candidate, hyper
    return None
