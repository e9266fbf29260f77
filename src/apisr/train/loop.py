"""The training loop: one step, repeated, with everything that a long run needs around it.

A step takes ``optimizer.accumulate`` batches. For each, the generator's loss of equation 4 is propagated while the
discriminator is frozen, then the discriminator's while the output is; then both optimisers move. Devices, processes and
the reduction of gradients are Lightning Fabric's; precision is :mod:`apisr.train.precision`.

Everything random in step `n` follows from ``(seed, rank, n)``: the batches (:mod:`apisr.train.feed`) and the generator
of PyTorch, which is seeded anew before each step. The learning rate is a function of `n`. A run that is stopped and
resumed therefore computes the same numbers, bit for bit, as one that is not (on a processor; GPUs add the order of
their atomic additions).

    >>> from apisr.train.config import load_config
    >>> config = load_config("lite-x2", sets=["data.scenes=art", "run.steps=20000"])
    >>> result = train(config)                                                       # doctest: +SKIP
    >>> result.weights                                                               # doctest: +SKIP
    PosixPath('runs/lite-x2/ema.safetensors')
"""

from __future__ import annotations

import contextlib
import copy
import importlib.metadata
import json
import math
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from apisr import __version__
from apisr.core.errors import InputError, MissingExtra, ModelError, RunError
from apisr.core.files import atomic_path
from apisr.image import write_picture
from apisr.networks import architecture
from apisr.networks.compact import Compact
from apisr.networks.lite import Lite
from apisr.train import carry, losses
from apisr.train.checkpoint import list_checkpoints, load_checkpoint, remove_partial, save_checkpoint
from apisr.train.config import TrainConfig, learning_rate_factor, load_config, to_toml
from apisr.train.ema import Ema
from apisr.train.feed import Batch, Feed, Source, on_device
from apisr.train.grow import grow
from apisr.train.records import Progress, Records
from apisr.train.teacher import Teacher, open_teacher
from apisr.train.validate import Pair, better, find_pairs, validate
from apisr.weights import list_models, resolve_model
from apisr.weights.checkpoint import load_state, save_network

try:
    from lightning.fabric import Fabric
    from lightning.fabric.strategies.ddp import DDPStrategy

    from apisr.train.precision import ScaledPrecision
except ImportError as _error:
    raise MissingExtra("train", "to train") from _error

#: Keys that may differ between a run and its continuation: they change what is watched and how fast, not the numbers.
FREE_ON_RESUME = (
    "about",
    "run.name",
    "run.folder",
    "run.steps",
    "run.limit_s",
    "run.threads",
    "run.accelerator",
    "run.devices",
    "run.nodes",
    "run.strategy",
    "run.compile",
    "model.start",
    "data.workers",
    "data.cache",
    "validation",
    "checkpoint",
    "log",
    "guard",
)
_LOSS_MEMORY = 0.99


@dataclass(frozen=True)
class TrainResult:
    """What a run left.

    Attributes:
        folder: the run's folder.
        step: last step that was done.
        complete: whether that is the last step of the configuration.
        weights: the running mean of the weights, ``.safetensors``.
        best: the best weights by validation, if there was one.
        scores: the last validation.
        losses: the last record of the losses.
        first: whether this is the first (or only) process, the one that tells people.
    """

    folder: Path
    step: int
    complete: bool
    weights: Path
    best: Path | None = None
    scores: dict[str, float] = field(default_factory=dict[str, float])
    losses: dict[str, float] = field(default_factory=dict[str, float])
    first: bool = True


def train(config: TrainConfig, *, source: Source | None = None, resume: bool = False) -> TrainResult:
    """Train as `config` says.

    Args:
        config: the run.
        source: where crops come from; None opens what ``[data]`` names.
        resume: go on from the last checkpoint of the run's folder (from the start if there is none).

    Raises:
        InputError: data, weights or folders do not fit; a run exists and `resume` is false.
        RunError: the loss is not finite or diverges (step and batch are saved), a picture failed, the disk is full.
        MissingExtra: a package is not installed.
    """
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    folder = config.run_folder
    checkpoints = list_checkpoints(folder)
    if checkpoints and not resume:
        raise InputError(
            f"'{folder}' holds a run at step {checkpoints[-1][0]}. Add --resume to go on, or --set run.name=OTHER."
        )
    if checkpoints:
        _check_same(folder, config)
    pairs = find_pairs(config.validation.pairs)
    fabric = fabric_of(config)
    fabric.launch()
    if source is None:
        from apisr.train.data import open_source

        source = open_source(config.data, scale=config.model.scale, seed=config.run.seed)
    trainer = Trainer(config, fabric)
    if checkpoints:
        remove_partial(folder)
        trainer.load(load_checkpoint(checkpoints[-1][1]))
    return _run(trainer, source, pairs)


class Trainer:
    """The networks, optimisers and counters of a run, and one step of it.

    Args:
        config: the run.
        fabric: launched.
    """

    def __init__(self, config: TrainConfig, fabric: Fabric) -> None:
        self.config = config
        self.fabric = fabric
        self.step = 0
        self.best: float | None = None
        self.loss_mean: float | None = None
        self.grad_norm = 0.0
        torch.manual_seed(config.run.seed)
        generator, carried = _started_generator(config)
        if config.run.channels_last:
            generator = generator.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.generator = generator
        #: Makes the carried part of the output while training (``model.carry``).
        self.carried_path = carry.CarriedPath(cast("carry.Carrier", generator)).to(fabric.device) if carried else None
        self.precision = fabric.strategy.precision
        runs: Any = torch.compile(generator) if config.run.compile else generator
        self._generator, self._optimizer = fabric.setup(runs, _optimizer(config, generator, config.optimizer.lr))
        self.ema = Ema(generator, decay=config.ema.decay)
        self.discriminator: nn.Module | None = None
        self._discriminator: Any = None
        self._judge_optimizer: Any = None
        if config.loss.adversarial_weight > 0:
            judge = _build_discriminator(config)
            self.discriminator = judge
            self._discriminator, self._judge_optimizer = fabric.setup(
                judge, _optimizer(config, judge, config.discriminator.lr)
            )
        self.perceptual = _build_perceptual(config, fabric.device)
        self.teacher = _build_teacher(config, fabric.device)

    @property
    def samples_each(self) -> int:
        """Crops that this process uses in one step."""
        return self.config.data.batch * self.config.optimizer.accumulate

    def train_step(self, feed: Iterator[Batch]) -> dict[str, float]:
        """Do one step; returns its losses (already checked to be finite).

        Raises:
            RunError: a loss or gradient is not finite, or the loss diverges; the batch is saved.
        """
        config = self.config
        torch.manual_seed(_mixed_seed(config.run.seed, self.fabric.global_rank, self.step))
        factor = learning_rate_factor(config.schedule, self.step, config.run.steps)
        _set_rate(self._optimizer, config.optimizer.lr * factor)
        if self._judge_optimizer is not None:
            _set_rate(self._judge_optimizer, config.discriminator.lr * factor)
        self.generator.train()
        count = config.optimizer.accumulate
        sums: dict[str, Tensor] = {}
        batch: Batch = {}
        for number in range(count):
            batch = next(feed)
            there = on_device(batch, self.fabric.device, channels_last=config.run.channels_last)
            for key, value in self._backward(there, last=number == count - 1, count=count).items():
                sums[key] = sums.get(key, torch.zeros((), device=value.device)) + value.detach().float() / count
        values = dict(zip(sums, torch.stack(list(sums.values())).tolist(), strict=True))
        self._check(values, batch)
        if self.carried_path is not None:
            carry.keep_carried(cast("carry.Carrier", self.generator))
        self._use("generator")
        self.grad_norm = self._clipped_norm(self._generator, self._optimizer)
        if not math.isfinite(self.grad_norm) and config.run.precision != "fp16":
            self._stop("the gradient is not finite", values, batch)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self._judge_optimizer is not None:
            self._use("discriminator")
            self._clipped_norm(self._discriminator, self._judge_optimizer)
            self._judge_optimizer.step()
            self._judge_optimizer.zero_grad(set_to_none=True)
        self.ema.update(self.generator)
        self.step += 1
        return values

    def generator_loss(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Equation 4: every term unweighted, and ``total``, their weighted sum.

        Args:
            output: the generator's, (N, 3, H, W).
            batch: ``gt`` and ``pseudo`` of the same shape; for ``relative_mse`` ``blurred``, one number a crop; where
                there is a teacher ``lr``, (N, 3, H/s, W/s).
        """
        config = self.config.loss
        target = batch[config.target]
        terms = {config.pixel: self._pixel_term(output, target, batch)}
        total = config.pixel_weight * terms[config.pixel]
        if self.teacher is not None:
            terms["teacher"] = self._pixel_term(output, self.teacher(batch["lr"]), batch)
            total = total + self.config.teacher.weight * terms["teacher"]
        if config.ms_ssim_weight:
            terms["ms_ssim"] = losses.ms_ssim_loss(output, target)
            total = total + config.ms_ssim_weight * terms["ms_ssim"]
        if config.ssim_weight:
            terms["ssim"] = losses.ssim_loss(output, target, kind=config.ssim)
            total = total + config.ssim_weight * terms["ssim"]
        if config.frequency_weight:
            terms["frequency"] = losses.frequency(output, target)
            total = total + config.frequency_weight * terms["frequency"]
        if self.perceptual is not None:
            with self._loss_precision():
                branches = self.perceptual(output, target)
            terms |= branches
            total = total + config.perceptual_weight * torch.stack(list(branches.values())).sum()
        if self.discriminator is not None:
            with self._loss_precision():
                verdicts = _verdicts(self.discriminator(output))
            terms["adversarial"] = losses.adversarial_loss(verdicts, real=True, kind=self.config.discriminator.loss)
            total = total + config.adversarial_weight * terms["adversarial"]
        return {"total": total, **terms}

    def _pixel_term(self, output: Tensor, target: Tensor, batch: Batch) -> Tensor:
        kind = self.config.loss.pixel
        if kind != "relative_mse":
            return losses.PIXEL[kind](output, target)
        if "blurred" not in batch:
            raise InputError("loss.pixel = 'relative_mse' needs crops that know their picture's error ('blurred').")
        return losses.relative_mse(output, target, batch["blurred"])

    def shipped(self) -> nn.Module:
        """The running mean of the weights as a network that stands alone: what is validated, saved and exported."""
        if self.carried_path is None:
            return self.ema.module
        module = copy.deepcopy(cast("carry.Carrier", self.ema.module))
        carry.fold(module)
        return module

    def state(self) -> dict[str, Any]:
        """Everything that a continuation needs."""
        state: dict[str, Any] = {
            "ema": self.shipped().state_dict(),  # what every reader of weights takes
            "ema_updates": self.ema.updates,
            "generator": self.generator.state_dict(),
            "optimizer": self._optimizer.optimizer.state_dict(),
            "scalers": self.precision.state_dict(),
            "best": self.best,
            "loss_mean": self.loss_mean,
            "network": self.config.model.network,
        }
        if self.carried_path is not None:
            state["ema_apart"] = self.ema.module.state_dict()  # folding and unfolding would round
        if self.discriminator is not None:
            state["discriminator"] = self.discriminator.state_dict()
            state["discriminator_optimizer"] = self._judge_optimizer.optimizer.state_dict()
        return state

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state`.

        Raises:
            ModelError: it belongs to another network.
        """
        apart = "ema_apart" in state
        try:
            self.generator.load_state_dict(state["generator"])
            self.ema.module.load_state_dict(state["ema_apart" if apart else "ema"])
            self._optimizer.optimizer.load_state_dict(state["optimizer"])
            if self.discriminator is not None:
                self.discriminator.load_state_dict(state["discriminator"])
                self._judge_optimizer.optimizer.load_state_dict(state["discriminator_optimizer"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise ModelError(
                f"the checkpoint does not fit this configuration ({str(error).splitlines()[0]})."
            ) from error
        self.carried_path = self._path_like(apart)
        self.precision.load_state_dict(state["scalers"])
        self.ema.updates = state["ema_updates"]
        self.step, self.best, self.loss_mean = state["step"], state["best"], state["loss_mean"]

    def _path_like(self, carried: bool) -> carry.CarriedPath | None:
        """The carried path of a run that is continued: it has one if it was saved with one."""
        if not carried:
            return None
        return self.carried_path or carry.CarriedPath(carry.check_can_carry(self.generator)).to(self.fabric.device)

    def _backward(self, batch: Batch, *, last: bool, count: int) -> dict[str, Tensor]:
        fabric = self.fabric
        if self.discriminator is not None:
            self.discriminator.requires_grad_(False)
        with fabric.no_backward_sync(self._generator, enabled=not last):
            output: Tensor = self._generator(batch["lr"])
            if self.carried_path is not None:  # outside autocast: in float32 always
                output = output.float() + self.carried_path(batch["lr"])
            with fabric.autocast():
                terms = self.generator_loss(output, batch)
            self._use("generator")
            fabric.backward(terms["total"] / count)
        if self.discriminator is None:
            return terms
        self.discriminator.requires_grad_(True)
        real = batch[self.config.discriminator.real]
        with fabric.no_backward_sync(self._discriminator, enabled=not last):
            # One pass over real and false together: none of the discriminators mixes the samples of a batch.
            with self._loss_precision():
                both = _verdicts(self._discriminator(torch.cat([real, output.detach().to(real.dtype)])))
            kind = self.config.discriminator.loss
            half = real.shape[0]
            judged_real = losses.adversarial_loss([verdict[:half] for verdict in both], real=True, kind=kind)
            judged_false = losses.adversarial_loss([verdict[half:] for verdict in both], real=False, kind=kind)
            self._use("discriminator")
            fabric.backward((judged_real + judged_false) / 2 / count)
        return {**terms, "d_real": judged_real, "d_fake": judged_false}

    def _loss_precision(self) -> AbstractContextManager[Any]:
        if self.config.loss.precision == "same":
            return contextlib.nullcontext()
        return torch.autocast(self.fabric.device.type, dtype=torch.bfloat16)

    def _use(self, name: str) -> None:
        if isinstance(self.precision, ScaledPrecision):
            self.precision.use(name)

    def _clipped_norm(self, module: Any, optimizer: Any) -> float:
        limit = self.config.optimizer.clip_norm or math.inf
        norm = self.fabric.clip_gradients(module, optimizer, max_norm=limit, error_if_nonfinite=False)
        return float(norm) if norm is not None else 0.0

    def _check(self, values: Mapping[str, float], batch: Batch) -> None:
        guard = self.config.guard
        total = values["total"]
        finite = all(math.isfinite(value) for value in values.values())
        mean = self.loss_mean
        diverges = (
            finite
            and mean is not None
            and guard.divergence > 0
            and self.step >= guard.after
            and total > guard.divergence * max(mean, 1e-8)
        )
        bad = not finite or diverges
        if self.fabric.world_size > 1:
            flag: Any = self.fabric.all_reduce(torch.tensor(float(bad)), reduce_op="sum")
            if float(flag) > 0 and not bad:
                raise RunError(f"another process stopped at step {self.step}.")
        if not finite:
            self._stop("the loss is not finite", values, batch)
        if diverges:
            self._stop(f"the loss diverges ({total:.4g}, its running mean is {mean:.4g})", values, batch)
        self.loss_mean = total if mean is None else _LOSS_MEMORY * mean + (1 - _LOSS_MEMORY) * total

    def _stop(self, reason: str, values: Mapping[str, float], batch: Batch) -> None:
        rank = f"-rank{self.fabric.global_rank}" if self.fabric.world_size > 1 else ""
        target = self.config.run_folder / f"bad-step-{self.step:08d}{rank}.pt"
        with atomic_path(target, overwrite=True) as partial:
            torch.save({"step": self.step, "losses": dict(values), "batch": batch}, partial)
        shown = ", ".join(f"{key} {value:.4g}" for key, value in values.items())
        raise RunError(
            f"stopped at step {self.step}: {reason} ({shown}). The batch is saved in '{target}'. "
            "Lower optimizer.lr, set optimizer.clip_norm, or use another precision; --resume goes on from the last one."
        )


def _started_generator(config: TrainConfig) -> tuple[nn.Module, bool]:
    """The generator as training begins, and whether its input is carried.

    With ``model.carry`` new weights begin carried; weights that are loaded must be (they then come folded), else they
    are trained as any others.
    """
    module = build_generator(config)
    if not config.model.carry:
        return module, False
    network = carry.check_can_carry(module)
    if config.model.start is None:
        carry.start_carried(network)
    elif carry.is_carried(network):
        carry.unfold(network)
    else:
        return module, False
    return module, True


def build_generator(config: TrainConfig) -> nn.Module:
    """Build the generator, with the weights of ``model.start`` where it is given.

    Raises:
        InputError: no such weights, or the network cannot do this scale.
        ModelError: the weights are of another network.
    """
    chosen = architecture(config.model.network)
    if chosen.kind != "upscaler":
        raise InputError(f"model.network = '{chosen.name}' is not a network that enlarges pictures.")
    module = chosen.build(hyper_of(config))
    if config.model.start is None:
        return module
    path = find_weights(config.model.start)
    if not config.model.grow:
        _load_into(module, path, chosen.derived)
    elif isinstance(module, Compact | Lite):
        state, metadata = load_state(path)
        if isinstance(module, Lite) and max(json.loads(metadata.get("apisr.hyper", "{}")).get("dilations") or [1]) > 1:
            raise InputError(f"'{path}' is dilated, which a Lite network is not. Give model.start without dilations.")
        grow(module, state)
    else:
        raise InputError("model.grow is for the networks 'compact' and 'lite'. Set model.grow=false.")
    return module


def hyper_of(config: TrainConfig) -> dict[str, Any]:
    """The hyper-parameters of the generator."""
    return {**config.model.arguments, "scale": config.model.scale}


def find_weights(start: Path, *, key: str = "model.start") -> Path:
    """The weights file behind a run's folder (its best, mean or last checkpoint), a file, or a model's name.

    Args:
        start: what the configuration says.
        key: where it says so, for the message.

    Raises:
        InputError: there is none.
    """
    if start.is_file():
        return start
    for name in ("best.safetensors", "ema.safetensors"):
        if (start / name).is_file():
            return start / name
    checkpoints = list_checkpoints(start) if start.is_dir() else []
    if checkpoints:
        return checkpoints[-1][1]
    if str(start) in {model.name for model in list_models()}:
        return resolve_model(str(start)).path
    raise InputError(
        f"no weights at '{start}'. Give {key}: a run's folder, a checkpoint, a weights file or a model's name."
    )


def _load_into(module: nn.Module, path: Path, derived: tuple[str, ...] = ()) -> None:
    state, _ = load_state(path)
    try:
        result = module.load_state_dict(state, strict=False)
    except RuntimeError as error:
        wrong = str(error).splitlines()[-1].strip().rstrip(".")
        raise ModelError(f"'{path}' does not fit the network of this configuration ({wrong}).") from error
    missing = [name for name in result.missing_keys if not (derived and name.rsplit(".", 1)[-1].startswith(derived))]
    if missing or result.unexpected_keys:
        wrong = f"{'missing' if missing else 'unknown'} '{(missing or result.unexpected_keys)[0]}'"
        raise ModelError(f"'{path}' does not fit the network of this configuration ({wrong}).")


def _build_discriminator(config: TrainConfig) -> nn.Module:
    chosen = architecture(config.discriminator.network)
    if chosen.kind != "discriminator":
        raise InputError(f"discriminator.network = '{chosen.name}' is not a discriminator.")
    module = chosen.build(config.discriminator.arguments)
    if config.discriminator.start is not None:
        _load_into(module, config.discriminator.start)
    side = config.data.patch_px
    try:
        with torch.no_grad():
            module.eval()(torch.zeros(1, 3, side, side))
    except RuntimeError as error:
        raise InputError(
            f"crops of {side} pixels are too small for the discriminator '{chosen.name}'. Set data.patch_px higher."
        ) from error
    return module.train()


def _build_perceptual(config: TrainConfig, device: torch.device) -> losses.TwinPerceptual | None:
    if config.loss.perceptual_weight <= 0:
        return None
    from apisr.train.features import in_bfloat16, open_features

    light = config.loss.precision == "bf16"
    terms = [
        losses.PerceptualTerm(
            (in_bfloat16 if light else nn.Module.eval)(
                open_features(term.network, layers=tuple(term.weights)).to(device)
            ),
            weights=term.weights,
            weight=term.weight,
            name=term.network.partition(":")[0],
        )
        for term in config.loss.perceptual
    ]
    return losses.TwinPerceptual(terms).to(device)


def _build_teacher(config: TrainConfig, device: torch.device) -> Teacher | None:
    chosen = config.teacher
    if chosen.start is None:
        return None
    path = find_weights(chosen.start, key="teacher.start")
    teacher = open_teacher(path, scale=config.model.scale, flips=chosen.flips, bf16=chosen.precision == "bf16").to(
        device
    )
    if config.run.channels_last:
        teacher = teacher.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return teacher


def _verdicts(given: Any) -> list[Tensor]:
    return [given] if isinstance(given, Tensor) else list(cast("list[Tensor]", given))


def _optimizer(config: TrainConfig, module: nn.Module, rate: float) -> torch.optim.Optimizer:
    kind = torch.optim.Adam if config.optimizer.kind == "adam" else torch.optim.AdamW
    return kind(
        module.parameters(),
        lr=rate,
        betas=config.optimizer.betas,
        weight_decay=config.optimizer.weight_decay,
        # One pass over the weights instead of ten. (With gradients in fp16 the scaler of Fabric looks at them itself.)
        fused=config.run.precision != "fp16" and all(p.device.type in ("cpu", "cuda") for p in module.parameters()),
    )


def _set_rate(optimizer: Any, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _mixed_seed(seed: int, rank: int, step: int) -> int:
    return (seed * 1_000_003 + rank * 7_919 + step * 104_729) % (2**63)


def fabric_of(config: TrainConfig) -> Fabric:
    """The devices, processes and precision that a configuration asks for (under torchrun: those that it started)."""
    run = config.run
    accelerator = run.accelerator
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    devices, nodes = run.devices, run.nodes
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun decides how many processes there are
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    if devices == "auto":
        devices = torch.cuda.device_count() if accelerator == "cuda" else 1
    many = devices * nodes > 1
    strategy: Any = DDPStrategy() if run.strategy == "ddp" or many else "auto"
    plugins: Any = (
        [ScaledPrecision(run.precision, device=accelerator, names=("generator", "discriminator"))]
        if run.precision != "fp32"
        else []
    )
    return Fabric(accelerator=accelerator, devices=devices, num_nodes=nodes, strategy=strategy, plugins=plugins)


def _check_same(folder: Path, config: TrainConfig) -> None:
    """Refuse to continue a run with a configuration that would change its numbers."""
    saved = folder / "config.toml"
    if not saved.is_file():
        return
    before = _flat(load_config(saved).model_dump(mode="json"))
    now = _flat(config.model_dump(mode="json"))
    differing = [
        key
        for key in before | now
        if before.get(key) != now.get(key)
        and not any(key == free or key.startswith(f"{free}.") for free in FREE_ON_RESUME)
    ]
    if differing:
        key = differing[0]
        raise InputError(
            f"cannot resume '{folder}': {key} was {before.get(key)!r} and is {now.get(key)!r}. "
            "Use the run's own config.toml, or start another run with model.start."
        )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(cast("dict[str, Any]", value), f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _run(trainer: Trainer, source: Source, pairs: list[Pair]) -> TrainResult:
    config, fabric = trainer.config, trainer.fabric
    folder = config.run_folder
    first = fabric.is_global_zero
    if first:
        _describe(folder, config)
    records = (
        Records(
            folder,
            step=trainer.step,
            tensorboard=config.log.tensorboard,
            wandb_project=config.log.wandb_project if config.log.wandb else None,
            name=config.run.name,
            config=config.model_dump(mode="json"),
        )
        if first
        else None
    )
    progress = Progress(steps=config.run.steps, start=trainer.step)
    if first and config.model.carry and trainer.carried_path is None:
        progress.say(f"model.carry has no effect: the weights of '{config.model.start}' do not carry their input")
    feed = Feed(
        source,
        batch=config.data.batch,
        seed=config.run.seed,
        shuffle_crops=config.data.shuffle_crops,
        workers=config.data.workers,
        rank=fabric.global_rank,
        world=fabric.world_size,
        start=trainer.step * trainer.samples_each,
    )
    scores: dict[str, float] = {}
    last: dict[str, float] = {}
    began, window_began, window_step, window_wait_s = time.monotonic(), time.monotonic(), trainer.step, 0.0
    saved_at = trainer.step
    try:
        with feed, _stop_signals() as stopped:
            while trainer.step < config.run.steps:
                values = trainer.train_step(feed)
                step = trainer.step
                done = step == config.run.steps
                limit = config.run.limit_s and time.monotonic() - began > config.run.limit_s
                ends = _any_process(fabric, bool(stopped or limit))
                if step % config.log.every == 0 or done or ends:
                    now = time.monotonic()
                    values = _mean_over_processes(fabric, values)
                    rate = (step - window_step) / max(1e-9, now - window_began)
                    last = {
                        **{f"loss_{key}": value for key, value in values.items()},
                        "lr": config.optimizer.lr * learning_rate_factor(config.schedule, step - 1, config.run.steps),
                        "grad_norm": trainer.grad_norm if math.isfinite(trainer.grad_norm) else 0.0,
                        "it_per_s": rate,
                        "samples_per_s": rate * trainer.samples_each * fabric.world_size,
                        "waiting_share": (feed.times.wait_s - window_wait_s) / max(1e-9, now - window_began),
                        "memory_mib": _memory_mib(fabric.device),
                    }
                    window_began, window_step, window_wait_s = now, step, feed.times.wait_s
                    if records is not None:
                        records.write(step, "train", last)
                        progress.show(step, last)
                if pairs and (step % config.validation.every == 0 or done):
                    began_validation = time.monotonic()
                    scores = _validate(trainer, pairs, records)
                    window_began += time.monotonic() - began_validation
                    if first:
                        progress.say(
                            f"step {step}  " + "  ".join(f"{key} {value:.4f}" for key, value in scores.items())
                        )
                if step % config.checkpoint.every == 0 or done or ends:
                    saved_at = step
                    if first:
                        save_checkpoint(folder, trainer.state(), step=step, keep=config.checkpoint.keep)
                        save_weights(trainer, folder / "ema.safetensors")
                    fabric.barrier()
                if ends:
                    break
    finally:
        if records is not None:
            records.close()
            progress.close()
    if saved_at != trainer.step and first:
        save_checkpoint(folder, trainer.state(), step=trainer.step, keep=config.checkpoint.keep)
    if first and not (folder / "ema.safetensors").is_file():
        save_weights(trainer, folder / "ema.safetensors")
    best = folder / "best.safetensors"
    return TrainResult(
        folder=folder,
        step=trainer.step,
        complete=trainer.step >= config.run.steps,
        weights=folder / "ema.safetensors",
        best=best if best.is_file() else None,
        scores=scores,
        losses={key.removeprefix("loss_"): value for key, value in last.items() if key.startswith("loss_")},
        first=first,
    )


def save_weights(trainer: Trainer, target: Path) -> None:
    """Save the running mean of the weights, with what the network is, as a file that every command loads."""
    config = trainer.config
    card = {"name": config.run.name, "scale": config.model.scale, "steps": trainer.step, "preset": config.about}
    save_network(trainer.shipped(), target, config.model.network, hyper_of(config), card=card, overwrite=True)


def _validate(trainer: Trainer, pairs: list[Pair], records: Records | None) -> dict[str, float]:
    config, fabric = trainer.config, trainer.fabric
    by_group: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_group.setdefault(pair.group, []).append(pair)
    shown = [(pair.group, pair.name) for group in zip(*by_group.values(), strict=False) for pair in group]
    shown = shown[: config.validation.panels]
    traits = architecture(config.model.network).traits(hyper_of(config))
    scores = validate(
        trainer.shipped(),
        pairs[fabric.global_rank :: fabric.world_size],
        config.validation,
        scale=config.model.scale,
        multiple_px=traits.multiple_px,
        device=fabric.device,
        panel_names=shown,
    )
    if fabric.world_size > 1:
        for group in by_group:
            for metric in config.validation.metrics:
                total, count = scores.sums.get(group, {}).get(metric, (0.0, 0))
                both: Any = fabric.all_reduce(torch.tensor([total, float(count)], dtype=torch.float64), reduce_op="sum")
                scores.sums.setdefault(group, {})[metric] = (float(both[0]), int(both[1]))
    means = scores.means()
    panels = config.run_folder / "panels"
    for name, pixels in scores.panels.items():
        write_picture(panels / f"step-{trainer.step:08d}-{name}.png", pixels, overwrite=True)
        if records is not None:
            records.panel(trainer.step, name, pixels)
    best = means.get(config.validation.best)
    if best is not None and better(config.validation.best, best, trainer.best):
        trainer.best = best
        if fabric.is_global_zero:
            save_weights(trainer, config.run_folder / "best.safetensors")
    if records is not None:
        records.write(trainer.step, "validation", means)
    return means


@contextlib.contextmanager
def _stop_signals() -> Generator[list[int]]:
    """Collect SIGINT and SIGTERM while the block runs: the loop then ends after its step, with a checkpoint."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def note(number: int, _frame: Any) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _any_process(fabric: Fabric, flag: bool) -> bool:
    if fabric.world_size == 1:
        return flag
    total: Any = fabric.all_reduce(torch.tensor(float(flag)), reduce_op="sum")
    return float(total) > 0


def _mean_over_processes(fabric: Fabric, values: Mapping[str, float]) -> dict[str, float]:
    if fabric.world_size == 1:
        return dict(values)
    means: Any = fabric.all_reduce(torch.tensor(list(values.values()), dtype=torch.float64), reduce_op="mean")
    return dict(zip(values, means.tolist(), strict=True))


def _memory_mib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "win32":
        return 0.0  # the standard library does not tell there
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _describe(folder: Path, config: TrainConfig) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "config.toml", overwrite=True) as partial:
        partial.write_text(to_toml(config), encoding="utf-8")
    about = {
        "apisr": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in ("torch", "numpy", "lightning")},
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu",
        "seed": config.run.seed,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    with atomic_path(folder / "environment.json", overwrite=True) as partial:
        partial.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _commit() -> str | None:
    """The commit of the package's sources where they lie in a repository."""
    here = Path(__file__).parent
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=5, check=False
        )
        if done.returncode == 0:
            return done.stdout.strip()
    return None
