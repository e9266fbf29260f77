"""The generator's loss: equation 4, every term of it and their weighted sum."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import cast

import torch
from torch import Tensor, nn

from apisr.core.errors import InputError
from apisr.train.config import TrainConfig
from apisr.train.losses import pixel
from apisr.train.losses.adversarial import adversarial_loss
from apisr.train.losses.perceptual import TwinPerceptual
from apisr.train.losses.similarity import ms_ssim_loss, ssim_loss
from apisr.train.losses.teacher import Teacher

#: Terms whose weights are called after them.
_ARTEFACTS = {"frequency": pixel.frequency, "grid": pixel.grid, "dots": pixel.dots, "chroma": pixel.chroma}


class GeneratorLoss:
    """Equation 4 as a configuration says, with the frozen networks that its terms need.

    Args:
        config: the run.
        perceptual: the branches of the perceptual loss; None: no such term.
        discriminator: judges the output; None: no adversarial term.
        teacher: what the output is also drawn to; None: no such term.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        perceptual: TwinPerceptual | None = None,
        discriminator: nn.Module | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        self.config = config
        self.perceptual = perceptual
        self.discriminator = discriminator
        self.teacher = teacher

    def __call__(self, output: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return every term unweighted, and ``total``, their weighted sum.

        Args:
            output: the generator's, (N, 3, H, W).
            batch: ``gt`` and ``pseudo`` of the same shape; for ``relative_mse`` ``bilinear_error``, one number a crop;
                where there is a teacher ``lr``, (N, 3, H/s, W/s), or ``teacher``, what one made of it earlier.
        """
        loss = self.config.loss
        target = batch[loss.target]
        terms = {loss.pixel: self._pixel_term(output, target, batch)}
        total = loss.pixel_weight * terms[loss.pixel]
        taught = self._taught(batch)
        if taught is not None:
            terms["teacher"] = self._pixel_term(output, taught, batch)
            total = total + self.config.teacher.weight * terms["teacher"]
        if loss.ms_ssim_weight:
            terms["ms_ssim"] = ms_ssim_loss(output, target)
            total = total + loss.ms_ssim_weight * terms["ms_ssim"]
        if loss.ssim_weight:
            terms["ssim"] = ssim_loss(output, target, kind=loss.ssim)
            total = total + loss.ssim_weight * terms["ssim"]
        for name, term in _ARTEFACTS.items():
            weight = float(getattr(loss, f"{name}_weight"))
            if weight:
                terms[name] = term(output, target)
                total = total + weight * terms[name]
        if loss.line_weight:
            scale = self.config.model.scale
            terms["lines"] = pixel.line_depth(output, target, scale=scale, deeper=loss.line_deeper)
            total = total + loss.line_weight * terms["lines"]
        if self.perceptual is not None:
            with self.precision(output.device):
                branches = self.perceptual(output, target)
            terms |= branches
            total = total + loss.perceptual_weight * torch.stack(list(branches.values())).sum()
        if self.discriminator is not None:
            with self.precision(output.device):
                logits = logits_of(self.discriminator, output)
            terms["adversarial"] = adversarial_loss(logits, real=True, kind=self.config.discriminator.loss)
            total = total + loss.adversarial_weight * terms["adversarial"]
        return {"total": total, **terms}

    def precision(self, device: torch.device) -> AbstractContextManager[object]:
        """The arithmetic of feature networks and discriminators (``loss.precision``)."""
        if self.config.loss.precision == "same":
            return contextlib.nullcontext()
        return torch.autocast(device.type, dtype=torch.bfloat16)

    def _taught(self, batch: Mapping[str, Tensor]) -> Tensor | None:
        if self.teacher is not None:
            return self.teacher(batch["lr"])
        if not self.config.teacher.cached:
            return None
        if "teacher" not in batch:
            raise InputError(
                "teacher.cached is set, but not all shards hold a teacher's outputs. Add them: apisr shards --teacher.",
                code="no-teacher-outputs",
            )
        return batch["teacher"]

    def _pixel_term(self, output: Tensor, target: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        kind = self.config.loss.pixel
        if kind != "relative_mse":
            return pixel.PIXEL[kind](output, target)
        if "bilinear_error" not in batch:
            raise InputError(
                "loss.pixel = 'relative_mse' needs crops that know their picture's error ('bilinear_error'). Take "
                "pictures or shards, or another loss.pixel.",
                code="no-bilinear-error",
            )
        return pixel.relative_mse(output, target, batch["bilinear_error"])


def logits_of(discriminator: nn.Module, pictures: Tensor) -> list[Tensor]:
    """What a discriminator makes of pictures: one tensor of logits for each of its scales."""
    result: object = discriminator(pictures)
    return [result] if isinstance(result, Tensor) else list(cast("list[Tensor]", result))
