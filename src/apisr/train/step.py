"""One training step.

A step takes ``optimizer.accumulate`` batches. For each, the generator's loss of equation 4 is propagated while the
discriminator is frozen, then the discriminator's while the output is; then both optimisers move.

Everything random in step `n` follows from ``(seed, rank, n)``: the batches (:mod:`apisr.train.data.loader`) and the
generator of PyTorch, which is seeded anew before each step. The learning rate is a function of `n`. A run that is
stopped and resumed therefore computes the same numbers, bit for bit, as one that is not (on a processor; GPUs add the
order of their atomic additions).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from apisr.core.errors import RunError
from apisr.core.files import atomic_path
from apisr.train.build import Parts, Trained
from apisr.train.config import TrainConfig, learning_rate_factor
from apisr.train.data.loader import Batch, on_device
from apisr.train.losses.adversarial import adversarial_loss
from apisr.train.losses.generator import logits_of
from apisr.train.precision import ScaledPrecision

#: How much of the loss's running mean a step keeps.
_LOSS_MEMORY = 0.99


class TrainingStep:
    """The counters of a run and its step.

    Args:
        config: the run.
        parts: networks, optimisers, losses.

    Attributes:
        number: steps that were done.
        loss_mean: running mean of the generator's loss; None before the first step.
        grad_norm: length of the generator's last gradient, before clipping.
    """

    def __init__(self, config: TrainConfig, parts: Parts) -> None:
        self.config = config
        self.parts = parts
        self.number = 0
        self.loss_mean: float | None = None
        self.grad_norm = 0.0

    def __call__(self, loader: Iterator[Batch]) -> dict[str, float]:
        """Do one step; return its losses (already checked to be finite).

        Raises:
            RunError: a loss or gradient is not finite, or the loss diverges; the batch is saved.
        """
        config, parts = self.config, self.parts
        torch.manual_seed(_mixed_seed(config.run.seed, parts.fabric.global_rank, self.number))
        self._set_rates()
        parts.generator.module.train()
        count = config.optimizer.accumulate
        sums: dict[str, Tensor] = {}
        batch: Batch = {}
        for number in range(count):
            batch = next(loader)
            there = on_device(batch, parts.fabric.device, channels_last=config.run.channels_last)
            for key, value in self._backward(there, last=number == count - 1, count=count).items():
                sums[key] = sums.get(key, torch.zeros((), device=value.device)) + value.detach().float() / count
        losses = dict(zip(sums, torch.stack(list(sums.values())).tolist(), strict=True))
        self._check(losses, batch)
        self._move(losses, batch)
        parts.ema.update(parts.generator.module)
        self.number += 1
        return losses

    def _set_rates(self) -> None:
        config = self.config
        factor = learning_rate_factor(config.schedule, self.number, config.run.steps)
        _set_rate(self.parts.generator, config.optimizer.lr * factor)
        if self.parts.discriminator is not None:
            _set_rate(self.parts.discriminator, config.discriminator.lr * factor)

    def _backward(self, batch: Batch, *, last: bool, count: int) -> dict[str, Tensor]:
        """Propagate both losses of one batch; return all terms."""
        parts, fabric = self.parts, self.parts.fabric
        if parts.discriminator is not None:
            parts.discriminator.module.requires_grad_(False)
        with fabric.no_backward_sync(parts.generator.wrapped, enabled=not last):
            output: Tensor = parts.generator.wrapped(batch["lr"])
            output = parts.hook.complete(output, batch["lr"])
            with fabric.autocast():
                terms = parts.loss(output, batch)
            self._use_scaler("generator")
            fabric.backward(terms["total"] / count)
        if parts.discriminator is None:
            return terms
        return {**terms, **self._backward_discriminator(parts.discriminator, output, batch, last=last, count=count)}

    def _backward_discriminator(
        self, discriminator: Trained, output: Tensor, batch: Batch, *, last: bool, count: int
    ) -> dict[str, Tensor]:
        fabric = self.parts.fabric
        discriminator.module.requires_grad_(True)
        real = batch[self.config.discriminator.real]
        with fabric.no_backward_sync(discriminator.wrapped, enabled=not last):
            # One pass over real and false together: none of the discriminators mixes the samples of a batch.
            with self.parts.loss.precision(fabric.device):
                logits = logits_of(discriminator.wrapped, torch.cat([real, output.detach().to(real.dtype)]))
            kind, half = self.config.discriminator.loss, real.shape[0]
            loss_real = adversarial_loss([each[:half] for each in logits], real=True, kind=kind)
            loss_fake = adversarial_loss([each[half:] for each in logits], real=False, kind=kind)
            self._use_scaler("discriminator")
            fabric.backward((loss_real + loss_fake) / 2 / count)
        return {"d_real": loss_real, "d_fake": loss_fake}

    def _move(self, losses: Mapping[str, float], batch: Batch) -> None:
        """Let both optimisers take their step."""
        parts = self.parts
        parts.hook.mask_gradients()
        self._use_scaler("generator")
        self.grad_norm = self._clipped_norm(parts.generator)
        if not math.isfinite(self.grad_norm) and self.config.run.precision != "fp16":
            self._stop("the gradient is not finite", losses, batch, code="loss-not-finite")
        parts.generator.wrapped_optimizer.step()
        parts.generator.wrapped_optimizer.zero_grad(set_to_none=True)
        if parts.discriminator is not None:
            self._use_scaler("discriminator")
            self._clipped_norm(parts.discriminator)
            parts.discriminator.wrapped_optimizer.step()
            parts.discriminator.wrapped_optimizer.zero_grad(set_to_none=True)

    def _use_scaler(self, name: str) -> None:
        precision = self.parts.fabric.strategy.precision
        if isinstance(precision, ScaledPrecision):
            precision.use(name)

    def _clipped_norm(self, trained: Trained) -> float:
        limit = self.config.optimizer.clip_norm or math.inf
        norm = self.parts.fabric.clip_gradients(
            trained.wrapped, trained.wrapped_optimizer, max_norm=limit, error_if_nonfinite=False
        )
        return float(norm) if norm is not None else 0.0

    def _check(self, losses: Mapping[str, float], batch: Batch) -> None:
        """Stop where the loss is not finite or diverges, in all processes together."""
        guard, fabric = self.config.divergence_guard, self.parts.fabric
        total, mean = losses["total"], self.loss_mean
        finite = all(math.isfinite(value) for value in losses.values())
        guarded = mean is not None and guard.factor > 0 and self.number >= guard.after
        diverges = finite and guarded and total > guard.factor * max(mean or 0.0, 1e-8)
        bad = not finite or diverges
        if fabric.world_size > 1:
            flags = fabric.all_reduce(torch.tensor(float(bad)), reduce_op="sum")
            if isinstance(flags, Tensor) and float(flags) > 0 and not bad:
                raise RunError(f"another process stopped at step {self.number}.", code="other-process-stopped")
        if not finite:
            self._stop("the loss is not finite", losses, batch, code="loss-not-finite")
        if diverges:
            reason = f"the loss diverges ({total:.4g}, its running mean is {mean:.4g})"
            self._stop(reason, losses, batch, code="loss-diverges")
        self.loss_mean = total if mean is None else _LOSS_MEMORY * mean + (1 - _LOSS_MEMORY) * total

    def _stop(self, reason: str, losses: Mapping[str, float], batch: Batch, *, code: str) -> None:
        fabric = self.parts.fabric
        rank = f"-rank{fabric.global_rank}" if fabric.world_size > 1 else ""
        target = self.config.run_folder / f"bad-step-{self.number:08d}{rank}.pt"
        with atomic_path(target, overwrite=True) as partial:
            torch.save({"step": self.number, "losses": dict(losses), "batch": batch}, partial)
        shown = ", ".join(f"{key} {value:.4g}" for key, value in losses.items())
        raise RunError(
            f"stopped at step {self.number}: {reason} ({shown}). The batch is saved in '{target}'. Lower optimizer.lr, "
            "set optimizer.clip_norm, or use another precision; --resume goes on from the last checkpoint.",
            code=code,
        )


def _set_rate(trained: Trained, rate: float) -> None:
    for group in trained.optimizer.param_groups:
        group["lr"] = rate


def _mixed_seed(seed: int, rank: int, step: int) -> int:
    return (seed * 1_000_003 + rank * 7_919 + step * 104_729) % (2**63)
