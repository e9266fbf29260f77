"""The registry of networks: one self-contained file each, one line in :data:`NETWORKS` each.

Every network module holds an ``ARCHITECTURE``: how to build the network from its hyper-parameters, how to read the
hyper-parameters from the names and shapes of a state dict (never from flags), and how its output relates to its input.
The registry itself imports no torch; the modules do.

    >>> from apisr.networks import architecture
    >>> compact = architecture("compact")                                     # doctest: +SKIP
    >>> module = compact.build({"features": 64, "depth": 8, "scale": 2})      # doctest: +SKIP

To add a network: write the file, add the line, put arrays of the original implementation into the parity test.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from apisr.core.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Name -> module, with ``:NAME`` where its object is not called ``ARCHITECTURE``.
#: The order is the order in which a checkpoint is tried.
NETWORKS: dict[str, str] = {
    "compact": "apisr.networks.compact",
    "lite": "apisr.networks.lite",
    "grl": "apisr.networks.grl",
    "rrdb": "apisr.networks.rrdb",
    "dat": "apisr.networks.dat",
    "cunet": "apisr.networks.cunet",
    "patch_multiscale": "apisr.networks.discriminators:PATCH",
    "unet_sn": "apisr.networks.discriminators:UNET",
    "resnet50": "apisr.networks.features:RESNET50",
    "vgg": "apisr.networks.features:VGG",
    "icnet": "apisr.networks.icnet",
}

#: Hyper-parameters: plain values that fit in JSON.
Hyper = Mapping[str, Any]


@dataclass(frozen=True)
class Traits:
    """How a network relates output to input.

    Attributes:
        scale: output size over input size.
        halo_px: how far, in input pixels, an output pixel looks: a tile with this margin gives the values of the whole
            picture. None for networks that look at everything.
        multiple_px: sizes (and tile origins) must be multiples of this.
    """

    scale: int
    halo_px: int | None
    multiple_px: int = 1


@dataclass(frozen=True)
class Architecture:
    """One kind of network.

    Attributes:
        name: key in the registry, stored in files.
        title: name and origin for people.
        kind: ``upscaler`` maps pictures to pictures; ``discriminator`` and ``features`` serve training and curation.
        build: hyper-parameters -> module with fresh parameters (missing ones take the network's defaults).
        detect: state dict -> complete hyper-parameters, or None when the names are not this network's.
        traits: hyper-parameters -> :class:`Traits` (upscalers only).
        flops_per_pixel: hyper-parameters -> floating-point operations (2 per multiply-add) per *input* pixel.
        derived: beginnings of the last part of state-dict names that hold no learned values (tables, masks): dropped on
            loading and computed again.
        ignored: beginnings of names that belong to parts which are not built here (classification heads).
    """

    name: str
    title: str
    kind: Literal["upscaler", "discriminator", "features"]
    build: Callable[[Hyper], nn.Module]
    detect: Callable[[Mapping[str, Tensor]], dict[str, Any] | None]
    traits: Callable[[Hyper], Traits]
    flops_per_pixel: Callable[[Hyper], float]
    derived: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


def architecture(name: str) -> Architecture:
    """Return the registered architecture called `name`.

    Raises:
        ModelError: there is none.
    """
    if name not in NETWORKS:
        raise ModelError(f"unknown network '{name}'. Known: {', '.join(NETWORKS)}.")
    module, _, attribute = NETWORKS[name].partition(":")
    found: Architecture = getattr(importlib.import_module(module), attribute or "ARCHITECTURE")
    return found


def build(name: str, hyper: Hyper | None = None) -> nn.Module:
    """Build the network `name` with fresh parameters; `hyper` overrides its defaults."""
    return architecture(name).build(hyper or {})


def detect(state: Mapping[str, Tensor]) -> tuple[Architecture, dict[str, Any]] | None:
    """Find the architecture and the hyper-parameters of a state dict (prefixes already removed); None if unknown."""
    for name in NETWORKS:
        candidate = architecture(name)
        hyper = candidate.detect(state)
        if hyper is not None:
            return candidate, hyper
    return None
