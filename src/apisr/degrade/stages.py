"""The stages of a recipe: what each may do, how it is drawn, and how what was drawn is done.

A stage is a pydantic model (its fields are the keys of a recipe file) with two methods. ``draw`` turns its ranges into
plain numbers, names and seeds: a JSON object whose ``"stage"`` names the stage. ``run`` does to a picture what such an
object says, and draws nothing but noise, whose seed is in it. A new stage is one class here and one name in
:data:`Stage`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from apisr.degrade import codecs
from apisr.degrade.drawing import Draw, Drawn, Range, check_known, noise_generator
from apisr.degrade.ops import analog, kernels, noise, production
from apisr.degrade.ops.resize import MODES, resize
from apisr.degrade.pixels import to_bytes, to_unit
from apisr.image import ImageF32, ImageU8

KINDS = ("iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso", "sinc")
#: Kernel side from which the second cut-off range of a sinc kernel holds.
_WIDE_SINC_PX = 13

#: A picture between stages: float32 in [0, 1], or uint8 behind a codec.
StageImage = ImageU8 | ImageF32
#: A drawn stage while it is executed; read back from JSON, so that only its keys are known.
Values = dict[str, Any]


class Data(BaseModel):
    """A part of a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BaseStage(Data):
    """What all stages share.

    Attributes:
        probability: chance that the stage is applied at all.
        moves: moves in a pass of order ``shuffled-resize`` or ``first-or-last``.
        scales: only for these scales; empty for all.
    """

    probability: float = Field(1.0, ge=0, le=1)
    moves: bool = False
    scales: tuple[int, ...] = ()

    @abstractmethod
    def draw(self, draw: Draw) -> Drawn:
        """Draw what :meth:`run` will do."""

    @staticmethod
    @abstractmethod
    def run(state: StageImage, values: Values) -> StageImage:
        """Do what was drawn."""


class BlurStage(BaseStage):
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
            check_known(kind, KINDS, "kernel")
        if self.sizes[0] % 2 == 0 or self.sizes[1] % 2 == 0 or not 1 <= self.sizes[0] <= self.sizes[1]:
            raise ValueError("sizes must be two odd numbers, the smaller first")
        return self

    def draw(self, draw: Draw) -> Drawn:
        """Draw kind, side, widths, rotation and shape of the kernel."""
        kind = draw.choose(self.kinds)
        size = draw.whole((self.sizes[0] // 2, self.sizes[1] // 2)) * 2 + 1
        values: Drawn = {"stage": "blur", "kind": kind, "size": size}
        if kind == "sinc":
            return values | {"cutoff": draw.uniform(self.cutoff_ranges[0 if size < _WIDE_SINC_PX else 1])}
        sigma_x = draw.uniform(self.sigma_range)
        if kind.endswith("aniso"):
            values |= {"sigma": [sigma_x, draw.uniform(self.sigma_range)], "angle": draw.uniform(self.angle_range)}
        else:
            values |= {"sigma": [sigma_x, sigma_x]}
        if kind.startswith(("generalized", "plateau")):
            low, high = self.generalized_beta_range if kind.startswith("generalized") else self.plateau_beta_range
            below = draw.chance(0.5)
            values["beta"] = draw.uniform((low, max(low, 1.0)) if below else (min(1.0, high), high))
        return values

    @staticmethod
    def run(state: StageImage, values: Values) -> StageImage:
        """Blur."""
        return kernels.blur(to_unit(state), make_kernel(values))


class NoiseStage(BaseStage):
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

    def draw(self, draw: Draw) -> Drawn:
        """Draw kind, strength and seed."""
        gray = draw.chance(self.gray)
        if draw.chance(self.gaussian):
            values: Drawn = {"kind": "gaussian", "sigma": draw.uniform(self.sigma_range)}
        else:
            values = {"kind": "poisson", "scale": draw.uniform(self.poisson_range)}
        return {"stage": "noise", **values, "gray": gray, "seed": draw.seed()}

    @staticmethod
    def run(state: StageImage, values: Values) -> StageImage:
        """Add the noise."""
        gray, generator = values["gray"], noise_generator(values["seed"])
        if values["kind"] == "gaussian":
            return noise.gaussian_noise(to_unit(state), sigma=values["sigma"], gray=gray, generator=generator)
        return noise.poisson_noise(to_unit(state), scale=values["scale"], gray=gray, generator=generator)


class ResizeStage(BaseStage):
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
            check_known(mode, MODES, "resize mode")
        if self.to != "final" and not 0 < self.factor_range[0] <= self.factor_range[1]:
            raise ValueError("factor_range must be two numbers above 0, the smaller first")
        return self

    def draw(self, draw: Draw) -> Drawn:
        """Draw mode and size."""
        mode = draw.choose(self.modes)
        height, width = draw.low
        if self.to != "final":
            change = draw.choose(dict(zip(("down", "up", "keep"), self.weights, strict=True)))
            smallest, largest = self.factor_range
            factor = 1.0
            if change == "down":
                factor = draw.uniform((smallest, 1.0))
            elif change == "up":
                factor = draw.uniform((1.0, largest))
            base = draw.size if self.to == "current" else draw.low
            height, width = (max(1, round(side * factor)) for side in base)
        return {"stage": "resize", "height": height, "width": width, "mode": mode}

    @staticmethod
    def run(state: StageImage, values: Values) -> StageImage:
        """Resize."""
        return resize(to_unit(state), values["height"], values["width"], mode=values["mode"])


class CodecChoice(Data):
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
        grain: probability that the frames have grain of their own.
        grain_range: its standard deviation, in 8-bit levels.
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
    grain: float = Field(0.0, ge=0, le=1)
    grain_range: Range = (0.5, 5.0)
    matrix: codecs.Matrix = "bt601"

    def draw(self, codec: str, draw: Draw) -> Drawn:
        """Draw the settings of a round trip."""
        values: Drawn = {}
        ranges = {"quality": self.quality, "method": self.method, "quantizer": self.quantizer, "crf": self.crf}
        for name, limits in ranges.items():
            if limits is not None:
                values[name] = draw.whole(limits)
        if self.presets is not None:
            values["preset"] = draw.choose(self.presets)
        if self.speed is not None:
            values["preset" if codec == "av1" else "speed"] = self.speed
        if self.frames[1] > 1:
            values["frames"] = draw.whole(self.frames)
            reach = self.motion_px
            values["motion"] = [int(value) for value in draw.generator.integers(-reach, reach + 1, 2)]
        if self.grain and draw.chance(self.grain):
            values |= {"grain": draw.uniform(self.grain_range), "grain_seed": draw.seed()}
        if codec in codecs.VIDEO_CODECS and self.matrix != "bt601":
            values["matrix"] = self.matrix
        return values


class CompressStage(BaseStage):
    """Compression with one of several codecs.

    Attributes:
        codecs: the choices by codec name.
    """

    stage: Literal["compress"]
    codecs: dict[str, CodecChoice]

    @model_validator(mode="after")
    def _check(self) -> Self:
        for codec in self.codecs:
            check_known(codec, codecs.CODECS, "codec")
        return self

    def draw(self, draw: Draw) -> Drawn:
        """Draw the codec and its settings."""
        codec = draw.choose({name: choice.weight for name, choice in self.codecs.items()})
        return {"stage": "compress", "codec": codec, **self.codecs[codec].draw(codec, draw)}

    @staticmethod
    def run(state: StageImage, values: Values) -> StageImage:
        """Code and decode."""
        settings = {key: value for key, value in values.items() if key not in ("stage", "codec")}
        return codecs.round_trip(to_bytes(state), values["codec"], **settings).picture


class AnalogStage(BaseStage):
    """Artifacts of discs and analogue video, for old sources (see :mod:`apisr.degrade.ops.analog`).

    Attributes:
        kind: which artifact.
        strength_range: strength drawn, 0 to 1.
    """

    stage: Literal["analog"]
    kind: analog.Kind
    strength_range: Range = (0.2, 1.0)

    def draw(self, draw: Draw) -> Drawn:
        """Draw strength and seed."""
        strength = draw.uniform(self.strength_range)
        return {"stage": "analog", "kind": self.kind, "strength": strength, "seed": draw.seed()}

    @staticmethod
    def run(state: StageImage, values: Values) -> StageImage:
        """Apply the artifact."""
        generator = noise_generator(values["seed"])
        return analog.artifact(to_unit(state), values["kind"], strength=values["strength"], generator=generator)


class FadeLinesStage(BaseStage):
    """Thin dark structures lose contrast (:func:`production.fade_lines`).

    Attributes:
        amount_range: share of the contrast that is lost.
        radius_range: half of the greatest width that counts as a line, in present pixels.
    """

    stage: Literal["fade-lines"]
    amount_range: Range = (0.05, 0.7)
    radius_range: Range = (1.5, 5.0)

    def draw(self, draw: Draw) -> Drawn:
        """Draw amount and radius."""
        amount, radius = draw.uniform(self.amount_range), draw.uniform(self.radius_range)
        return {"stage": "fade-lines", "amount": amount, "radius": radius}

    @staticmethod
    def run(state: StageImage, values: Values) -> StageImage:
        """Fade the lines."""
        return production.fade_lines(to_unit(state), amount=values["amount"], radius_px=values["radius"])


class SoftenStage(BaseStage):
    """Blur of optics and scaling.

    Attributes:
        sigma_range: width along rows, in pixels of the final low picture.
        aspect_range: width along columns over that along rows.
    """

    stage: Literal["soften", "chroma-blur"]
    sigma_range: Range = (0.2, 1.3)
    aspect_range: Range = (1.0, 1.0)

    def draw(self, draw: Draw) -> Drawn:
        """Draw both widths, in present pixels."""
        sigma = draw.uniform(self.sigma_range) * draw.pixels_per_low_pixel
        return {"stage": self.stage, "sigma": [sigma, sigma * draw.uniform(self.aspect_range)]}

    @staticmethod
    def run(state: StageImage, values: Values) -> StageImage:
        """Blur the picture, or its colour differences only."""
        across, down = values["sigma"]
        function = production.soften if values["stage"] == "soften" else production.chroma_blur
        return function(to_unit(state), sigma_px=(across, down))


class SharpenStage(BaseStage):
    """Sharpening that leaves halos (:func:`production.sharpen`).

    Attributes:
        radius_range: width of the blur that is subtracted, in pixels of the final low picture.
        amount_range: how much is added.
        rows_only: probability that only rows are sharpened.
    """

    stage: Literal["sharpen"]
    radius_range: Range = (0.6, 2.2)
    amount_range: Range = (0.1, 1.2)
    rows_only: float = Field(0.0, ge=0, le=1)

    def draw(self, draw: Draw) -> Drawn:
        """Draw radius (in present pixels), amount and direction."""
        radius = draw.uniform(self.radius_range) * draw.pixels_per_low_pixel
        amount = draw.uniform(self.amount_range)
        return {"stage": "sharpen", "radius": radius, "amount": amount, "rows_only": draw.chance(self.rows_only)}

    @staticmethod
    def run(state: StageImage, values: Values) -> StageImage:
        """Sharpen."""
        radius, amount = values["radius"], values["amount"]
        return production.sharpen(to_unit(state), radius_px=radius, amount=amount, rows_only=values["rows_only"])


class GrainStage(BaseStage):
    """Film grain or paper (:func:`production.grain`).

    Attributes:
        sigma_range: standard deviation in 8-bit levels.
        size_range: correlation between neighbours, in pixels of the final low picture.
        colour_range: noise of the colour channels over that of luma.
        middle_range: how much weaker it is in black and white than between.
    """

    stage: Literal["grain"]
    sigma_range: Range = (0.5, 5.0)
    size_range: Range = (0.0, 1.0)
    colour_range: Range = (0.0, 0.5)
    middle_range: Range = (0.0, 0.8)

    def draw(self, draw: Draw) -> Drawn:
        """Draw strength, size (in present pixels), colour, tones and seed."""
        return {
            "stage": "grain",
            "sigma": draw.uniform(self.sigma_range),
            "size": draw.uniform(self.size_range) * draw.pixels_per_low_pixel,
            "colour": draw.uniform(self.colour_range),
            "middle": draw.uniform(self.middle_range),
            "seed": draw.seed(),
        }

    @staticmethod
    def run(state: StageImage, values: Values) -> StageImage:
        """Add the grain."""
        return production.grain(
            to_unit(state), sigma=values["sigma"], size_px=values["size"], colour=values["colour"],
            middle=values["middle"], generator=noise_generator(values["seed"]),
        )  # fmt: skip


StageClass = type[BaseStage]
AnyStage = (
    BlurStage
    | NoiseStage
    | ResizeStage
    | CompressStage
    | AnalogStage
    | FadeLinesStage
    | SoftenStage
    | SharpenStage
    | GrainStage
)
Stage = Annotated[AnyStage, Field(discriminator="stage")]
#: Name -> class.
STAGES: dict[str, StageClass] = {
    name: kind for kind in get_args(AnyStage) for name in get_args(kind.model_fields["stage"].annotation)
}


def make_kernel(values: Values) -> NDArray[np.float64]:
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
