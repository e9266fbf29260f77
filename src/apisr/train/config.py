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
    apisr.core.errors.InputError: unknown key 'run.step' in --set run.step=7. Did you mean 'run.steps'?
"""

from __future__ import annotations

import difflib
import json
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from apisr.core.errors import InputError

#: The preset files of the package, in the order of the help page.
PRESETS = (
    "paper-stage1",
    "paper-stage2",
    "lite-x2",
    "lite-x4",
    "lite-x2-vivid",
    "lite-x4-vivid",
    "grl-x4",
    "grl-x4-vivid",
    "rrdb",
    "dat",
    "tiny-test",
)

Scalar = bool | int | float | str


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, coerce_numbers_to_str=True)


class RunConfig(_Section):
    """Where and how long."""

    name: str = Field("run", pattern=r"^[\w.-]+$", description="name of the run's folder")
    folder: Path = Field(Path("runs"), description="folder that holds the runs")
    seed: int = Field(0, ge=0, description="every random choice follows from it")
    steps: int = Field(300_000, ge=1, description="optimiser steps")
    limit_s: float = Field(0.0, ge=0, description="stop with a checkpoint after so many seconds; 0 does not")
    precision: Literal["fp32", "bf16", "fp16"] = Field("fp32", description="arithmetic of the forward pass")
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int | Literal["auto"] = Field(
        1, description="devices on each node (with torchrun: processes on each node)"
    )
    nodes: int = Field(1, ge=1, description="machines")
    strategy: Literal["auto", "ddp"] = "auto"
    threads: int = Field(0, ge=0, description="processor threads of each process; 0 leaves PyTorch's choice")
    compile: bool = Field(False, description="torch.compile the generator")
    channels_last: bool = Field(True, description="memory layout NHWC for convolutions")


class ModelConfig(_Section):
    """The generator."""

    network: str = Field("grl", description="name in the registry of networks")
    arguments: dict[str, Scalar | list[int]] = Field(default_factory=dict, description="the network's own arguments")
    scale: int = Field(4, ge=1, le=8)
    start: Path | None = Field(
        None, description="weights to start from: a run's folder, a checkpoint, a weights file, a shipped model's name"
    )
    grow: bool = Field(
        False,
        description="compact: start has fewer layers, convolutions with a dilation above 1 begin as identities; "
        "lite: start is a compact network, which becomes its body, or a lite one without the deep level",
    )
    carry: bool = Field(
        False, description="compact, lite: the first features stay equal to the input, the smooth enlargement is exact"
    )


class DataConfig(_Section):
    """Pictures, their degradation and the crops made of them."""

    folders: tuple[Path, ...] = Field((), description="datasets (with manifest.parquet) or plain folders of pictures")
    scenes: Path | None = Field(
        None, description="folder of sprites, backgrounds and vector art to compose scenes from"
    )
    degradation: str = Field("paper", description="preset of the degradation")
    enhance: Literal["none", "paper", "reference"] = Field("paper", description="line enhancement of the pseudo-GT")
    patch_px: int = Field(256, ge=16, description="side of a high-resolution crop")
    batch: int = Field(32, ge=1, description="crops in each step on each device")
    crops_per_picture: int = Field(8, ge=1, description="crops taken from one degraded picture")
    shuffle_crops: int = Field(256, ge=0, description="crops that wait to be mixed; 0 keeps the order")
    flips: bool = Field(True, description="flips and quarter turns, each with probability 1/2")
    busy: float = Field(0.0, ge=0, le=1, description="share of the crops that are the busier of two candidates")
    recolor: float = Field(0.0, ge=0, le=1, description="share of the crops whose colour channels are permuted")
    shares: dict[str, float] = Field(
        default_factory=dict, description="of a pool: how often each of its degradations is drawn; none: as they come"
    )
    workers: int = Field(4, ge=0, description="processes that degrade pictures; 0 does it in the training process")
    cache: Path | None = Field(None, description="folder for pseudo-GTs, computed once; none keeps them in memory")
    limit: int = Field(0, ge=0, description="use only the first pictures; 0 uses all")


class FeatureTerm(_Section):
    """One branch of the perceptual loss (equations 5 and 6)."""

    network: str = Field(description="name of a feature network")
    weights: dict[str, float] = Field(description="weight of each layer")
    weight: float = Field(1.0, ge=0, description="weight of the branch (delta for the photo branch)")

    @field_validator("weights")
    @classmethod
    def _not_empty(cls, value: dict[str, float]) -> dict[str, float]:
        if not value:
            raise ValueError("names no layer")
        return value


class LossConfig(_Section):
    """Equation 4: ``alpha*pixel + beta*(sum of branches) + gamma*adversarial``."""

    pixel: Literal["l1", "charbonnier", "log_mse", "relative_mse"] = "l1"
    pixel_weight: float = Field(1.0, ge=0, description="alpha")
    ms_ssim_weight: float = Field(0.0, ge=0)
    ssim_weight: float = Field(0.0, ge=0, description="structural similarity at one scale: far cheaper than ms_ssim")
    ssim: Literal["mean", "log"] = Field("mean", description="log: the mean of logarithms over the crops, as log_mse")
    frequency_weight: float = Field(0.0, ge=0)
    perceptual_weight: float = Field(0.0, ge=0, description="beta")
    perceptual: tuple[FeatureTerm, ...] = ()
    adversarial_weight: float = Field(0.0, ge=0, description="gamma")
    target: Literal["pseudo", "gt"] = Field("pseudo", description="what pixel and perceptual terms compare with")
    precision: Literal["same", "bf16"] = Field(
        "same", description="bf16: feature networks and judges only, in bfloat16"
    )


class TeacherConfig(_Section):
    """A trained network that the generator also follows (distillation): `weight` times the pixel term against it."""

    start: Path | None = Field(
        None,
        description="its weights: a run's folder, a checkpoint, a weights file or a model's name; none: no teacher",
    )
    weight: float = Field(1.0, gt=0, description="beside loss.pixel_weight, which is for the pictures")
    flips: bool = Field(
        False, description="the mean of what it makes of the eight flips and turns: eight times its work"
    )
    precision: Literal["fp32", "bf16"] = Field("fp32", description="its arithmetic, whatever that of the run")


class DiscriminatorConfig(_Section):
    """The network that judges, for stage 2."""

    network: str = Field("patch_multiscale", description="name in the registry of networks")
    arguments: dict[str, Scalar | list[int]] = Field(default_factory=dict)
    loss: Literal["lsgan", "vanilla"] = Field("lsgan", description="least squares for patches, vanilla for the U-Net")
    real: Literal["gt", "pseudo"] = Field("gt", description="what counts as real")
    lr: float = Field(1e-4, gt=0)
    start: Path | None = None


class OptimizerConfig(_Section):
    """The optimiser of the generator (the discriminator's has its own rate, all else the same)."""

    kind: Literal["adam", "adamw"] = "adam"
    lr: float = Field(2e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = Field(0.0, ge=0)
    clip_norm: float = Field(0.0, ge=0, description="longest gradient; 0 does not clip")
    accumulate: int = Field(1, ge=1, description="batches in each step")


class ScheduleConfig(_Section):
    """The learning rate over the steps: a factor on both optimisers."""

    kind: Literal["step", "cosine", "constant"] = "step"
    every: int = Field(100_000, ge=1, description="step: the rate is multiplied after each so many steps")
    factor: float = Field(0.5, gt=0, le=1)
    floor: float = Field(0.01, ge=0, le=1, description="cosine: the last factor")
    warmup: int = Field(0, ge=0, description="steps of linear growth at the start")


class EmaConfig(_Section):
    """The running mean of the weights; validation and the shipped weights are it."""

    decay: float = Field(0.999, ge=0, lt=1, description="0 keeps the last weights")


class PairSet(_Section):
    """Two folders with pictures of the same names."""

    name: str = Field(pattern=r"^[\w.-]+$")
    low: Path
    high: Path
    limit: int = Field(0, ge=0, description="use only the first pictures; 0 uses all")


class ValidationConfig(_Section):
    """Fixed, full pictures."""

    every: int = Field(5_000, ge=1)
    pairs: tuple[PairSet, ...] = ()
    metrics: tuple[str, ...] = Field(
        ("psnr", "ssim"), description="names as of apisr evaluate: psnr, ssim, niqe, st-lpips, lpips, ..."
    )
    best: str = Field("psnr", description="the metric that chooses the best weights")
    crop_px: int = Field(8, ge=0, description="rim that is not counted")
    panels: int = Field(4, ge=0, description="pictures shown (low, output, high)")

    @model_validator(mode="after")
    def _known_best(self) -> Self:
        if self.best not in self.metrics:
            raise ValueError(f"best = '{self.best}' is not among metrics ({', '.join(self.metrics)})")
        return self


class CheckpointConfig(_Section):
    """When the state is saved."""

    every: int = Field(5_000, ge=1)
    keep: int = Field(3, ge=1, description="how many are kept")


class LogConfig(_Section):
    """What is written while training."""

    every: int = Field(100, ge=1, description="steps between two records")
    tensorboard: bool = True
    wandb: bool = Field(False, description="also to Weights & Biases (the extra wandb)")
    wandb_project: str = "apisr"


class GuardConfig(_Section):
    """When a run is stopped because it cannot succeed."""

    divergence: float = Field(20.0, ge=0, description="generator loss over its running mean that stops; 0 never does")
    after: int = Field(200, ge=1, description="steps before divergence is looked at")


class TrainConfig(_Section):
    """The whole configuration of a run."""

    about: str = Field("", description="what this configuration is for")
    run: RunConfig = RunConfig()  # pyright: ignore[reportCallIssue]
    model: ModelConfig = ModelConfig()  # pyright: ignore[reportCallIssue]
    data: DataConfig = DataConfig()  # pyright: ignore[reportCallIssue]
    loss: LossConfig = LossConfig()  # pyright: ignore[reportCallIssue]
    teacher: TeacherConfig = TeacherConfig()  # pyright: ignore[reportCallIssue]
    discriminator: DiscriminatorConfig = DiscriminatorConfig()  # pyright: ignore[reportCallIssue]
    optimizer: OptimizerConfig = OptimizerConfig()  # pyright: ignore[reportCallIssue]
    schedule: ScheduleConfig = ScheduleConfig()  # pyright: ignore[reportCallIssue]
    ema: EmaConfig = EmaConfig()  # pyright: ignore[reportCallIssue]
    validation: ValidationConfig = ValidationConfig()  # pyright: ignore[reportCallIssue]
    checkpoint: CheckpointConfig = CheckpointConfig()  # pyright: ignore[reportCallIssue]
    log: LogConfig = LogConfig()  # pyright: ignore[reportCallIssue]
    guard: GuardConfig = GuardConfig()  # pyright: ignore[reportCallIssue]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.data.patch_px % self.model.scale:
            raise ValueError(
                f"data.patch_px = {self.data.patch_px} is not a multiple of model.scale = {self.model.scale}"
            )
        if self.loss.perceptual_weight > 0 and not self.loss.perceptual:
            raise ValueError("loss.perceptual_weight is set but [[loss.perceptual]] names no feature network")
        if self.model.carry and self.optimizer.weight_decay > 0:
            raise ValueError("optimizer.weight_decay would move the carried rows of model.carry. Set one of them to 0")
        return self

    @property
    def run_folder(self) -> Path:
        """The folder of the run."""
        return self.run.folder / self.run.name


def load_config(source: str | Path, *, sets: Sequence[str] = ()) -> TrainConfig:
    """Read a configuration.

    Args:
        source: a TOML file or the name of a preset.
        sets: values that replace those of the file: ``"data.batch=8"``. The value is TOML; what is not is text.

    Raises:
        InputError: no such file or preset, not TOML, an unknown key (with the nearest valid one), a value out of range.
    """
    values = _read(source)
    origin = f"'{source}'"
    _refuse_unknown(values, where=origin)
    for assignment in sets:
        _assign(values, assignment)
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        got = "" if first["type"] in ("value_error", "missing") else f", got {first['input']!r}"
        raise InputError(
            f"{origin}: {f'{key}: ' if key else ''}{message}{got}. See docs/training.md for the keys."
        ) from error


def preset_text(name: str) -> str:
    """Return the text of a preset file.

    Raises:
        InputError: no such preset.
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1, cutoff=0.3)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise InputError(f"no file and no preset is called '{name}'.{hint} Presets: {', '.join(PRESETS)}.")
    return (resources.files("apisr.train") / "presets" / f"{name}.toml").read_text(encoding="utf-8")


def to_toml(config: TrainConfig) -> str:
    """Write a configuration as TOML that :func:`load_config` reads back to an equal one."""
    lines: list[str] = []
    _write_table(config.model_dump(mode="json", exclude_none=True), (), lines)
    return "\n".join(lines).strip() + "\n"


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


def _read(source: str | Path) -> dict[str, Any]:
    path = Path(source)
    if path.suffix == ".toml" or path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise InputError(
                f"cannot read '{path}': {reason}. Give a TOML file or a preset: {', '.join(PRESETS)}."
            ) from error
    else:
        text = preset_text(str(source))
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"cannot read '{source}': not TOML ({error}).") from error
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise InputError(f"cannot read '{source}': base must be the name of a preset, got {base!r}.")
    merged = _read_base(base)
    _merge(merged, values)
    return merged


def _read_base(name: str) -> dict[str, Any]:
    values = tomllib.loads(preset_text(name))
    inner = values.pop("base", None)
    if inner is None:
        return values
    merged = _read_base(cast("str", inner))
    _merge(merged, values)
    return merged


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    if "network" in values and into.get("network") != values["network"]:
        into.pop("arguments", None)  # those of another network
    for key, value in values.items():
        present = into.get(key)
        if isinstance(present, dict) and isinstance(value, dict):
            _merge(cast("dict[str, Any]", present), cast("dict[str, Any]", value))
        else:
            into[key] = value


def _assign(values: dict[str, Any], assignment: str) -> None:
    key, separator, text = assignment.partition("=")
    key = key.strip()
    if not separator or not key:
        raise InputError(f"--set {assignment}: expected KEY=VALUE, for example --set data.batch=8.")
    try:
        value = tomllib.loads(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    _check_key(key.split("."), where=f"--set {assignment}")
    table = values
    parts = key.split(".")
    for position, part in enumerate(parts[:-1]):
        inner = table.setdefault(part, {})
        if not isinstance(inner, dict):
            raise InputError(f"--set {assignment}: '{'.'.join(parts[: position + 1])}' has no keys.")
        table = cast("dict[str, Any]", inner)
    table[parts[-1]] = value


def _refuse_unknown(values: Mapping[str, Any], *, where: str) -> None:
    for parts in _leaves(values, ()):
        _check_key(parts, where=where)


def _leaves(values: Mapping[str, Any], prefix: tuple[str, ...]) -> Iterator[list[str]]:
    for key, value in values.items():
        here = (*prefix, key)
        yield list(here)
        if isinstance(value, dict):
            yield from _leaves(cast("dict[str, Any]", value), here)
        elif isinstance(value, list):
            for item in cast("list[Any]", value):
                if isinstance(item, dict):
                    yield from _leaves(cast("dict[str, Any]", item), here)


def _check_key(parts: Sequence[str], *, where: str) -> None:
    model: type[BaseModel] | None = TrainConfig
    for position, part in enumerate(parts):
        if model is None:
            return  # inside a free table: a network's arguments, a layer's weights
        if part not in model.model_fields:
            key = ".".join(parts[: position + 1])
            near = difflib.get_close_matches(key, key_names(), n=1, cutoff=0.5)
            near = near or difflib.get_close_matches(part, [name.rsplit(".", 1)[-1] for name in key_names()], n=1)
            hint = f" Did you mean '{near[0]}'?" if near else f" Keys here: {', '.join(model.model_fields)}."
            raise InputError(f"unknown key '{key}' in {where}.{hint}")
        model = _section_of(model.model_fields[part].annotation)


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """The section behind a field: itself, or the item of a tuple of sections; none for plain values and free tables."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if isinstance(argument, type) and issubclass(argument, BaseModel):
            return argument
    return None


def _names(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        section = _section_of(field.annotation)
        if section is not None:
            yield from _names(section, f"{prefix}{name}.")


def _write_table(values: Mapping[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    tables: list[tuple[str, Any]] = []
    for key, value in values.items():
        is_tables = (
            isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in cast("list[Any]", value))
        )
        if isinstance(value, dict) or is_tables:
            tables.append((key, value))
        else:
            lines.append(f"{_key(key)} = {_value(value)}")
    for key, value in tables:
        here = (*path, _key(key))
        if isinstance(value, dict):
            lines.append(f"\n[{'.'.join(here)}]")
            _write_table(cast("dict[str, Any]", value), here, lines)
        else:
            for item in value:
                lines.append(f"\n[[{'.'.join(here)}]]")
                _write_table(item, here, lines)


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in cast("list[Any]", value)) + "]"
    return repr(value)
