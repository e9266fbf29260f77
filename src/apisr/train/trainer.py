"""A training run from its first step to its last: the paper's two stages, and everything that a long run needs.

:func:`train` is the way in. It builds the parts (:mod:`apisr.train.build`), then a :class:`Trainer` repeats the step
(:mod:`apisr.train.step`), records, validates and saves, until the last step, a time limit, a signal or a cancellation.

    >>> from apisr.train.config import load_config
    >>> config = load_config("apisr-x2-fast", sets=["data.scenes=art", "run.steps=20000"])
    >>> result = train(config)                                                       # doctest: +SKIP
    >>> result.weights                                                               # doctest: +SKIP
    PosixPath('runs/apisr-x2-fast/ema.safetensors')
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
from collections.abc import Generator, Mapping
from pathlib import Path
from types import FrameType

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from apisr.core.errors import ModelError
from apisr.core.processes import stop_signals
from apisr.core.progress import Cancel, Progress, ProgressFn, no_progress
from apisr.image import write_picture
from apisr.networks import architecture
from apisr.train import preflight
from apisr.train.build import Fabric, Parts, build, build_fabric
from apisr.train.checkpoint import State, load_newest, remove_partial, save_checkpoint, set_aside
from apisr.train.config import TrainConfig, learning_rate_factor
from apisr.train.data.holdout import hold_out
from apisr.train.data.loader import CropSource, Loader
from apisr.train.data.sources import fingerprint, open_source, unread, worker_count
from apisr.train.frozen import check_frozen, frozen_files
from apisr.train.init import check_discriminator_config, hyper_of, resolve_model_config
from apisr.train.pace import Pace, memory_mib
from apisr.train.run_folder import checkpoints_to_resume, describe_run, hold_run
from apisr.train.run_log import RunLog, describe_record
from apisr.train.step import TrainingStep
from apisr.train.validate import Pair, Validator
from apisr.weights.checkpoint import save_network
from apisr.weights.model import CLEANS_COLOURS


class TrainResult(BaseModel):
    """What a run left.

    Attributes:
        folder: the run's folder.
        step: last step that was done.
        complete: whether that is the last step of the configuration.
        weights: the running mean of the weights, ``.safetensors``.
        best: the best weights by validation, if there was one.
        best_step: the step of these weights; 0: those that the run started from.
        scores: the last validation.
        losses: the last record of the losses.
        first: whether this is the first (or only) process, the one that reports.
    """

    model_config = ConfigDict(frozen=True)

    folder: Path
    step: int
    complete: bool
    weights: Path
    best: Path | None = None
    best_step: int | None = None
    scores: dict[str, float] = {}
    losses: dict[str, float] = {}
    first: bool = True


def train(
    config: TrainConfig,
    *,
    source: CropSource | None = None,
    resume: bool = False,
    anyway: bool = False,
    progress: ProgressFn = no_progress,
    cancel: Cancel | None = None,
) -> TrainResult:
    """Train as `config` says.

    Args:
        config: the run.
        source: where crops come from; None opens what ``[data]`` names.
        resume: go on from the last checkpoint of the run's folder (from the start if there is none).
        anyway: also begin what this machine cannot do in its memory or within a month.
        progress: called with how far the run is; of several processes only the first one reports.
        cancel: stops the run after its step, with a checkpoint; so do Ctrl-C and SIGTERM. The result then says that the
            run is not complete.

    Raises:
        InputError: data, weights or folders do not fit; a run exists and `resume` is false; the machine is too small.
        RunError: the loss is not finite or diverges (step and batch are saved), a picture failed, the disk is full.
        MissingExtra: a package is not installed.
    """
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    config = config.model_copy(update={"model": resolve_model_config(config.model)})
    check_discriminator_config(config.discriminator)
    checkpoints = checkpoints_to_resume(config, resume=resume)
    state, damaged = load_newest(checkpoints) if checkpoints else (None, [])
    fabric = build_fabric(config)
    fabric.launch()
    if source is None:
        cleans = config.model.cleans_colours
        source = open_source(config.data, scale=config.model.scale, seed=config.run.seed, cleans_colours=cleans)
    held_out: list[Pair] = []
    if config.data.holdout:
        source, held_out = hold_out(source, config)
    traits = architecture(config.model.network).traits(hyper_of(config.model))
    validator = Validator(
        config.validation,
        scale=config.model.scale,
        multiple_px=traits.multiple_px,
        cleans_colours=config.model.cleans_colours,
        held_out=held_out,
    )
    parts = build(config, fabric, has_residual_path=None if state is None else "ema_unfused" in state)
    trainer = Trainer(config, parts, validator)
    if state is not None:
        trainer.load(state)
    first = fabric.is_global_zero
    if first:
        _announce(trainer, source, progress, anyway=anyway)
    with hold_run(config.run_folder, checkpoints) if first else contextlib.nullcontext():
        if first:
            trainer.data = fingerprint(source)
            _tidy(trainer, damaged, state, progress)
        fabric.barrier()
        return trainer.run(source, progress=progress, cancel=cancel or Cancel())


def _tidy(trainer: Trainer, damaged: list[Path], state: State | None, progress: ProgressFn) -> None:
    """Put away what a killed run or a failing disk left among the checkpoints; say what is not as it was."""
    step = trainer.step.number
    remove_partial(trainer.config.run_folder)
    notices: list[str] = []
    for path in damaged:
        kept = set_aside(path)
        notices.append(f"'{path}' is damaged (kept as '{kept.name}'): the run goes on from step {step}")
    if state is not None and state.get("data", trainer.data) != trainer.data:
        notices.append(
            f"the pictures, shards or recipes are not those of the first {step} steps: the run goes on with what is "
            "there now, and is not what it would have been"
        )
    for text in notices:
        progress(Progress("train", kind="notice", message=text))


def _announce(trainer: Trainer, source: CropSource, progress: ProgressFn, *, anyway: bool) -> None:
    """Say what the run will do; refuse what cannot be done here."""
    config, parts = trainer.config, trainer.parts
    expected = preflight.expect(config, parts, source, step=trainer.step.number)
    for line in preflight.describe(config, parts, source, len(trainer.validator.pairs), expected):
        progress(Progress("train", kind="notice", message=line))
    for line in unread(source, trainer.validator.pairs) if not trainer.step.number else ():
        progress(Progress("train", kind="notice", message=line))
    if not anyway:
        preflight.check_fits(config, parts, expected)


class Trainer:
    """A run: its step, its state, its folder.

    Args:
        config: the run.
        parts: networks, optimisers, losses.
        validator: scores the running mean of the weights.
    """

    def __init__(self, config: TrainConfig, parts: Parts, validator: Validator) -> None:
        self.config = config
        self.parts = parts
        self.validator = validator
        self.step = TrainingStep(config, parts)
        self.best: float | None = None
        self.best_step: int | None = None
        self.scores: dict[str, float] = {}
        self.record: dict[str, float] = {}
        #: What the crops come from (:func:`apisr.train.data.sources.fingerprint`).
        self.data: str | None = None
        self.frozen = frozen_files(config)
        self._weights_saved = False

    @property
    def fabric(self) -> Fabric:
        """Devices and processes."""
        return self.parts.fabric

    @property
    def samples_per_step(self) -> int:
        """Crops that this process uses in one step."""
        return self.config.data.batch * self.config.optimizer.accumulate

    # --- the run -----------------------------------------------------------------------------------------------------

    def run(self, source: CropSource, *, progress: ProgressFn, cancel: Cancel) -> TrainResult:
        """Train from where the state stands to the last step."""
        config, folder = self.config, self.config.run_folder
        log = None
        if self.fabric.is_global_zero:
            describe_run(folder, config)
            log = RunLog(folder, config, step=self.step.number)
            if config.model.residual_path and not self.parts.hook.has_residual_path:
                text = f"model.residual_path has no effect: the weights of '{config.model.init_from}' have none"
                progress(Progress("train", kind="notice", message=text))
        else:
            progress = no_progress
        loader = self._loader(source)
        pace = Pace(self.step.number, loader)
        try:
            with loader, _signals_cancel(cancel):
                if self.step.number == 0 and config.model.init_from is not None and self.validator.pairs:
                    self._validate_start(log, progress)
                    pace = Pace(self.step.number, loader)
                while self.step.number < config.run.steps:
                    losses = self.step(loader)
                    if self._after_step(losses, pace, log, progress=progress, cancel=cancel):
                        break
        finally:
            if log is not None:
                log.close()
        if self.best_step == 0 and self.step.number:
            text = f"no step was better than the start in {config.validation.best}: best.safetensors is the start"
            progress(Progress("train", kind="notice", message=text))
        return self._result()

    def _validate_start(self, log: RunLog | None, progress: ProgressFn) -> None:
        """Score the weights that the run starts from: what it makes of them is never taken for better unseen."""
        self.scores = self._validate(log)
        progress(self._notice("start"))

    def _notice(self, when: str) -> Progress:
        shown = "  ".join(f"{key} {value:.4f}" for key, value in self.scores.items())
        return Progress("train", kind="notice", message=f"{when}  {shown}")

    def _loader(self, source: CropSource) -> Loader:
        data, fabric = self.config.data, self.fabric
        return Loader(
            source,
            batch=data.batch,
            seed=self.config.run.seed,
            shuffle_crops=data.shuffle_crops,
            workers=worker_count(data),
            rank=fabric.global_rank,
            world=fabric.world_size,
            start=self.step.number * self.samples_per_step,
        )

    def _after_step(
        self, losses: Mapping[str, float], pace: Pace, log: RunLog | None, *, progress: ProgressFn, cancel: Cancel
    ) -> bool:
        """Record, validate and save where it is time; return whether the run ends here before its last step."""
        config, step = self.config, self.step.number
        done = step == config.run.steps
        out_of_time = config.run.max_seconds and pace.seconds() > config.run.max_seconds
        ends = _any_process(self.fabric, bool(cancel.requested or out_of_time))
        if step % config.log.every == 0 or done or ends:
            self._write_record(losses, pace, log, progress)
        elif pace.is_silent():
            progress(self._event(pace.message(config.run.steps, step, losses)))
        if self.validator.pairs and (step % config.validation.every == 0 or done):
            with pace.paused():
                self.scores = self._validate(log)
            progress(self._notice(f"step {step}"))
        if step % config.checkpoint.every == 0 or done or ends:
            self._save()
        return ends and not done

    def _write_record(self, losses: Mapping[str, float], pace: Pace, log: RunLog | None, progress: ProgressFn) -> None:
        config, fabric, step = self.config, self.fabric, self.step.number
        speed, waiting = pace.next_window(step)
        self.record = {
            **{f"loss_{key}": value for key, value in _mean_over_processes(fabric, losses).items()},
            "lr": config.optimizer.lr * learning_rate_factor(config.schedule, step - 1, config.run.steps),
            "grad_norm": self.step.grad_norm if math.isfinite(self.step.grad_norm) else 0.0,
            "it_per_s": speed,
            "samples_per_s": speed * self.samples_per_step * fabric.world_size,
            "waiting_share": waiting,
            "memory_mib": memory_mib(fabric.device),
        }
        if log is not None:
            log.write(step, "train", self.record)
        progress(self._event(describe_record(self.record, left_s=pace.left_s(config.run.steps, step))))

    def _event(self, message: str) -> Progress:
        steps = self.config.run.steps
        name = self.config.run.name
        return Progress("train", item=name, done=self.step.number, total=steps, unit="steps", message=message)

    def _validate(self, log: RunLog | None) -> dict[str, float]:
        fabric, validator, step = self.fabric, self.validator, self.step.number
        rank, world = fabric.global_rank, fabric.world_size
        scores = validator.score(self.shipped(), device=fabric.device, rank=rank, world=world)
        if world > 1:
            for group in validator.groups():
                for name in self.config.validation.metrics:
                    total, count = scores.sums.get(group, {}).get(name, (0.0, 0))
                    both = fabric.all_reduce(torch.tensor([total, float(count)], dtype=torch.float64), reduce_op="sum")
                    if isinstance(both, Tensor):
                        scores.sums.setdefault(group, {})[name] = (float(both[0]), int(both[1]))
        for name, pixels in scores.panels.items():
            write_picture(self.config.run_folder / "panels" / f"step-{step:08d}-{name}.png", pixels, overwrite=True)
            if log is not None:
                log.panel(step, name, pixels)
        means = scores.means()
        value = means.get(self.config.validation.best)
        if value is not None and validator.improves(value, self.best):
            self.best, self.best_step = value, step
            if fabric.is_global_zero:
                self.save_weights(self.config.run_folder / "best.safetensors")
        if log is not None:
            log.write(step, "validation", means)
        return means

    def _save(self) -> None:
        if self.fabric.is_global_zero:
            folder, keep = self.config.run_folder, self.config.checkpoint.keep
            save_checkpoint(folder, self.state(), step=self.step.number, keep=keep)
            self.save_weights(folder / "ema.safetensors")
        self._weights_saved = True
        self.fabric.barrier()

    def _result(self) -> TrainResult:
        config, folder = self.config, self.config.run_folder
        weights, best = folder / "ema.safetensors", folder / "best.safetensors"
        if self.fabric.is_global_zero and not self._weights_saved:  # nothing was left to do
            self.save_weights(weights)
        return TrainResult(
            folder=folder,
            step=self.step.number,
            complete=self.step.number >= config.run.steps,
            weights=weights,
            best=best if best.is_file() else None,
            best_step=self.best_step,
            scores=self.scores,
            losses={key.removeprefix("loss_"): value for key, value in self.record.items() if key.startswith("loss_")},
            first=self.fabric.is_global_zero,
        )

    # --- its state ---------------------------------------------------------------------------------------------------

    def shipped(self) -> nn.Module:
        """The running mean of the weights as a network that stands alone: what is validated, saved and exported."""
        return self.parts.hook.standalone(self.parts.ema.module)

    def save_weights(self, target: Path) -> None:
        """Save the running mean of the weights, with what the network is, as a file that every command loads."""
        model = self.config.model
        card = {
            "name": self.config.run.name,
            "scale": model.scale,
            "steps": self.step.number,
            "preset": self.config.description,
            **({CLEANS_COLOURS: True} if model.cleans_colours else {}),
        }
        save_network(self.shipped(), target, model.network, hyper_of(model), card=card, overwrite=True)

    def state(self) -> State:
        """Everything that a continuation needs."""
        parts = self.parts
        state: State = {
            "ema": self.shipped().state_dict(),  # what every reader of weights takes
            "ema_updates": parts.ema.updates,
            "generator": parts.generator.module.state_dict(),
            "optimizer": parts.generator.optimizer.state_dict(),
            "scalers": self.fabric.strategy.precision.state_dict(),
            "best": self.best,
            "best_step": self.best_step,
            "loss_mean": self.step.loss_mean,
            "network": self.config.model.network,
            "data": self.data,
            "frozen": self.frozen,
        }
        if parts.hook.has_residual_path:
            state["ema_unfused"] = parts.ema.module.state_dict()  # fusing and unfusing would round
        if parts.discriminator is not None:
            state["discriminator"] = parts.discriminator.module.state_dict()
            state["discriminator_optimizer"] = parts.discriminator.optimizer.state_dict()
        return state

    def load(self, state: State) -> None:
        """Continue from :meth:`state`; the parts must have been built for it.

        Raises:
            ModelError: it belongs to another network.
            InputError: a teacher or a feature network is not the one that the run began with.
        """
        check_frozen(state.get("frozen", {}), self.frozen)
        parts = self.parts
        try:
            parts.generator.module.load_state_dict(state["generator"])
            parts.ema.module.load_state_dict(state["ema_unfused" if parts.hook.has_residual_path else "ema"])
            parts.generator.optimizer.load_state_dict(state["optimizer"])
            if parts.discriminator is not None:
                parts.discriminator.module.load_state_dict(state["discriminator"])
                parts.discriminator.optimizer.load_state_dict(state["discriminator_optimizer"])
            self.fabric.strategy.precision.load_state_dict(state["scalers"])
            parts.ema.updates = state["ema_updates"]
            self.step.number, self.step.loss_mean = state["step"], state["loss_mean"]
            self.best, self.best_step = state["best"], state["best_step"]
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise ModelError(
                f"the checkpoint does not fit this configuration ({str(error).splitlines()[0]}). Go on with the "
                "configuration of the run (its config.toml), or begin another one: --set run.name=OTHER.",
                code="weights-do-not-fit",
            ) from error


@contextlib.contextmanager
def _signals_cancel(cancel: Cancel) -> Generator[None]:
    """Let the signals that ask for a stop end the run after its step, with a checkpoint; a second one does at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, frame: FrameType | None) -> None:
        if cancel.requested and number in (signal.SIGINT, signal.SIGTERM):
            raise KeyboardInterrupt
        cancel.request()

    before = {number: signal.signal(number, note) for number in stop_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _any_process(fabric: Fabric, flag: bool) -> bool:
    if fabric.world_size == 1:
        return flag
    total = fabric.all_reduce(torch.tensor(float(flag)), reduce_op="sum")
    return isinstance(total, Tensor) and float(total) > 0


def _mean_over_processes(fabric: Fabric, values: Mapping[str, float]) -> dict[str, float]:
    if fabric.world_size == 1:
        return dict(values)
    means = fabric.all_reduce(torch.tensor(list(values.values()), dtype=torch.float64), reduce_op="mean")
    return dict(zip(values, means.tolist(), strict=True)) if isinstance(means, Tensor) else dict(values)
