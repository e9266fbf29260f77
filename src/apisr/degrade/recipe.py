"""Recipes: degradation as data. What may happen to a picture, with ranges; drawn parameters; replay.

A recipe is a list of passes, a pass a list of stages (:mod:`apisr.degrade.stages`) with ranges and probabilities.
:func:`sample` draws all of it into a plain JSON object, :func:`apply` executes that object and draws nothing but the
noise, whose seed is in it: the same parameters give the same bytes. Recipes are TOML files; the shipped ones are named
by :func:`preset_names`.

Pass orders: ``fixed`` runs the stages as written; ``shuffled-resize`` (the paper's) keeps the other stages as written
and puts each stage with ``moves = true`` at a position drawn with equal probability (never behind the final resize);
``first-or-last`` puts those stages at either end (Real-ESRGAN's last JPEG); ``shuffled`` (BSRGAN's) permutes
everything, with the final resize behind the other resizes.

    >>> import numpy as np
    >>> recipe = load_recipe("apisr", scale=4)
    >>> picture = np.zeros((64, 96, 3), np.uint8)
    >>> parameters = sample(recipe, np.random.default_rng(3), 64, 96)
    >>> apply(picture, parameters).shape
    (16, 24, 3)
"""

from __future__ import annotations

import functools
import operator
from pathlib import Path
from typing import Any, Literal, Self, cast

import cv2
import numpy as np
from pydantic import BaseModel, Field, ValidationError, model_validator

from apisr.core.config import Presets, read_toml, read_toml_file
from apisr.core.errors import InputError
from apisr.core.text import printable
from apisr.degrade.drawing import Draw, nearest_hint
from apisr.degrade.pixels import to_bytes
from apisr.degrade.stages import STAGES, AnyStage, CodecChoice, CompressStage, Data, ResizeStage, Stage, StageImage
from apisr.image import ImageF32, ImageU8, check_floats

__all__ = [
    "CompressStage",
    "Parameters",
    "Pass",
    "Recipe",
    "apply",
    "load_recipe",
    "low_size",
    "preset_names",
    "sample",
]

#: Drawn parameters: a JSON object (see :func:`sample`).
Parameters = dict[str, Any]

SCALES = (1, 2, 4)
_FORMAT = 2
#: Largest drawn number (but for seeds and sizes), and pixels between the stages over those of the picture.
_LARGEST_NUMBER, _LARGEST_GROWTH = 1000, 64
_UNBOUNDED = ("seed", "grain_seed", "height", "width")
_PRESETS = Presets("apisr.degrade", kind="recipe")


class Pass(Data):
    """Stages that belong together, and in which order they run.

    Attributes:
        order: see the module's text.
        stages: the stages.
    """

    order: Literal["fixed", "shuffled-resize", "first-or-last", "shuffled"] = "fixed"
    stages: tuple[Stage, ...]

    def ordered(self, scale: int, generator: np.random.Generator) -> list[AnyStage]:
        """Return the stages of this scale in the order in which they run this time."""
        stages: list[AnyStage] = [stage for stage in self.stages if not stage.scales or scale in stage.scales]
        if self.order == "shuffled":
            return _shuffled(stages, generator)
        if self.order == "fixed":
            return stages
        order = [stage for stage in stages if not stage.moves]
        for stage in (stage for stage in stages if stage.moves):
            if self.order == "first-or-last":
                place = 0 if generator.random() < 0.5 else len(order)
            else:
                last = next((index for index, other in enumerate(order) if _is_final(other)), len(order))
                place = int(generator.integers(0, last + 1))
            order.insert(place, stage)
        return order


class Recipe(Data):
    """A degradation recipe for one scale.

    Attributes:
        name: shown in parameters.
        description: one sentence.
        scale: 1, 2 or 4: the low picture's sides are the high picture's divided by it.
        passes: what happens, in order.
    """

    name: str
    description: str = ""
    scale: int = Field(4, ge=1, le=16)
    passes: tuple[Pass, ...]

    @model_validator(mode="after")
    def _check(self) -> Self:
        stages = [stage for part in self.passes for stage in part.stages]
        if not any(_is_final(stage) for stage in stages):
            raise ValueError('a recipe needs one resize stage with to = "final"')
        return self


@functools.cache
def preset_names() -> tuple[str, ...]:
    """Return the names of the shipped recipes."""
    return tuple(_PRESETS.names())


def load_recipe(name: str | Path, *, scale: int = 4) -> Recipe:
    """Load a shipped recipe by name, or a recipe file (TOML) by path.

    Args:
        name: one of :func:`preset_names`, or a path that ends in ``.toml``.
        scale: how much smaller the low-resolution picture is (1, 2, 4).

    Raises:
        InputError: unknown name, a file that cannot be read, unknown keys, values out of range.
    """
    if scale not in SCALES:
        known = ", ".join(map(str, SCALES))
        raise InputError(f"scale {scale} is not supported. Use one of {known}.", code="unknown-scale")
    text_name = str(name)
    if text_name.endswith(".toml"):
        values = read_toml_file(Path(name))
    elif text_name in preset_names():
        values = read_toml(_PRESETS.text(text_name), name=f"the recipe '{text_name}'")
    else:
        raise InputError(
            f"there is no recipe '{text_name}'{nearest_hint(text_name, preset_names())}. "
            f"There are: {', '.join(preset_names())}, or give the path of a .toml file.",
            code="unknown-preset",
        )
    try:
        return Recipe.model_validate({**values, "scale": scale})
    except ValidationError as error:
        raise InputError(f"cannot use the recipe '{name}': {_first_problem(error)}.", code="bad-setting") from error


def low_size(height: int, width: int, scale: int) -> tuple[int, int]:
    """Return the low-resolution size (height, width): the sides divided by `scale`, rounded up."""
    return -(-height // scale), -(-width // scale)


def sample(recipe: Recipe, generator: np.random.Generator, height: int, width: int) -> Parameters:
    """Draw everything that :func:`apply` will do to a picture of this size.

    Args:
        recipe: see :func:`load_recipe`.
        generator: source of all randomness.
        height: rows of the picture.
        width: columns of the picture.

    Returns:
        A JSON object: ``{"format": 2, "recipe": "apisr", "scale": 4, "size": [720, 1280], "stages": [...]}``; every
        stage has its name under ``"stage"`` and plain numbers, names and seeds.

    Raises:
        InputError: the picture has no pixels.
    """
    if height < 1 or width < 1:
        raise InputError(
            f"a picture of {width}x{height} cannot be degraded: both sides must be at least 1 pixel.",
            code="bad-picture",
        )
    low = low_size(height, width, recipe.scale)
    drawn: list[dict[str, object]] = []
    size = (height, width)
    for part in recipe.passes:
        for stage in part.ordered(recipe.scale, generator):
            if stage.probability < 1 and generator.random() >= stage.probability:
                continue
            values: dict[str, Any] = stage.draw(Draw(generator, size, low))
            if values["stage"] == "resize":
                if size == (values["height"], values["width"]):
                    continue
                size = (values["height"], values["width"])
            drawn.append(values)
    return {"format": _FORMAT, "recipe": recipe.name, "scale": recipe.scale, "size": [height, width], "stages": drawn}


def apply(picture: ImageU8 | ImageF32, parameters: Parameters) -> ImageU8:
    """Degrade a whole picture as `parameters` say. Deterministic, in memory, safe to call from several threads.

    Args:
        picture: ``(H, W, 3)`` RGB, uint8 or float32 in [0, 1].
        parameters: from :func:`sample`, or read back from its JSON.

    Returns:
        The low-resolution picture, ``(ceil(H / scale), ceil(W / scale), 3)`` uint8 RGB.

    Raises:
        InputError: the picture is not RGB, has another size than the parameters were drawn for, or they are damaged.
        RunError: a codec failed.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or str(picture.dtype) not in ("uint8", "float32"):
        raise InputError(
            f"expected an RGB picture (H, W, 3) uint8 or float32, got {picture.shape} {picture.dtype}.",
            code="bad-picture",
        )
    if picture.dtype == np.float32:
        check_floats(cast("ImageF32", picture))
    try:
        _check_fit(picture, parameters)
        state: StageImage = picture
        for values in parameters["stages"]:
            _check_numbers(picture, values)
            state = run_stage(state, values)
        expected = low_size(picture.shape[0], picture.shape[1], parameters["scale"])
        if state.shape[:2] != expected:
            raise ValueError(f"they end with {state.shape[1]}x{state.shape[0]}, not {expected[1]}x{expected[0]}")
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, cv2.error) as error:
        reason = str(error).splitlines()[0] if str(error) else ""
        raise InputError(
            f"the degradation parameters are damaged: {type(error).__name__} {reason[:200]}.", code="bad-parameters"
        ) from error
    return to_bytes(state)


def run_stage(state: StageImage, values: dict[str, Any]) -> StageImage:
    """Execute one drawn stage.

    Raises:
        InputError: there is no such stage.
    """
    name = values["stage"]
    if name not in STAGES:
        raise InputError(
            f"the parameters name the stage '{printable(str(name))}'. Expected one of: {', '.join(STAGES)}.",
            code="unknown-stage",
        )
    return STAGES[name].run(state, values)


def _check_fit(picture: ImageU8 | ImageF32, parameters: Parameters) -> None:
    if parameters["format"] != _FORMAT:
        raise InputError(
            f"parameters of format {parameters['format']!r} cannot be replayed; this version reads {_FORMAT}.",
            code="parameters-format",
        )
    height, width = parameters["size"]
    if picture.shape[:2] != (height, width):
        raise InputError(
            f"the parameters were drawn for {width}x{height}, "
            f"the picture is {picture.shape[1]}x{picture.shape[0]}. Draw new ones.",
            code="parameters-size",
        )


def _check_numbers(picture: ImageU8 | ImageF32, values: dict[str, Any]) -> None:
    """Refuse what no recipe draws: sizes and widths that would take all memory or hours; ValueError or TypeError."""
    for key, value in values.items():
        numbers = value if isinstance(value, list) else [value]
        for number in numbers:
            is_number = isinstance(number, int | float) and not isinstance(number, bool)
            if is_number and key not in _UNBOUNDED and not abs(number) <= _LARGEST_NUMBER:
                raise ValueError(f"{key} is {number:.3g}, expected at most {_LARGEST_NUMBER}")
    if values["stage"] == "resize":
        height, width = operator.index(values["height"]), operator.index(values["width"])
        if height * width > _LARGEST_GROWTH * (picture.shape[0] * picture.shape[1] + _LARGEST_GROWTH):
            raise ValueError(f"a resize to {width}x{height} of a picture of {picture.shape[1]}x{picture.shape[0]}")


def _shuffled(stages: list[AnyStage], generator: np.random.Generator) -> list[AnyStage]:
    """Permute everything, with the final resize behind the other resizes."""
    order = [stages[index] for index in generator.permutation(len(stages))]
    resizes = [index for index, stage in enumerate(order) if isinstance(stage, ResizeStage)]
    for place, stage in zip(resizes, sorted((order[index] for index in resizes), key=_is_final), strict=True):
        order[place] = stage
    return order


def _is_final(stage: AnyStage) -> bool:
    return isinstance(stage, ResizeStage) and stage.to == "final"


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    text = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        models: tuple[type[BaseModel], ...] = (Recipe, Pass, CodecChoice, *STAGES.values())
        names = sorted({name for model in models for name in model.model_fields})
        return f"unknown key '{place}'{nearest_hint(str(first['loc'][-1]), names)}"
    return f"{place}: {text}" if place else text
