"""What a training run is: pydantic models that are read from and written to TOML.

Every key has a type, a range and a default; unknown keys are refused with the nearest valid name. A file may start from
a preset (``base = "paper-stage1"``) and single values can be set from the command line (``data.batch=8``). The resolved
configuration is saved with the run, so that a run can be repeated from its folder alone.

The values of the paper are those of section 4.1 and equations 4 to 6: presets ``paper-stage1`` and ``paper-stage2``.

    >>> config = load_config("tiny-test", sets=["run.steps=7", "optimizer.lr=1e-3"])
    >>> config.run.steps, config.optimizer.lr
    (7, 0.001)
    >>> load_config("tiny-test", sets=["run.step=7"])
    Traceback (most recent call last):
    ...
    apisr.core.errors.InputError: --set run.step=7: unknown key 'run.step'. Did you mean 'run.steps'?
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from apisr.core.config import Presets, nearest, read_toml, read_toml_file, validated, write_toml
from apisr.core.errors import InputError

#: The presets of ``apisr train``.
PRESETS = Presets("apisr.train")

Scalar = bool | int | float | str
Enhance = Literal["none", "paper", "reference"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, coerce_numbers_to_str=True)


class RunConfig(_Section):
    """Where and how long."""

    name: str = Field(default="run", pattern=r"^[\w.-]+$", description="name of the run's folder")
    folder: Path = Field(default=Path("runs"), description="folder that holds the runs")
    seed: int = Field(default=0, ge=0, description="every random choice follows from it")
    steps: int = Field(default=300_000, ge=1, description="optimiser steps")
    max_seconds: float = Field(default=0.0, ge=0, description="stop with a checkpoint after so long; 0: never")
    precision: Literal["fp32", "bf16", "fp16"] = Field(default="fp32", description="arithmetic of the forward pass")
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int | Literal["auto"] = Field(
        default=1, description="devices on each node (with torchrun: processes on each node)"
    )
    nodes: int = Field(default=1, ge=1, description="machines")
    strategy: Literal["auto", "ddp"] = "auto"
    threads: int = Field(default=0, ge=0, description="processor threads of each process; 0 leaves PyTorch's choice")
    compile: bool = Field(default=False, description="torch.compile the generator")
    channels_last: bool = Field(default=True, description="memory layout NHWC for convolutions")


class ModelConfig(_Section):
    """The generator and its first weights."""

    network: str = Field(
        default="grl", description="name in the registry of networks; auto: the one whose weights init_from names"
    )
    arguments: dict[str, Scalar | list[int]] = Field(default_factory=dict, description="the network's own arguments")
    scale: int = Field(default=4, ge=1, le=8)
    init_from: Path | None = Field(
        default=None, description="first weights: a run's folder, a checkpoint, a weights file, a model's name"
    )
    expand: bool = Field(
        default=False,
        description="compact: init_from has fewer layers, convolutions with a dilation above 1 begin as identities; "
        "lite: init_from is a compact network, which becomes its body, or a lite one without the deep level",
    )
    residual_path: bool = Field(
        default=False, description="compact, lite: the input goes through all layers, the smooth enlargement is exact"
    )
    cleans_colours: bool = Field(
        default=False, description="colours are cleaned along luma before the network, here and wherever it is run"
    )


class DataConfig(_Section):
    """Pictures (of `folders`, `scenes` or `shards`), their degradation, and the crops made of them."""

    folders: tuple[Path, ...] = Field(default=(), description="datasets of apisr curate, or plain folders of pictures")
    scenes: Path | None = Field(default=None, description="folder of art to compose scenes from")
    shards: Path | None = Field(default=None, description="folder of pictures that were degraded ahead (apisr shards)")
    sampling_weights: dict[str, float] = Field(
        default_factory=dict, description="how often each degradation of the shards is drawn; none: all once"
    )
    degradation: str = Field(default="paper", description="a recipe, or a mixture: bicubic:0.3, apisr:0.7")
    enhance: Enhance = Field(default="paper", description="line enhancement of the pseudo-GT")
    patch_px: int = Field(default=256, ge=16, le=4096, description="side of a high-resolution crop")
    batch: int = Field(default=32, ge=1, description="crops in each step on each device")
    crops_per_picture: int = Field(default=8, ge=1, description="crops taken from one degraded picture")
    shuffle_crops: int = Field(default=256, ge=0, description="crops that wait to be mixed; 0 keeps the order")
    flips: bool = Field(default=True, description="flips and quarter turns, each with probability 1/2")
    detail_bias: float = Field(
        default=0.0, ge=0, le=1, description="share of the crops that are the more detailed of two candidates"
    )
    flat_share: float = Field(default=0.0, ge=0, lt=1, description="share of crops that are one flat colour")
    channel_shuffle: float = Field(default=0.0, ge=0, le=1, description="share of crops with permuted channels")
    workers: int | Literal["auto"] = Field(
        default="auto", description="processes that make crops; 0: the training process; auto: by the processor's cores"
    )
    cache: Path | None = Field(default=None, description="folder that keeps pseudo-GTs; none: computed anew")
    limit: int = Field(default=0, ge=0, description="use only the first pictures; 0 uses all")
    holdout: float = Field(
        default=0.0, ge=0, le=0.5, description="share of the pictures that is kept for validation; 0: none"
    )

    @field_validator("workers")
    @classmethod
    def _not_negative(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 0:
            raise ValueError("must be 0 or more")
        return value


class FeatureTerm(_Section):
    """One branch of the perceptual loss (equations 5 and 6)."""

    network: str = Field(description="name of a feature network")
    weights: dict[str, float] = Field(description="weight of each layer")
    weight: float = Field(default=1.0, ge=0, description="weight of the branch (delta for the photo branch)")

    @field_validator("weights")
    @classmethod
    def _not_empty(cls, value: dict[str, float]) -> dict[str, float]:
        if not value:
            raise ValueError("names no layer")
        return value


class LossConfig(_Section):
    """Equation 4: ``alpha*pixel + beta*(sum of branches) + gamma*adversarial``."""

    pixel: Literal["l1", "charbonnier", "log_mse", "relative_mse"] = "l1"
    pixel_weight: float = Field(default=1.0, ge=0, description="alpha")
    ms_ssim_weight: float = Field(default=0.0, ge=0)
    ssim_weight: float = Field(default=0.0, ge=0, description="one scale: far cheaper than ms_ssim")
    ssim: Literal["mean", "log"] = Field(default="mean", description="log: mean of logarithms, as log_mse")
    frequency_weight: float = Field(default=0.0, ge=0)
    grid_weight: float = Field(default=0.0, ge=0, description="patterns with a period of two pixels")
    dots_weight: float = Field(default=0.0, ge=0, description="rasters of dots")
    chroma_weight: float = Field(default=0.0, ge=0, description="colour that codecs leave beside outlines")
    line_weight: float = Field(default=0.0, ge=0, description="depth of dark lines that the output lost")
    line_deeper: float = Field(default=0.3, ge=0, description="how much gained depth of lines counts, lost depth is 1")
    perceptual_weight: float = Field(default=0.0, ge=0, description="beta")
    perceptual: tuple[FeatureTerm, ...] = ()
    adversarial_weight: float = Field(default=0.0, ge=0, description="gamma")
    target: Literal["pseudo", "gt"] = Field(default="pseudo", description="of pixel and perceptual terms")
    precision: Literal["same", "bf16"] = Field(
        default="same", description="bf16: feature networks and discriminators only, in bfloat16"
    )


class TeacherConfig(_Section):
    """A trained network that the generator also follows (distillation): `weight` times the pixel term against it."""

    init_from: Path | None = Field(
        default=None,
        description="its weights: a run's folder, a checkpoint, a weights file or a model's name; none: no teacher",
    )
    cached: bool = Field(default=False, description="the outputs that the shards hold (apisr shards --teacher)")
    weight: float = Field(default=1.0, gt=0, description="beside loss.pixel_weight, which is for the pictures")
    flips: bool = Field(
        default=False, description="the mean of what it makes of the eight flips and turns: eight times its work"
    )
    precision: Literal["fp32", "bf16"] = Field(default="fp32", description="its arithmetic, whatever that of the run")


class DiscriminatorConfig(_Section):
    """The discriminator of stage 2."""

    network: str = Field(default="patch_multiscale", description="name in the registry of networks")
    arguments: dict[str, Scalar | list[int]] = Field(default_factory=dict)
    loss: Literal["lsgan", "vanilla"] = Field(default="lsgan", description="lsgan for patches, vanilla for U-Net")
    real: Literal["gt", "pseudo"] = Field(default="gt", description="what counts as real")
    lr: float = Field(default=1e-4, gt=0)
    init_from: Path | None = Field(default=None, description="weights file to start from")


class OptimizerConfig(_Section):
    """The optimiser of the generator (the discriminator's has its own rate, all else the same; beside Muon, Adam)."""

    kind: Literal["adam", "adamw", "muon"] = "adam"
    lr: float = Field(default=2e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = Field(default=0.0, ge=0)
    clip_norm: float = Field(default=0.0, ge=0, description="longest gradient; 0 does not clip")
    accumulate: int = Field(default=1, ge=1, description="batches in each step")


class ScheduleConfig(_Section):
    """The learning rate over the steps: a factor on both optimisers."""

    kind: Literal["step", "cosine", "constant"] = "step"
    every: int = Field(default=100_000, ge=1, description="step: the rate is multiplied after each so many steps")
    factor: float = Field(default=0.5, gt=0, le=1)
    floor: float = Field(default=0.01, ge=0, le=1, description="cosine: the last factor")
    warmup: int = Field(default=0, ge=0, description="steps of linear growth at the start")


class EmaConfig(_Section):
    """The running mean of the weights; validation and the shipped weights are it."""

    decay: float = Field(default=0.999, ge=0, lt=1, description="0 keeps the last weights")


class PairSet(_Section):
    """Two folders with pictures of the same names."""

    name: str = Field(pattern=r"^[\w.-]+$")
    low: Path
    high: Path
    limit: int = Field(default=0, ge=0, description="use only the first pictures; 0 uses all")


class ValidationConfig(_Section):
    """Fixed, full pictures."""

    every: int = Field(default=5_000, ge=1)
    pairs: tuple[PairSet, ...] = ()
    metrics: tuple[str, ...] = Field(
        default=("psnr", "ssim"), description="built-in metrics, st-lpips, or names of pyiqa"
    )
    best: str = Field(default="psnr", description="the metric that chooses the best weights")
    crop_px: int = Field(default=8, ge=0, description="rim that is not counted")
    panels: int = Field(default=4, ge=0, description="pictures shown (low, output, high)")

    @model_validator(mode="after")
    def _known_best(self) -> Self:
        if self.best not in self.metrics:
            raise ValueError(f"best = '{self.best}' is not among metrics ({', '.join(self.metrics)})")
        return self


class CheckpointConfig(_Section):
    """When the state is saved."""

    every: int = Field(default=5_000, ge=1)
    keep: int = Field(default=3, ge=1, description="how many are kept")


class LogConfig(_Section):
    """What is written while training."""

    every: int = Field(default=100, ge=1, description="steps between two records")
    tensorboard: bool = True
    wandb: bool = Field(default=False, description="also to Weights & Biases (the extra wandb)")
    wandb_project: str = "apisr"


class DivergenceGuardConfig(_Section):
    """When a run is stopped because it cannot succeed."""

    factor: float = Field(default=20.0, ge=0, description="loss over its running mean that stops a run; 0: none")
    after: int = Field(default=200, ge=1, description="steps before divergence is looked at")


class TrainConfig(_Section):
    """The whole configuration of a run."""

    description: str = Field(default="", description="what this configuration is for")
    run: RunConfig = RunConfig()
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    teacher: TeacherConfig = TeacherConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    ema: EmaConfig = EmaConfig()
    validation: ValidationConfig = ValidationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()
    divergence_guard: DivergenceGuardConfig = DivergenceGuardConfig()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.data.patch_px % self.model.scale:
            raise ValueError(
                f"data.patch_px = {self.data.patch_px} is not a multiple of model.scale = {self.model.scale}"
            )
        if self.loss.perceptual_weight > 0 and not self.loss.perceptual:
            raise ValueError("loss.perceptual_weight is set but [[loss.perceptual]] names no feature network")
        if self.model.network == "auto" and (self.model.init_from is None or self.model.arguments):
            raise ValueError("model.network = 'auto' needs model.init_from, and no model.arguments")
        if self.teacher.cached and self.teacher.init_from is not None:
            raise ValueError("teacher.cached and teacher.init_from are both set. Give one of them")
        if self.model.residual_path and self.optimizer.weight_decay > 0:
            raise ValueError("optimizer.weight_decay would move the rows of model.residual_path. Set one of them to 0")
        return self

    @property
    def run_folder(self) -> Path:
        """The folder of the run."""
        return self.run.folder / self.run.name


def load_config(source: str | Path, *, sets: Sequence[str] = ()) -> TrainConfig:
    """Read a configuration.

    Args:
        source: a TOML file, or the name of a preset.
        sets: ``KEY=VALUE``, applied after the file; values are TOML, or plain text where that is not TOML.

    Raises:
        InputError: no such file or preset, not TOML, an unknown key, or a value out of range.
    """
    values = _read(source)
    name = f"'{source}'"
    for assignment in sets:
        _assign(values, assignment)
        name = f"'{source}' with --set"
    return validated(TrainConfig, values, name=name)


def to_toml(config: TrainConfig) -> str:
    """Write a configuration as TOML that :func:`load_config` reads back to an equal one."""
    return write_toml(config.model_dump(mode="json"))


def key_names() -> list[str]:
    """Every valid dotted key, in order."""
    return list(_names(TrainConfig, ""))


def learning_rate_factor(schedule: ScheduleConfig, step: int, steps: int) -> float:
    """The factor on the learning rate at `step` (counted from 0) of `steps`.

    A pure function of the step, so that a resumed run needs no schedule state.
    """
    if step < schedule.warmup:
        return (step + 1) / (schedule.warmup + 1)
    if schedule.kind == "constant":
        return 1.0
    if schedule.kind == "step":
        return schedule.factor ** (step // schedule.every)
    progress = min(1.0, (step - schedule.warmup) / max(1, steps - schedule.warmup))
    return schedule.floor + (1 - schedule.floor) * 0.5 * (1 + math.cos(math.pi * progress))


def _read(source: str | Path) -> dict[str, object]:
    """The values of a file or preset, on top of those of its base."""
    path = Path(source)
    values = read_toml_file(path) if path.suffix == ".toml" or path.is_file() else PRESETS.load(str(source))
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise InputError(f"'{source}': base must be the name of a preset, got {base!r}.", code="bad-setting")
    merged = _read(base) if base in PRESETS.names() else PRESETS.load(base)
    _merge(merged, values)
    return merged


def _merge(into: dict[str, object], values: Mapping[str, object]) -> None:
    if "network" in values and into.get("network") != values["network"]:
        into.pop("arguments", None)  # those of another network
    for key, value in values.items():
        present = into.get(key)
        if isinstance(present, dict) and isinstance(value, dict):
            _merge(cast("dict[str, object]", present), cast("dict[str, object]", value))
        else:
            into[key] = value


def _assign(values: dict[str, object], assignment: str) -> None:
    key, separator, text = assignment.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise InputError(
            f"--set {assignment}: expected KEY=VALUE, for example --set data.batch=8.", code="bad-assignment"
        )
    _check_key(parts, assignment)
    table = values
    for position, part in enumerate(parts[:-1]):
        inner = table.setdefault(part, {})
        if not isinstance(inner, dict):
            raise InputError(
                f"--set {assignment}: '{'.'.join(parts[: position + 1])}' has no keys.", code="bad-assignment"
            )
        table = cast("dict[str, object]", inner)
    table[parts[-1]] = _parsed(text.strip())


def _parsed(text: str) -> object:
    try:
        return read_toml(f"value = {text}", name="the value")["value"]
    except InputError:
        return text


def _check_key(parts: Sequence[str], assignment: str) -> None:
    section: type[BaseModel] | None = TrainConfig
    for position, part in enumerate(parts):
        if section is None:
            return  # inside a free table: a network's arguments, a layer's weights
        if part not in section.model_fields:
            key = ".".join(parts[: position + 1])
            near = nearest(key, key_names()) or _same_last_name(part)
            hint = f" Did you mean '{near}'?" if near else f" Keys here: {', '.join(section.model_fields)}."
            raise InputError(f"--set {assignment}: unknown key '{key}'.{hint}", code="unknown-key")
        section = _section_of(section.model_fields[part].annotation)


def _same_last_name(part: str) -> str | None:
    by_name = {name.rsplit(".", 1)[-1]: name for name in key_names()}
    near = nearest(part, by_name, cutoff=0.6)
    return by_name[near] if near else None


def _section_of(annotation: object) -> type[BaseModel] | None:
    """The section behind a field: itself, or the item of a tuple of sections; none for plain values and free tables."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in cast("tuple[object, ...]", getattr(annotation, "__args__", ())):
        if isinstance(argument, type) and issubclass(argument, BaseModel):
            return argument
    return None


def _names(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        section = _section_of(field.annotation)
        if section is not None:
            yield from _names(section, f"{prefix}{name}.")
