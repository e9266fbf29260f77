"""Model files: which exist, what they need, and finding one by name or path.

A model is one file, ``.onnx`` (runs with the light installation) or ``.safetensors``/``.pth``/``.pt``/``.ckpt`` (extra
``[torch]``), and a card: a small dictionary for people and programs (name, scale, architecture, licence, training).
Shipped models are ``shipped/NAME.onnx`` with the card in ``shipped/NAME.json``; other ONNX files written by us hold
theirs inside. This module imports neither torch nor onnxruntime.

    >>> from apisr.weights import resolve_model
    >>> model = resolve_model("my-model.onnx", scale=2)       # doctest: +SKIP
    >>> model.scale, model.traits.halo_px                            # doctest: +SKIP
    (2, 20)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from apisr.core.errors import InputError, ModelError
from apisr.core.files import sha256_file
from apisr.networks import ModelTraits, memory_per_px

#: Where the shipped models lie.
SHIPPED = Path(__file__).parent / "shipped"

#: Ending of the name of a vivid twin.
VIVID = "-vivid"

ONNX_SUFFIXES = (".onnx",)
TORCH_SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")
#: Weights in the folder of a training run, the preferred first.
RUN_WEIGHTS = ("best.safetensors", "ema.safetensors")

#: A card that states more than these is damaged or made to do harm: sizes are multiplied by them.
MAX_SCALE, MAX_HALO_PX, MAX_FIXED_PX = 16, 1024, 16_384


@dataclass(frozen=True)
class Model:
    """One model file and what an engine needs to know of it.

    Attributes:
        name: short name (the file's stem if its card has none).
        path: the file.
        architecture: name of the network (a key of `apisr.networks.NETWORKS`, or ``"foreign"``).
        traits: how the network relates output to input.
        card: everything else that is known (``license``, ``parameters``, ``flops_per_pixel``, ``hyper``, ...).
        sha256: of the file, hexadecimal.
    """

    name: str
    path: Path
    architecture: str
    traits: ModelTraits
    card: Mapping[str, Any] = field(default_factory=dict[str, Any])
    sha256: str = ""

    @property
    def scale(self) -> int:
        """Output size over input size."""
        return self.traits.scale

    @property
    def format(self) -> Literal["onnx", "torch"]:
        """``onnx`` or ``torch``: the family of the file."""
        return "onnx" if self.path.suffix.lower() in ONNX_SUFFIXES else "torch"

    def traits_on(self, engine: str) -> ModelTraits:
        """Return the traits with the memory that a pixel costs on an engine."""
        return replace(self.traits, bytes_per_px=memory_per_px(self.architecture, engine))


def list_models() -> list[Model]:
    """Return the shipped models, by name. Cards are read; files are not verified before :func:`resolve_model`."""
    return [_shipped(card) for card in sorted(SHIPPED.glob("*.json"), key=lambda path: path.stem)]


def default_model(scale: int | None = None) -> str:
    """Return the name of the shipped model that is used when none is named.

    That is the one whose card says ``"default": true``, else the one with the lowest cost per pixel.

    Args:
        scale: the wanted scale; None takes the default of all models.

    Raises:
        ModelError: no shipped model has this scale.
    """
    # A vivid twin invents: it is never taken unless it is asked for, even where the faithful one is missing.
    models = [model for model in list_models() if not model.name.endswith(VIVID)]
    fitting = [model for model in models if scale is None or model.scale == scale]
    if not fitting:
        scales = sorted({model.scale for model in models})
        have = ", ".join(f"x{value}" for value in scales) or "none"
        raise ModelError(
            f"no shipped model enlarges {scale} times (scales: {have}). Give another scale or --model FILE.",
            code="no-model-for-scale",
        )
    return min(fitting, key=lambda model: (not model.card.get("default"), model.card.get("flops_per_pixel", 0))).name


def resolve_model(name_or_path: str | Path, *, scale: int | None = None) -> Model:
    """Find a model by name (shipped or fetched) or by the path of its file, and check it.

    Args:
        name_or_path: ``"NAME"``, a file ending in .onnx, .safetensors, .pth, .pt or .ckpt, or the folder of a training
            run: its best weights, or else the last ones.
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
            f"Use --scale {model.scale} or another model.",
            code="model-other-scale",
        )
    return model


def _find(name_or_path: str | Path, scale: int | None) -> Model:
    text = str(name_or_path)
    names = [text, *([f"{text}-x{scale}", f"{text}_x{scale}"] if scale else [])]
    for name in names:
        card = SHIPPED / f"{name}.json"
        if "/" not in name and card.is_file():
            return _verified(_shipped(card))
    path = Path(name_or_path)
    if path.is_file():
        return _from_file(path)
    of_run = next((path / name for name in RUN_WEIGHTS if (path / name).is_file()), None)
    if of_run is not None:
        return _from_file(of_run)
    fetched = _fetched(names)
    if fetched is not None:
        return fetched
    if path.suffix.lower() in ONNX_SUFFIXES + TORCH_SUFFIXES or len(path.parts) > 1:
        raise ModelError(f"cannot read the model '{path}': no such file.", code="no-such-model")
    known = ", ".join(model.name for model in list_models()) or "none shipped"
    raise ModelError(
        f"unknown model '{text}'. Known: {known}; to be fetched: apisr models list. "
        "Give one of these or the path of a model file.",
        code="no-such-model",
    )


def _fetched(names: list[str]) -> Model | None:
    """A release of the catalogue that was fetched before; a message with what to do if it was not."""
    from apisr.weights.releases import CATALOGUE, cached

    for name in names:
        release = CATALOGUE.get(name)
        if release is None:
            continue
        path = cached(release)
        if path is None:
            raise ModelError(
                f"the model '{name}' is not on this machine yet. Run: apisr models fetch {name}",
                code="model-not-fetched",
            )
        model = _from_file(path)
        return replace(model, name=name, card={**model.card, "license": release.licence, "paper": release.paper})
    return None


def _shipped(card_path: Path) -> Model:
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
        return from_card(card, card_path.with_suffix(".onnx"), sha256=str(card["sha256"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"the card '{card_path}' is damaged ({error!r}). Install apisr again.", code="shipped-model-damaged"
        ) from error


def from_card(card: Mapping[str, Any], path: Path, *, sha256: str) -> Model:
    """Make a :class:`Model` of a card with at least ``scale``; KeyError, TypeError or ValueError if it is wrong."""
    halo = card.get("halo_px")
    size = card.get("fixed_size")
    name = str(card.get("architecture", "foreign"))
    traits = ModelTraits(
        scale=_number(card, "scale", 1, MAX_SCALE),
        halo_px=None if halo is None else _number(card, "halo_px", 0, MAX_HALO_PX),
        multiple_px=_number(card, "multiple_px", 1, MAX_HALO_PX) if "multiple_px" in card else 1,
        fixed_size=None if size is None else (_size(size[0]), _size(size[1])),
        bytes_per_px=memory_per_px(name, "onnx" if path.suffix.lower() in ONNX_SUFFIXES else "torch"),
    )
    return Model(str(card.get("name", path.stem)), path, name, traits, dict(card), sha256)


def _number(card: Mapping[str, Any], key: str, low: int, high: int) -> int:
    value = int(card[key])
    if not low <= value <= high:
        raise ValueError(f"{key} is {value}, expected {low} to {high}")
    return value


def _size(value: Any) -> int:
    number = int(value)
    if not 1 <= number <= MAX_FIXED_PX:
        raise ValueError(f"fixed_size is {number}, expected 1 to {MAX_FIXED_PX}")
    return number


def _verified(model: Model) -> Model:
    if not model.path.is_file():
        raise ModelError(
            f"the file of the model '{model.name}' is missing ('{model.path}'). Install apisr again.",
            code="shipped-model-damaged",
        )
    actual = sha256_file(model.path)
    if actual != model.sha256:
        raise ModelError(
            f"the model file '{model.path}' is damaged: its SHA-256 starts with {actual[:12]}, "
            f"the card says {model.sha256[:12]}. Install apisr again.",
            code="shipped-model-damaged",
        )
    return model


def _from_file(path: Path) -> Model:
    suffix = path.suffix.lower()
    if path.stat().st_size == 0:
        raise ModelError(f"the model '{path}' is empty (0 bytes). Fetch it again.", code="model-damaged")
    if suffix in ONNX_SUFFIXES:
        from apisr.weights.formats.onnx_probe import read_onnx_model

        return read_onnx_model(path)
    if suffix in TORCH_SUFFIXES:
        from apisr.weights.checkpoint import read_checkpoint_model

        return read_checkpoint_model(path)
    expected = ", ".join(ONNX_SUFFIXES + TORCH_SUFFIXES)
    raise ModelError(f"'{path}' is not a model file (expected {expected}; found '{path.suffix}').", code="not-a-model")


def choose_model(model: str | Path | None, *, scale: float | None = None, strength: float | None = None) -> Model:
    """Find the model for a request: the one named, else the shipped one for the next whole scale (2 or 4).

    With a strength it is the one between that model and its vivid twin (:mod:`apisr.weights.interpolate`).

    Raises:
        ModelError: unknown, damaged, or no model fits.
        InputError: the factor is out of range (code ``bad-scale``), or a strength is given and the model has no vivid
            twin.
    """
    chosen = _chosen_model(model, scale=scale)
    if strength is None:
        return chosen
    from apisr.weights.interpolate import between

    return between(chosen, strength)


def _chosen_model(model: str | Path | None, *, scale: float | None) -> Model:
    if scale is not None and not 0.1 <= scale <= 16:
        raise InputError(
            f"expected a scale from 0.1 to 16, got {scale:g}. The models' own scales are 2 and 4.", code="bad-scale"
        )
    base = 4 if scale is not None and scale > 2 else 2
    if model is None:
        return resolve_model(default_model(base))
    try:
        return resolve_model(model)
    except InputError:
        if Path(model).suffix:
            raise
        return resolve_model(model, scale=base)
