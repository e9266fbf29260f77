"""Model files: which exist, what they need, and finding one by name or path.

A model is one file, ``.onnx`` (runs with the light installation) or ``.safetensors``/``.pth``/``.pt``/``.ckpt`` (extra
``[torch]``), and a card: a small dictionary for people and programs (name, scale, architecture, licence, training).
Shipped models are ``shipped/NAME.onnx`` with the card in ``shipped/NAME.json``; other ONNX files written by us hold
theirs inside. This module imports neither torch nor onnxruntime.

    >>> from apisr.weights import resolve_model
    >>> model = resolve_model("my-model.onnx", scale=2)       # doctest: +SKIP
    >>> model.scale, model.halo_px                            # doctest: +SKIP
    (2, 20)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from apisr.core.errors import ModelError
from apisr.core.files import sha256_file

#: Where the shipped models lie.
SHIPPED = Path(__file__).parent / "shipped"

ONNX_SUFFIXES = (".onnx",)
TORCH_SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")


@dataclass(frozen=True)
class Model:
    """One model file and what an engine needs to know of it.

    Attributes:
        name: short name (the file's stem if its card has none).
        path: the file.
        scale: output size over input size.
        architecture: name of the network (a key of `apisr.networks.NETWORKS`, or ``"foreign"``).
        halo_px: margin in input pixels with which a tile gives the values of the whole picture; None: do not cut.
        multiple_px: input sizes and tile origins must be multiples of this.
        card: everything else that is known (``license``, ``parameters``, ``flops_per_pixel``, ``hyper``, ...).
        sha256: of the file, hexadecimal.
        fixed_size: (height, width) if the file accepts this one input size only.
    """

    name: str
    path: Path
    scale: int
    architecture: str
    halo_px: int | None
    multiple_px: int
    card: Mapping[str, Any] = field(default_factory=dict[str, Any])
    sha256: str = ""
    fixed_size: tuple[int, int] | None = None

    @property
    def format(self) -> Literal["onnx", "torch"]:
        """``onnx`` or ``torch``: which engine runs the file."""
        return "onnx" if self.path.suffix.lower() in ONNX_SUFFIXES else "torch"


def list_models() -> list[Model]:
    """Return the shipped models, by name. Cards are read; files are not verified before :func:`resolve_model`."""
    return [
        _shipped(card)
        for card in sorted(SHIPPED.glob("*.json"), key=lambda path: path.stem)
        if card.with_suffix(".onnx").is_file()
    ]


def default_model(scale: int | None = None) -> str:
    """Return the name of the shipped model that is used when none is named.

    That is the one whose card says ``"default": true``, else the one with the lowest cost per pixel.

    Args:
        scale: the wanted scale; None takes the default of all models.

    Raises:
        ModelError: no shipped model has this scale.
    """
    models = list_models()
    fitting = [model for model in models if scale is None or model.scale == scale]
    if not fitting:
        scales = sorted({model.scale for model in models})
        have = ", ".join(f"x{value}" for value in scales) or "none"
        raise ModelError(
            f"no shipped model enlarges {scale} times (scales: {have}). Give another scale or --model FILE."
        )
    return min(fitting, key=lambda model: (not model.card.get("default"), model.card.get("flops_per_pixel", 0))).name


def resolve_model(name_or_path: str | Path, *, scale: int | None = None) -> Model:
    """Find a model by name (shipped or fetched) or by the path of its file, and check it.

    Args:
        name_or_path: ``"NAME"``, or a file ending in .onnx, .safetensors, .pth, .pt or .ckpt.
        scale: what the model must enlarge by; None accepts any.

    Returns:
        The model; its file's SHA-256 equals the one in the card where there is one.

    Raises:
        ModelError: no such model, a damaged or unknown file, or another scale.
        MissingExtra: the file needs torch, which is not installed.
    """
    model = _find(name_or_path, scale)
    if scale is not None and model.scale != scale:
        raise ModelError(
            f"model '{model.name}' enlarges {model.scale} times, but {scale} times was asked. "
            f"Use --scale {model.scale} or another model."
        )
    return model


def _find(name_or_path: str | Path, scale: int | None) -> Model:
    text = str(name_or_path)
    names = [text, *([f"{text}-x{scale}", f"{text}_x{scale}"] if scale else [])]
    for name in names:
        card = SHIPPED / f"{name}.json"
        if "/" not in name and card.is_file() and card.with_suffix(".onnx").is_file():
            return _verified(_shipped(card))
    path = Path(name_or_path)
    if path.is_file():
        return _from_file(path)
    fetched = _fetched(names)
    if fetched is not None:
        return fetched
    if path.suffix.lower() in ONNX_SUFFIXES + TORCH_SUFFIXES or len(path.parts) > 1:
        raise ModelError(f"cannot read the model '{path}': no such file.")
    known = ", ".join(model.name for model in list_models()) or "none shipped"
    raise ModelError(
        f"unknown model '{text}'. Known: {known}; to be fetched: apisr models list. "
        "Give one of these or the path of a model file."
    )


def _fetched(names: list[str]) -> Model | None:
    """A release of the catalogue that was fetched before; a message with what to do if it was not."""
    from dataclasses import replace

    from apisr.weights.catalogue import CATALOGUE, cached

    for name in names:
        release = CATALOGUE.get(name)
        if release is None:
            continue
        path = cached(release)
        if path is None:
            raise ModelError(f"the model '{name}' is not on this machine yet. Run: apisr models fetch {name}")
        model = _from_file(path)
        return replace(model, name=name, card={**model.card, "license": release.licence, "paper": release.paper})
    return None


def _shipped(card_path: Path) -> Model:
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
        return from_card(card, card_path.with_suffix(".onnx"), sha256=str(card["sha256"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"the card '{card_path}' is damaged ({error!r}). Install apisr again.") from error


def from_card(card: Mapping[str, Any], path: Path, *, sha256: str) -> Model:
    """Make a :class:`Model` of a card with at least ``scale``; KeyError, TypeError or ValueError if it is wrong."""
    halo = card.get("halo_px")
    size = card.get("fixed_size")
    return Model(
        name=str(card.get("name", path.stem)),
        path=path,
        scale=int(card["scale"]),
        architecture=str(card.get("architecture", "foreign")),
        halo_px=None if halo is None else int(halo),
        multiple_px=int(card.get("multiple_px", 1)),
        card=dict(card),
        sha256=sha256,
        fixed_size=None if size is None else (int(size[0]), int(size[1])),
    )


def _verified(model: Model) -> Model:
    found = sha256_file(model.path)
    if found != model.sha256:
        raise ModelError(
            f"the model file '{model.path}' is damaged: its SHA-256 starts with {found[:12]}, "
            f"the card says {model.sha256[:12]}. Install apisr again."
        )
    return model


def _from_file(path: Path) -> Model:
    suffix = path.suffix.lower()
    if path.stat().st_size == 0:
        raise ModelError(f"the model '{path}' is empty (0 bytes). Fetch it again.")
    if suffix in ONNX_SUFFIXES:
        from apisr.weights.onnx_file import read_onnx_model

        return read_onnx_model(path)
    if suffix in TORCH_SUFFIXES:
        from apisr.weights.checkpoint import read_checkpoint_model

        return read_checkpoint_model(path)
    expected = ", ".join(ONNX_SUFFIXES + TORCH_SUFFIXES)
    raise ModelError(f"'{path}' is not a model file (expected {expected}; found '{path.suffix}').")
