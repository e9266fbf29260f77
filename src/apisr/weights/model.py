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

from apisr.core.errors import ModelError
from apisr.core.files import sha256_file
from apisr.core.text import parse_json
from apisr.networks import ModelTraits, memory_per_px
from apisr.weights.formats.onnx import read_metadata
from apisr.weights.sealing import CARD_SHA256, check_sealed

#: Where the shipped models lie.
SHIPPED = Path(__file__).parent / "shipped"

#: Ending of the name of a vivid twin.
VIVID = "-vivid"
#: Entry of a card: the model's twin is trained for sources that are soft at their own size.
SOFT_TWIN = "soft_twin"

ONNX_SUFFIXES = (".onnx",)
TORCH_SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")
#: Weights in the folder of a training run, the preferred first.
RUN_WEIGHTS = ("best.safetensors", "ema.safetensors")

#: A card that states more than these is damaged or made to do harm: sizes are multiplied by them.
MAX_SCALE, MAX_HALO_PX, MAX_FIXED_PX = 16, 1024, 16_384


#: Entry of a card: ``true`` where the colours of the input are cleaned before the network.
CLEANS_COLOURS = "cleans_colours"

#: A card: JSON values by name.
Card = Mapping[str, Any]
CardDict = dict[str, Any]


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
    card: Card = field(default_factory=CardDict)
    sha256: str = ""

    @property
    def scale(self) -> int:
        """Output size over input size."""
        return self.traits.scale

    @property
    def cleans_colours(self) -> bool:
        """Whether the colours of its input are cleaned before it (:mod:`apisr.image.chroma`)."""
        return self.card.get(CLEANS_COLOURS) is True

    @property
    def format(self) -> Literal["onnx", "torch"]:
        """``onnx`` or ``torch``: the family of the file."""
        return "onnx" if self.path.suffix.lower() in ONNX_SUFFIXES else "torch"

    def check_unchanged(self) -> None:
        """Check that the file is still the one that was read: it is opened anew by every engine.

        Raises:
            ModelError: it was changed or replaced, or is gone (code ``model-changed``).
        """
        try:
            changed = bool(self.sha256) and sha256_file(self.path) != self.sha256
        except OSError:
            changed = True
        if changed:
            raise model_changed(self.path)

    def traits_on(self, engine: str) -> ModelTraits:
        """Return the traits with the memory that a pixel costs on an engine."""
        return replace(self.traits, bytes_per_px=memory_per_px(self.architecture, engine))


def model_changed(path: Path) -> ModelError:
    """Return what is said of a model file that is no longer the one that a run began with."""
    return ModelError(
        f"the model file '{path}' was changed or replaced after it was read. Run the command again.",
        code="model-changed",
    )


def list_models() -> list[Model]:
    """Return the shipped models, by name. Cards are read; files are not verified before :func:`resolve_model`.

    Raises:
        ModelError: a card is damaged.
    """
    return [_shipped(card) for card in sorted(SHIPPED.glob("*.json"), key=lambda path: path.stem)]


def default_model(scale: int | None = None) -> str:
    """Return the name of the shipped model that is used when none is named.

    That is the one whose card says ``"default": true``, else the one with the lowest cost per pixel.

    Args:
        scale: the factor; None takes the default of all models.

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


def _shipped(card_path: Path) -> Model:
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
        check_sealed(card)
        del card[CARD_SHA256]
        return from_card(card, card_path.with_suffix(".onnx"), sha256=str(card["sha256"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"the card '{card_path}' is damaged ({error!r}). Install apisr again.", code="shipped-model-damaged"
        ) from error


def from_card(card: Card, path: Path, *, sha256: str) -> Model:
    """Make a :class:`Model` of a card with at least ``scale``.

    Raises:
        KeyError, TypeError, ValueError: the card is wrong.
    """
    halo = card.get("halo_px")
    size = card.get("fixed_size")
    name = str(card.get("architecture", "foreign"))
    traits = ModelTraits(
        scale=_number(card, "scale", 1, MAX_SCALE),
        halo_px=None if halo is None else _number(card, "halo_px", 0, MAX_HALO_PX),
        multiple_px=_number(card, "multiple_px", 1, MAX_HALO_PX) if "multiple_px" in card else 1,
        fixed_size=None if size is None else (_size(size[0]), _size(size[1])),
        bytes_per_px=memory_per_px(name, "onnx" if path.suffix.lower() in ONNX_SUFFIXES else "torch"),
        rim_px=None if card.get("rim_px") is None else _number(card, "rim_px", 0, MAX_HALO_PX),
    )
    return Model(str(card.get("name", path.stem)), path, name, traits, dict(card), sha256)


def _number(card: Card, key: str, low: int, high: int) -> int:
    value = int(card[key])
    if not low <= value <= high:
        raise ValueError(f"{key} is {value}, expected {low} to {high}")
    return value


def _size(value: Any) -> int:
    number = int(value)
    if not 1 <= number <= MAX_FIXED_PX:
        raise ValueError(f"fixed_size is {number}, expected 1 to {MAX_FIXED_PX}")
    return number


def shipped_model(name: str) -> Model | None:
    """Return the shipped model called `name`, None if there is none.

    Raises:
        ModelError: its card or file is missing or damaged (code ``shipped-model-damaged``).
    """
    card = SHIPPED / f"{name}.json"
    return _verified(_shipped(card)) if "/" not in name and card.is_file() else None


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
    differing = _differing_entry(model)
    if differing is not None:
        raise ModelError(
            f"the card of the model '{model.name}' and its file differ in '{differing}'. Install apisr again.",
            code="shipped-model-damaged",
        )
    return model


def _differing_entry(model: Model) -> str | None:
    """Return the name of an entry in which a card differs from what the file itself says; what it leaves open is not.

    Raises:
        ModelError: it is not an ONNX file.
    """
    metadata = read_metadata(model.path)
    if "apisr.card" not in metadata:
        return None
    inside: CardDict = dict(parse_json(metadata["apisr.card"]))
    for entry in ("scale", "halo_px", "multiple_px", "rim_px"):
        text = metadata.get(f"apisr.{entry}")
        inside[entry] = model.card.get(entry) if text is None else int(text) if text else None
    names = sorted({*inside, *model.card} - {"sha256"})
    return next((name for name in names if model.card.get(name) != inside.get(name)), None)
