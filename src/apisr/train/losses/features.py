"""Opening a feature network by name, for the perceptual loss.

``danbooru-resnet50`` and ``vgg19`` are the paper's two (section 3.4); their files are fetched once with
``apisr models fetch NAME``. Any registered network of kind ``features`` can be named with a file of weights
(``resnet50:my.pth``), and the proxy features of :mod:`apisr.train.losses.proxy_features` by their names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from apisr.core.errors import InputError, ModelError
from apisr.networks import NETWORKS, architecture
from apisr.train.losses.proxy_features import PROXY_LAYERS, GraphFeatures, load_proxy, missing_proxy, proxy_path
from apisr.weights.checkpoint import load_state
from apisr.weights.releases import cached, release_named

#: The feature networks that can be fetched, the paper's two first: name -> network in the registry, hyper-parameters.
FETCHED_NETWORKS: dict[str, tuple[str, dict[str, int]]] = {
    "danbooru-resnet50": ("resnet50", {}),
    "vgg19": ("vgg", {"depth": 19}),
    "vgg16": ("vgg", {"depth": 16}),
}


def open_features(name: str, *, layers: Sequence[str] | None = None) -> nn.Module:
    """Open a frozen feature network: pictures in [0, 1] to features by layer name.

    Args:
        name: ``danbooru-resnet50``, ``vgg19`` or ``vgg16`` (optionally ``:FILE``), a registered network of kind
            ``features`` with its file (``vgg:FILE``, ``resnet50:FILE``), or proxy features.
        layers: the requested layers of proxy features (what comes after the last is then not computed); None gives all.

    Raises:
        InputError: unknown name, or the file is not there (the message says how to get it).
        ModelError: the file does not fit the network.
    """
    kind, _, place = name.partition(":")
    if kind in PROXY_LAYERS:
        return load_proxy(kind, Path(place) if place else None, layers=layers).eval().requires_grad_(False)
    path = check_features(name)
    state = load_state(path)[0]
    network, hyper = FETCHED_NETWORKS.get(kind) or (kind, architecture(kind).detect(state) or {})
    module = architecture(network).build(hyper)
    load_features(module, state, name=str(path))
    return module.eval().requires_grad_(False)


def check_features(name: str) -> Path:
    """Check that a feature network is known and its file there, without loading it.

    Returns:
        The file.

    Raises:
        InputError: one of both is not so (the message says how to get the file).
    """
    kind = name.partition(":")[0]
    path = features_file(name)
    if path.is_file():
        return path
    if kind in PROXY_LAYERS:
        raise missing_proxy(kind, path)
    raise InputError(f"cannot read the weights of '{name}': no such file: '{path}'.", code="missing-features")


def features_file(name: str) -> Path:
    """Return the file of a feature network, which need not be there; arguments and errors as :func:`open_features`."""
    kind, _, place = name.partition(":")
    if kind in PROXY_LAYERS:
        return Path(place) if place else proxy_path(kind)
    if kind not in FETCHED_NETWORKS and not (kind in NETWORKS and architecture(kind).kind == "features"):
        known = ", ".join([*FETCHED_NETWORKS, *PROXY_LAYERS])
        raise InputError(f"unknown feature network '{name}'. Known: {known}, NETWORK:FILE.", code="unknown-features")
    if not place and kind not in FETCHED_NETWORKS:
        raise InputError(f"feature network '{kind}' needs a file of weights: '{kind}:FILE'.", code="missing-features")
    return Path(place) if place else _fetched(kind)


def in_bfloat16(module: nn.Module) -> nn.Module:
    """Keep the convolutions of a frozen network in bfloat16, for use under autocast; returns `module`.

    Autocast would convert frozen weights again in every call. What comes before the first convolution (the
    normalisation of the picture) stays float32.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            part.to(torch.bfloat16)
        elif isinstance(part, GraphFeatures):
            part.to_bfloat16()
    return module


def load_features(module: nn.Module, state: Mapping[str, Tensor], *, name: str) -> None:
    """Load weights into a feature network; a classifier's head in the file is left out.

    Raises:
        ModelError: values that the network needs are missing or have another shape.
    """
    expected: Mapping[str, Tensor] = module.state_dict()
    present = {key: value for key, value in state.items() if key in expected}
    missing = [key for key in expected if key not in present and not key.endswith("num_batches_tracked")]
    wrong = [key for key, value in present.items() if value.shape != expected[key].shape]
    if missing or wrong:
        what = f"{'no' if missing else 'wrong shape of'} '{(missing or wrong)[0]}'"
        raise ModelError(
            f"'{name}' does not fit the feature network ({what}). Give the weights of that network.",
            code="weights-do-not-fit",
        )
    module.load_state_dict(present, strict=False)


def _fetched(name: str) -> Path:
    path = cached(release_named(name))
    if path is None:
        raise InputError(
            f"the feature network '{name}' is not here. Fetch it with: apisr models fetch {name}",
            code="missing-features",
        )
    return path
