"""Recipes: degradation as data. What may happen to a picture, with ranges; drawn parameters; replay.

A recipe is a list of passes, a pass a list of stages with ranges and probabilities. :func:`sample` draws all of it
into a plain JSON object, :func:`apply` executes that object and draws nothing but the noise, whose seed is in it: the
same parameters give the same bytes. Recipes are TOML files; the shipped ones are named in :data:`PRESETS`.

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

import difflib
import math
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from apisr.core.errors import InputError
from apisr.degrade import codecs, damage, kernels, noise
from apisr.degrade.resize import MODES, resize
from apisr.image import Floats

Bytes = NDArray[np.uint8]
#: Drawn parameters: a JSON object (see :func:`sample`).
Parameters = dict[str, Any]

#: Names of the shipped recipes.
PRESETS = ("apisr", "prediction", "real-esrgan", "bsrgan", "bicubic", "video")
SCALES = (1, 2, 4)
KINDS = ("iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso", "sinc")
_FORMAT = 1

Range = tuple[float, float]


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Stage(_Data):
    """What all stages share.

    Attributes:
        probability: chance that the stage is applied at all.
        moves: moves in a pass of order ``shuffled-resize`` or ``first-or-last``.
        scales: only for these scales; empty for all.
    """

    probability: float = Field(1.0, ge=0, le=1)
    moves: bool = False
    scales: tuple[int, ...] = ()


class BlurStage(_Stage):
    """Blur with a random kernel.

    Attributes:
        kinds: relative weights of :data:`KINDS`.
        sizes: smallest and largest odd kernel side, in pixels.
        sigma_range: widths in pixels.
        generalized_beta_range: shape of generalised Gaussians; half of the draws lie below 1 where the range allows it.
        plateau_beta_range: shape of plateaus, drawn alike.
        angle_range: rotation of anisotropic kernels, in radians.
        cutoff_ranges: of the sinc kernel, in radians a pixel: for sides below 13, and from 13 on.
    """

    stage: Literal["blur"]
    kinds: dict[str, float]
    sizes: tuple[int, int] = (7, 21)
    sigma_range: Range = (0.2, 3.0)
    generalized_beta_range: Range = (0.5, 4.0)
    plateau_beta_range: Range = (1.0, 2.0)
    angle_range: Range = (-math.pi, math.pi)
    cutoff_ranges: tuple[Range, Range] = ((math.pi / 3, math.pi), (math.pi / 5, math.pi))

    @model_validator(mode="after")
    def _check(self) -> Self:
        for kind in self.kinds:
            _known(kind, KINDS, "kernel")
        if self.sizes[0] % 2 == 0 or self.sizes[1] % 2 == 0 or not 1 <= self.sizes[0] <= self.sizes[1]:
            raise ValueError("sizes must be two odd numbers, the smaller first")
        return self


class NoiseStage(_Stage):
    """Gaussian or Poisson noise.

    Attributes:
        gaussian: probability of Gaussian noise; otherwise Poisson.
        sigma_range: of Gaussian noise, in 8-bit levels.
        poisson_range: factor of Poisson noise.
        gray: probability that all channels get the same noise.
    """

    stage: Literal["noise"]
    gaussian: float = Field(0.5, ge=0, le=1)
    sigma_range: Range = (1.0, 30.0)
    poisson_range: Range = (0.05, 3.0)
    gray: float = Field(0.4, ge=0, le=1)


class ResizeStage(_Stage):
    """A random resize, or (``to = "final"``) the one to exactly 1/scale.

    Attributes:
        to: what factors multiply: the ``"current"`` size, or the ``"low"`` size; ``"final"``: exactly the low size.
        weights: of shrinking, enlarging and keeping.
        factor_range: smallest and largest factor; shrinking draws below 1, enlarging above 1.
        modes: relative weights of the resize modes.
    """

    stage: Literal["resize"]
    to: Literal["current", "low", "final"] = "current"
    weights: tuple[float, float, float] = (0.7, 0.2, 0.1)
    factor_range: Range = (0.1, 1.2)
    modes: dict[str, float] = {"area": 1.0, "bilinear": 1.0, "bicubic": 1.0}

    @model_validator(mode="after")
    def _check(self) -> Self:
        for mode in self.modes:
            _known(mode, MODES, "resize mode")
        if self.to != "final" and not 0 < self.factor_range[0] <= self.factor_range[1]:
            raise ValueError("factor_range must be two numbers above 0, the smaller first")
        return self


class CodecChoice(_Data):
    """One codec of a compression stage: its weight and the ranges of its settings (see :func:`codecs.round_trip`).

    Attributes:
        weight: relative to the other codecs of the stage.
        quality: range of whole numbers (jpeg, webp, avif).
        method: range of whole numbers (webp).
        quantizer: range of whole numbers (mpeg2, mpeg4, mjpeg).
        crf: range of whole numbers (h264, h265, vp9, av1).
        presets: relative weights (h264, h265).
        speed: one value (avif, vp9), or the preset of av1.
        frames: range of the length of the pan that ends on the picture; (1, 1) is prediction inside the picture only.
        motion_px: largest motion of that pan, each way, a frame.
        matrix: colour matrix of video codecs.
    """

    weight: float = Field(ge=0)
    quality: tuple[int, int] | None = None
    method: tuple[int, int] | None = None
    quantizer: tuple[int, int] | None = None
    crf: tuple[int, int] | None = None
    presets: dict[str, float] | None = None
    speed: int | None = None
    frames: tuple[int, int] = (1, 1)
    motion_px: int = Field(0, ge=0)
    matrix: codecs.Matrix = "bt601"


class CompressStage(_Stage):
    """Compression with one of several codecs.

    Attributes:
        codecs: the choices by codec name.
    """

    stage: Literal["compress"]
    codecs: dict[str, CodecChoice]

    @model_validator(mode="after")
    def _check(self) -> Self:
        for codec in self.codecs:
            _known(codec, codecs.CODECS, "codec")
        return self


class DamageStage(_Stage):
    """Damage of discs and analogue video, for old sources (see :mod:`apisr.degrade.damage`).

    Attributes:
        kind: which damage.
        strength_range: strength drawn, 0 to 1.
    """

    stage: Literal["damage"]
    kind: damage.Kind
    strength_range: Range = (0.2, 1.0)


Stage = Annotated[BlurStage | NoiseStage | ResizeStage | CompressStage | DamageStage, Field(discriminator="stage")]


class Pass(_Data):
    """Stages that belong together, and in which order they run.

    Attributes:
        order: see the module's text.
        stages: the stages.
    """

    order: Literal["fixed", "shuffled-resize", "first-or-last", "shuffled"] = "fixed"
    stages: tuple[Stage, ...]


class Recipe(_Data):
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
        if not any(
            isinstance(stage, ResizeStage) and stage.to == "final" for one in self.passes for stage in one.stages
        ):
            raise ValueError('a recipe needs one resize stage with to = "final"')
        return self


def load_recipe(name: str | Path, *, scale: int = 4) -> Recipe:
    """Load a shipped recipe by name, or a recipe file (TOML) by path.

    Args:
        name: one of :data:`PRESETS`, or a path that ends in ``.toml``.
        scale: how much smaller the low-resolution picture is (1, 2, 4).

    Raises:
        InputError: unknown name, a file that cannot be read, unknown keys, values out of range.
    """
    if scale not in SCALES:
        raise InputError(f"scale {scale} is not supported. Use one of {', '.join(map(str, SCALES))}.")
    text_name = str(name)
    if text_name in PRESETS:
        text = resources.files("apisr.degrade").joinpath("presets", f"{text_name}.toml").read_text("utf-8")
    elif text_name.endswith(".toml"):
        try:
            text = Path(name).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"cannot read the recipe '{name}': {getattr(error, 'strerror', None) or error}."
            ) from error
    else:
        raise InputError(
            f"unknown recipe '{name}'{_nearest(text_name, PRESETS)}. "
            f"Use one of {', '.join(PRESETS)}, or the path of a .toml file."
        )
    try:
        return Recipe.model_validate({**tomllib.loads(text), "scale": scale})
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"cannot read the recipe '{name}': not valid TOML ({error}).") from error
    except ValidationError as error:
        raise InputError(f"cannot use the recipe '{name}': {_first_problem(error)}.") from error


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
        A JSON object: ``{"format": 1, "recipe": "apisr", "scale": 4, "size": [720, 1280], "stages": [...]}``; every
        stage has its name under ``"stage"`` and plain numbers, names and seeds.
    """
    if height < 1 or width < 1:
        raise InputError(f"a picture of {width}x{height} cannot be degraded: both sides must be at least 1 pixel.")
    low = low_size(height, width, recipe.scale)
    drawn: list[Parameters] = []
    size = (height, width)
    for one in recipe.passes:
        for stage in _ordered(one, recipe.scale, generator):
            if stage.probability < 1 and generator.random() >= stage.probability:
                continue
            values = _draw(stage, generator, size, low)
            if values["stage"] == "resize":
                if size == (values["height"], values["width"]):
                    continue
                size = (values["height"], values["width"])
            drawn.append(values)
    return {"format": _FORMAT, "recipe": recipe.name, "scale": recipe.scale, "size": [height, width], "stages": drawn}


def apply(picture: NDArray[Any], parameters: Parameters) -> Bytes:
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
        raise InputError(f"expected an RGB picture (H, W, 3) uint8 or float32, got {picture.shape} {picture.dtype}.")
    try:
        if parameters["format"] != _FORMAT:
            raise InputError(
                f"parameters of format {parameters['format']!r} cannot be replayed; this version knows {_FORMAT}."
            )
        height, width = parameters["size"]
        if picture.shape[:2] != (height, width):
            raise InputError(
                f"the parameters were drawn for {width}x{height}, "
                f"the picture is {picture.shape[1]}x{picture.shape[0]}. Draw new ones."
            )
        state: Bytes | Floats = picture
        for stage in parameters["stages"]:
            state = _apply_stage(state, stage)
    except (KeyError, TypeError, IndexError) as error:
        raise InputError(f"the degradation parameters are damaged: {type(error).__name__} {error}.") from error
    return to_bytes(state)


def to_bytes(picture: Bytes | Floats) -> Bytes:
    """Round a float picture in [0, 1] to uint8, clipped; uint8 is returned as it is."""
    if picture.dtype == np.uint8:
        return cast("Bytes", picture)
    return cast("Bytes", cv2.addWeighted(picture, 255.0, picture, 0.0, 0.0, dtype=cv2.CV_8U))


def to_unit(picture: Bytes | Floats) -> Floats:
    """Convert uint8 to float32 in [0, 1]; float32 is returned as it is."""
    if picture.dtype == np.uint8:
        return cast("Floats", cv2.addWeighted(picture, 1 / 255, picture, 0.0, 0.0, dtype=cv2.CV_32F))
    return cast("Floats", picture)


def make_kernel(values: Parameters) -> NDArray[np.float64]:
    """Make the kernel of a drawn blur stage."""
    kind, size = values["kind"], values["size"]
    if kind == "sinc":
        return kernels.sinc_kernel(size, values["cutoff"])
    sigma_x, sigma_y = values["sigma"]
    angle = values.get("angle", 0.0)
    if kind.startswith("generalized"):
        return kernels.generalized_kernel(size, sigma_x, sigma_y, angle=angle, beta=values["beta"])
    if kind.startswith("plateau"):
        return kernels.plateau_kernel(size, sigma_x, sigma_y, angle=angle, beta=values["beta"])
    return kernels.gaussian_kernel(size, sigma_x, sigma_y, angle=angle)


def _apply_stage(state: Bytes | Floats, values: Parameters) -> Bytes | Floats:
    name = values["stage"]
    if name == "blur":
        return kernels.blur(to_unit(state), make_kernel(values))
    if name == "noise":
        generator = np.random.Generator(np.random.SFC64(values["seed"]))
        if values["kind"] == "gaussian":
            return noise.gaussian_noise(to_unit(state), sigma=values["sigma"], gray=values["gray"], generator=generator)
        return noise.poisson_noise(to_unit(state), scale=values["scale"], gray=values["gray"], generator=generator)
    if name == "resize":
        return resize(to_unit(state), values["height"], values["width"], mode=values["mode"])
    if name == "compress":
        settings = {key: value for key, value in values.items() if key not in ("stage", "codec")}
        return codecs.round_trip(to_bytes(state), values["codec"], **settings).picture
    if name == "damage":
        generator = np.random.Generator(np.random.SFC64(values["seed"]))
        return damage.damage(to_unit(state), values["kind"], strength=values["strength"], generator=generator)
    raise InputError(f"unknown stage '{name}' in the degradation parameters.")


def _ordered(one: Pass, scale: int, generator: np.random.Generator) -> list[Stage]:
    stages = [stage for stage in one.stages if not stage.scales or scale in stage.scales]
    if one.order in ("shuffled-resize", "first-or-last"):
        order = [stage for stage in stages if not stage.moves]
        for stage in (stage for stage in stages if stage.moves):
            if one.order == "first-or-last":
                place = 0 if generator.random() < 0.5 else len(order)
            else:
                last = next((index for index, other in enumerate(order) if _is_final(other)), len(order))
                place = int(generator.integers(0, last + 1))
            order.insert(place, stage)
        return order
    if one.order == "shuffled":
        order = [stages[index] for index in generator.permutation(len(stages))]
        resizes = [index for index, stage in enumerate(order) if isinstance(stage, ResizeStage)]
        for place, stage in zip(resizes, sorted((order[index] for index in resizes), key=_is_final), strict=True):
            order[place] = stage
        return order
    return stages


def _is_final(stage: Stage) -> bool:
    return isinstance(stage, ResizeStage) and stage.to == "final"


def _draw(stage: Stage, generator: np.random.Generator, size: tuple[int, int], low: tuple[int, int]) -> Parameters:
    if isinstance(stage, BlurStage):
        return _draw_blur(stage, generator)
    if isinstance(stage, NoiseStage):
        gray = bool(generator.random() < stage.gray)
        if generator.random() < stage.gaussian:
            values: Parameters = {"kind": "gaussian", "sigma": _uniform(generator, stage.sigma_range)}
        else:
            values = {"kind": "poisson", "scale": _uniform(generator, stage.poisson_range)}
        return {"stage": "noise", **values, "gray": gray, "seed": _seed(generator)}
    if isinstance(stage, ResizeStage):
        mode = _choose(generator, stage.modes)
        if stage.to == "final":
            return {"stage": "resize", "height": low[0], "width": low[1], "mode": mode}
        change = _choose(generator, dict(zip(("down", "up", "keep"), stage.weights, strict=True)))
        smallest, largest = stage.factor_range
        factor = 1.0
        if change == "down":
            factor = _uniform(generator, (smallest, 1.0))
        elif change == "up":
            factor = _uniform(generator, (1.0, largest))
        base = size if stage.to == "current" else low
        return {
            "stage": "resize",
            "height": max(1, round(base[0] * factor)),
            "width": max(1, round(base[1] * factor)),
            "mode": mode,
        }
    if isinstance(stage, CompressStage):
        codec = _choose(generator, {name: choice.weight for name, choice in stage.codecs.items()})
        return {"stage": "compress", "codec": codec, **_draw_codec(codec, stage.codecs[codec], generator)}
    return {
        "stage": "damage",
        "kind": stage.kind,
        "strength": _uniform(generator, stage.strength_range),
        "seed": _seed(generator),
    }


def _draw_blur(stage: BlurStage, generator: np.random.Generator) -> Parameters:
    kind = _choose(generator, stage.kinds)
    size = int(generator.integers(stage.sizes[0] // 2, stage.sizes[1] // 2 + 1)) * 2 + 1
    values: Parameters = {"stage": "blur", "kind": kind, "size": size}
    if kind == "sinc":
        return values | {"cutoff": _uniform(generator, stage.cutoff_ranges[0 if size < 13 else 1])}
    sigma_x = _uniform(generator, stage.sigma_range)
    if kind.endswith("aniso"):
        values |= {
            "sigma": [sigma_x, _uniform(generator, stage.sigma_range)],
            "angle": _uniform(generator, stage.angle_range),
        }
    else:
        values |= {"sigma": [sigma_x, sigma_x]}
    if kind.startswith(("generalized", "plateau")):
        low, high = stage.generalized_beta_range if kind.startswith("generalized") else stage.plateau_beta_range
        below = generator.random() < 0.5
        values["beta"] = _uniform(generator, (low, max(low, 1.0)) if below else (min(1.0, high), high))
    return values


def _draw_codec(codec: str, choice: CodecChoice, generator: np.random.Generator) -> Parameters:
    values: Parameters = {}
    for name in ("quality", "method", "quantizer", "crf"):
        limits = getattr(choice, name)
        if limits is not None:
            values[name] = int(generator.integers(limits[0], limits[1] + 1))
    if choice.presets is not None:
        values["preset"] = _choose(generator, choice.presets)
    if choice.speed is not None:
        values["preset" if codec == "av1" else "speed"] = choice.speed
    if choice.frames[1] > 1:
        values["frames"] = int(generator.integers(choice.frames[0], choice.frames[1] + 1))
        values["motion"] = [int(value) for value in generator.integers(-choice.motion_px, choice.motion_px + 1, 2)]
    if codec not in ("jpeg", "webp", "avif") and choice.matrix != "bt601":
        values["matrix"] = choice.matrix
    return values


def _uniform(generator: np.random.Generator, limits: Range) -> float:
    return float(generator.uniform(limits[0], limits[1]))


def _seed(generator: np.random.Generator) -> int:
    return int(generator.integers(0, 1 << 53))


def _choose(generator: np.random.Generator, weights: dict[str, float]) -> str:
    names = list(weights)
    chances = np.array([weights[name] for name in names], np.float64)
    return names[int(generator.choice(len(names), p=chances / chances.sum()))]


def _known(name: str, names: tuple[str, ...], what: str) -> None:
    if name not in names:
        raise ValueError(f"unknown {what} '{name}'{_nearest(name, names)}. Use one of {', '.join(names)}")


def _nearest(name: str, names: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, names, 1)
    return f" (did you mean '{near[0]}'?)" if near else ""


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    text = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        models = (Recipe, Pass, BlurStage, NoiseStage, ResizeStage, CompressStage, DamageStage, CodecChoice)
        names = tuple(sorted({name for model in models for name in model.model_fields}))
        return f"unknown key '{place}'{_nearest(str(first['loc'][-1]), names)}"
    return f"{place}: {text}" if place else text
