"""Building what a run needs from its configuration: devices, networks, optimisers, losses.

Read :func:`build` first; the trainer (:mod:`apisr.train.trainer`) and its step (:mod:`apisr.train.step`) work with what
it returns. Devices, processes and the reduction of gradients are Lightning Fabric's; precision is
:mod:`apisr.train.precision`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from apisr.core.errors import InputError, MissingExtra
from apisr.networks import architecture
from apisr.train.config import TrainConfig
from apisr.train.ema import Ema
from apisr.train.init import TrainingHook, build_generator, hook_of_checkpoint, init_generator
from apisr.train.init.weights import find_weights, load_into
from apisr.train.losses.generator import GeneratorLoss
from apisr.train.losses.perceptual import PerceptualTerm, TwinPerceptual
from apisr.train.losses.teacher import Teacher, open_teacher
from apisr.train.muon import Muon

try:
    from lightning.fabric import Fabric
    from lightning.fabric.strategies.ddp import DDPStrategy

    from apisr.train.precision import ScaledPrecision
except ImportError as _error:
    raise MissingExtra("train", "to train") from _error
except RuntimeError as _error:  # lightning loads torchvision where it is installed
    raise InputError(
        f"torch {torch.__version__} and the torchvision that is installed are of different builds ({_error}). Install "
        "both from one place, or take torchvision out: python -m pip uninstall torchvision",
        code="torchvision-differs",
    ) from _error


@dataclass
class Trained:
    """A network that is trained, and its optimiser.

    Attributes:
        module: the network itself.
        wrapped: what runs it on the devices of the run (a module of Fabric).
        optimizer: the optimiser itself.
        wrapped_optimizer: what steps it.
    """

    module: nn.Module
    wrapped: Any
    optimizer: torch.optim.Optimizer
    wrapped_optimizer: torch.optim.Optimizer


@dataclass
class Parts:
    """Everything that a training step works with.

    Attributes:
        fabric: devices and processes.
        generator: the network that is trained for its own sake.
        hook: what the start of the generator asks of every step.
        ema: the running mean of the generator's weights.
        loss: equation 4.
        discriminator: of stage 2; None in stage 1.
    """

    fabric: Fabric
    generator: Trained
    hook: TrainingHook
    ema: Ema
    loss: GeneratorLoss
    discriminator: Trained | None


def build(config: TrainConfig, fabric: Fabric, *, has_residual_path: bool | None = None) -> Parts:
    """Build the parts of a run.

    Args:
        config: the run.
        fabric: launched.
        has_residual_path: of the checkpoint that the run goes on from; None begins a new run.

    Raises:
        InputError: weights, networks or crops do not fit each other.
        ModelError: weights are damaged or of another network.
    """
    torch.manual_seed(config.run.seed)
    resumes = has_residual_path is not None
    generator = build_generator(config.model, load=not resumes)
    hook = (
        hook_of_checkpoint(generator, has_residual_path=has_residual_path)
        if has_residual_path is not None
        else init_generator(generator, config.model)
    )
    if config.run.channels_last:
        generator = in_channels_last(generator)
    kind = config.optimizer.kind
    trained = _set_up(generator, config, fabric, rate=config.optimizer.lr, kind=kind, compiled=config.run.compile)
    ema = Ema(generator, decay=config.ema.decay)
    discriminator = None
    if config.loss.adversarial_weight > 0:
        judge = build_discriminator(config)
        judged_by = "adam" if kind == "muon" else kind
        discriminator = _set_up(judge, config, fabric, rate=config.discriminator.lr, kind=judged_by)
    loss = GeneratorLoss(
        config,
        perceptual=build_perceptual(config, fabric.device),
        discriminator=discriminator.module if discriminator else None,
        teacher=build_teacher(config, fabric.device),
    )
    return Parts(fabric, trained, hook, ema, loss, discriminator)


def build_fabric(config: TrainConfig) -> Fabric:
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
    return Fabric(
        accelerator=accelerator,
        devices=devices,
        num_nodes=nodes,
        strategy=DDPStrategy() if run.strategy == "ddp" or many else "auto",
        plugins=(
            [ScaledPrecision(run.precision, device=accelerator, names=("generator", "discriminator"))]
            if run.precision != "fp32"
            else []
        ),
    )


def build_discriminator(config: TrainConfig) -> nn.Module:
    """Build the discriminator, with the weights of ``discriminator.init_from`` where it is given.

    Raises:
        InputError: not a discriminator, or crops that are too small for it.
    """
    chosen = architecture(config.discriminator.network)
    if chosen.kind != "discriminator":
        raise InputError(f"discriminator.network = '{chosen.name}' is not a discriminator.", code="not-a-discriminator")
    module = chosen.build(config.discriminator.arguments)
    if config.discriminator.init_from is not None:
        load_into(module, config.discriminator.init_from)
    side = config.data.patch_px
    try:
        with torch.no_grad():
            module.eval()(torch.zeros(1, 3, side, side))
    except RuntimeError as error:
        raise InputError(
            f"crops of {side} pixels are too small for the discriminator '{chosen.name}'. Set data.patch_px higher.",
            code="crop-too-small",
        ) from error
    return module.train()


def build_perceptual(config: TrainConfig, device: torch.device) -> TwinPerceptual | None:
    """Open the branches of the perceptual loss; None where it has no weight."""
    if config.loss.perceptual_weight <= 0:
        return None
    from apisr.train.losses.features import in_bfloat16, open_features

    terms: list[PerceptualTerm] = []
    for term in config.loss.perceptual:
        features = open_features(term.network, layers=tuple(term.weights)).to(device)
        if config.loss.precision == "bf16":
            features = in_bfloat16(features)
        name = term.network.partition(":")[0]
        terms.append(PerceptualTerm(features, weights=term.weights, weight=term.weight, name=name))
    return TwinPerceptual(terms).to(device)


def build_teacher(config: TrainConfig, device: torch.device) -> Teacher | None:
    """Open the teacher; None where none is named."""
    chosen = config.teacher
    if chosen.init_from is None:
        return None
    path = find_weights(chosen.init_from, key="teacher.init_from")
    teacher = open_teacher(path, scale=config.model.scale, flips=chosen.flips, bf16=chosen.precision == "bf16")
    teacher = teacher.to(device)
    return cast("Teacher", in_channels_last(teacher)) if config.run.channels_last else teacher


def in_channels_last(module: nn.Module) -> nn.Module:
    """Keep the weights of convolutions in the memory layout NHWC."""
    return module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def _set_up(
    module: nn.Module, config: TrainConfig, fabric: Fabric, *, rate: float, kind: str, compiled: bool = False
) -> Trained:
    optimizer = _optimizer(config, module, rate, kind)
    runs = cast("nn.Module", torch.compile(module)) if compiled else module
    wrapped, wrapped_optimizer = cast("tuple[nn.Module, torch.optim.Optimizer]", fabric.setup(runs, optimizer))
    return Trained(module, wrapped, optimizer, wrapped_optimizer)


def _optimizer(config: TrainConfig, module: nn.Module, rate: float, kind: str) -> torch.optim.Optimizer:
    betas, weight_decay = config.optimizer.betas, config.optimizer.weight_decay
    if kind == "muon":
        return Muon(module, rate, betas=betas, weight_decay=weight_decay)
    adam = torch.optim.Adam if kind == "adam" else torch.optim.AdamW
    return adam(
        module.parameters(),
        lr=rate,
        betas=betas,
        weight_decay=weight_decay,
        # One pass over the weights instead of ten. (With gradients in fp16 the scaler of Fabric looks at them itself.)
        fused=config.run.precision != "fp16" and all(p.device.type in ("cpu", "cuda") for p in module.parameters()),
    )
