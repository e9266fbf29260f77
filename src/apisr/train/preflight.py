"""What a run will do, said before it begins; and refusing what this machine cannot do.

Memory is counted, not guessed: the arrays that the forward pass of one crop keeps for the backward pass, times the
crops of a batch, beside weights, gradients, the optimisers' moments and the running mean. If that fits, one step is
done with random crops and timed; its gradients are thrown away, so that the run computes the same numbers as without.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from apisr.core.errors import InputError
from apisr.core.memory import available_memory
from apisr.core.processes import usable_cores
from apisr.core.text import counted
from apisr.train.build import Parts
from apisr.train.config import TrainConfig
from apisr.train.data.loader import Batch, CropSource, on_device
from apisr.train.data.sources import worker_count
from apisr.train.run_log import clock

#: What Python, PyTorch and the loader take, beside the arrays of the training.
BASE_BYTES = 520 << 20
#: Buffers that a step needs for a moment, as a share of what it keeps.
TRANSIENT_SHARE = 0.35
#: Share of the available memory that a run may take.
MEMORY_SHARE = 0.9
#: A run that takes longer than this on a processor is taken for a mistake.
MAX_DAYS = 30.0
_DAY_S = 86_400.0
#: A batch that takes longer is not measured whole.
_LONG_STEP_S = 8.0


@dataclass(frozen=True)
class Expectation:
    """What a run is expected to cost.

    Attributes:
        parameters: learned values of the generator.
        memory_bytes: in all, in this process.
        step_s: one step, the wait for its crops included.
        remaining_s: all steps that are still to be done.
    """

    parameters: int
    memory_bytes: int
    step_s: float
    remaining_s: float


def expect(config: TrainConfig, parts: Parts, source: CropSource, *, step: int = 0) -> Expectation:
    """Count the memory of a run and measure one step.

    Args:
        config: the run.
        parts: networks, optimisers, losses; nothing of them is changed.
        source: its first picture is made, to know how long crops take.
        step: where the run stands.

    Raises:
        InputError: crops are too small for a term of the loss.
    """
    generator = parts.generator.module
    parameters = sum(value.numel() for value in generator.parameters())
    memory = _memory(config, parts)
    fits = parts.fabric.device.type != "cpu" or memory <= MEMORY_SHARE * available_memory()
    compute = _timed(config, parts, whole=fits) * config.optimizer.accumulate
    crops = config.data.batch * config.optimizer.accumulate
    data = _seconds_per_crop(source) * crops
    workers = worker_count(config.data)
    seconds = max(compute, data / workers) if workers else compute + data
    return Expectation(parameters, memory, seconds, seconds * (config.run.steps - step))


def describe(config: TrainConfig, parts: Parts, source: CropSource, pairs: int, expected: Expectation) -> list[str]:
    """Return what the run will do, as lines for people."""
    device, run, data = parts.fabric.device, config.run, config.data
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"the processor ({_cores()})"
    start = f", starting from {config.model.init_from}" if config.model.init_from else ""
    validation = (
        f"{counted(pairs, 'picture')} every {config.validation.every} steps, best by {config.validation.best}"
        if pairs
        else "none (set data.holdout=0.1 or [[validation.pairs]]; without it there is no best.safetensors)"
    )
    each = f"{counted(data.batch, 'crop')} of {data.patch_px} pixels"
    lines = [
        f"network     {config.model.network} x{config.model.scale}, {expected.parameters:,} weights{start}",
        f"device      {where}, {run.precision}",
        f"pictures    {len(source)} in an epoch, {each} in a step, {_workers(config)}",
        f"validation  {validation}",
        f"folder      {config.run_folder}",
    ]
    cost = f"{clock(expected.remaining_s)} to step {run.steps}, {expected.step_s:.2g} s each"
    return [*lines, f"expected    {cost}; {expected.memory_bytes / 2**30:.1f} GB of memory"]


def check_fits(config: TrainConfig, parts: Parts, expected: Expectation) -> None:
    """Refuse a run that this processor cannot do.

    Raises:
        InputError: code ``"does-not-fit"``.
    """
    if parts.fabric.device.type != "cpu":
        return
    needs: list[str] = []
    if expected.memory_bytes > MEMORY_SHARE * available_memory():
        available = available_memory() / 2**30
        needs.append(f"{expected.memory_bytes / 2**30:.0f} GB of memory ({available:.0f} GB are available)")
    if expected.remaining_s > MAX_DAYS * _DAY_S:
        needs.append(f"about {expected.remaining_s / _DAY_S:.0f} days on this processor")
    if needs:
        raise InputError(
            f"'{config.run.name}' needs {' and '.join(needs)}. Use finetune-x{config.model.scale}, set data.batch or "
            "run.steps lower, or start it with --anyway.",
            code="does-not-fit",
        )


def _memory(config: TrainConfig, parts: Parts) -> int:
    """Bytes that a step takes at its peak."""
    kept = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal kept
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in storages:
            storages.add(storage.data_ptr())
            kept += storage.nbytes()
        return tensor

    storages = {value.untyped_storage().data_ptr() for value in _weights(parts)}
    with _unchanged(parts), saved_tensors_hooks(count, lambda tensor: tensor):
        terms = _losses(config, parts, crops=1)
        del terms
    learned = sum(value.numel() * value.element_size() for value in _weights(parts))
    ema = sum(value.numel() * value.element_size() for value in parts.generator.module.parameters())
    return int(BASE_BYTES + (1 + TRANSIENT_SHARE) * kept * config.data.batch + 4 * learned + ema)


def _seconds_per_crop(source: CropSource) -> float:
    began = time.perf_counter()
    try:
        source.crops(0, 0)
    except Exception:  # noqa: BLE001 - the run itself says which picture is at fault
        return 0.0
    return (time.perf_counter() - began) / source.crops_per_picture


def _timed(config: TrainConfig, parts: Parts, *, whole: bool) -> float:
    """Seconds for the losses of one batch and their way back; from those of one crop if the batch is large."""

    def once(crops: int) -> float:
        began = time.perf_counter()
        _losses(config, parts, crops=crops)["total"].backward()
        if parts.fabric.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    with _unchanged(parts):
        once(1)  # what is made once is made
        seconds = once(1) * config.data.batch
        if whole and seconds < _LONG_STEP_S:
            seconds = once(config.data.batch)
    # The discriminator looks at real and false pictures once more, there and back.
    return seconds * (1.2 if parts.discriminator else 1.0)


def _losses(config: TrainConfig, parts: Parts, *, crops: int) -> dict[str, Tensor]:
    side, scale = config.data.patch_px, config.model.scale
    high = torch.randint(0, 256, (crops, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    batch: Batch = {"lr": high[..., ::scale, ::scale].contiguous(), "gt": high, "teacher": high}
    batch["bilinear_error"] = torch.full((crops,), 0.01)
    there = on_device(batch, parts.fabric.device, channels_last=config.run.channels_last)
    fabric = parts.fabric
    parts.generator.module.train()
    with fabric.autocast():
        output: Tensor = parts.generator.module(there["lr"])
    output = parts.hook.complete(output, there["lr"])
    with fabric.autocast():
        return parts.loss(output, there)


@contextmanager
def _unchanged(parts: Parts) -> Generator[None]:
    """Undo what steps leave: gradients and running statistics."""
    modules = [trained.module for trained in (parts.generator, parts.discriminator) if trained is not None]
    buffers = [(buffer, buffer.clone()) for module in modules for buffer in module.buffers()]
    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        for module in modules:
            module.zero_grad(set_to_none=True)


def _weights(parts: Parts) -> list[nn.Parameter]:
    modules = [trained.module for trained in (parts.generator, parts.discriminator) if trained is not None]
    return [value for module in modules for value in module.parameters()]


def _cores() -> str:
    threads, cores = torch.get_num_threads(), usable_cores()
    return f"{threads} of {cores} cores" if threads != cores else counted(cores, "core")


def _workers(config: TrainConfig) -> str:
    count = worker_count(config.data)
    return {0: "made in the training process", 1: "made by 1 worker"}.get(count, f"made by {count} workers")
