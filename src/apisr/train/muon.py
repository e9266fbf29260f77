"""Muon: steps that turn a weight matrix in all directions alike.

Adam scales every weight by itself. Muon (Jordan and others, 2024) takes the momentum of a whole matrix and replaces its
singular values by about one, so that directions with small gradients are learned as fast as those with large ones. The
step is scaled by ``0.2*sqrt(larger side)`` (Liu and others, arXiv 2502.16982): its root mean square is then near that
of Adam, and a rate found for Adam serves here too.

A convolution is the matrix (output channels) x (input channels times window). The first and the last layer, biases and
all that is no matrix are moved by Adam.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

import torch
from torch import Tensor, nn

#: Of the odd polynomial of degree five that draws singular values of (0, 1] to about one.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
#: Root mean square of Adam's usual step, in learning rates.
ADAM_RMS = 0.2


class Muon(torch.optim.Optimizer):
    """Muon for the inner matrices of a network, Adam for the rest.

    Args:
        module: the network.
        lr: learning rate of both.
        momentum: share of the former momentum that is kept.
        betas: of Adam.
        weight_decay: share of the weights, times the rate, that is taken off in each step.
    """

    def __init__(
        self,
        module: nn.Module,
        lr: float = 1e-3,
        *,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        inner = inner_matrices(module)
        chosen = {id(weight) for weight in inner}
        rest = [weight for weight in module.parameters() if id(weight) not in chosen]
        shared: dict[str, object] = {"lr": lr, "momentum": momentum, "betas": betas, "weight_decay": weight_decay}
        groups = [{"params": inner, "matrices": True}, {"params": rest, "matrices": False}]
        super().__init__([group for group in groups if group["params"]], shared)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Move all weights that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [weight for weight in cast("list[Tensor]", group["params"]) if weight.grad is not None]
            rate, decay = float(group["lr"]), float(group["weight_decay"])
            for weight in weights if decay else ():
                weight.mul_(1 - rate * decay)
            if group["matrices"]:
                self._move_matrices(weights, rate, float(group["momentum"]))
            else:
                self._move_others(weights, rate, cast("tuple[float, float]", group["betas"]))
        return loss

    def _move_matrices(self, weights: Iterable[Tensor], rate: float, momentum: float) -> None:
        by_shape: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = {}
        for weight in weights:
            gradient = cast("Tensor", weight.grad)
            state = self.state[weight]
            if not state:
                state["momentum"] = torch.zeros_like(weight)
            kept: Tensor = state["momentum"]
            kept.lerp_(gradient, 1 - momentum)
            ahead = gradient.lerp(kept, momentum).flatten(1)
            by_shape.setdefault(tuple(ahead.shape), []).append((weight, ahead))
        for (rows, columns), pairs in by_shape.items():
            turned = orthogonalized(torch.stack([ahead for _, ahead in pairs]))
            length = ADAM_RMS * max(rows, columns) ** 0.5
            for (weight, _), step in zip(pairs, turned, strict=True):
                weight.add_(step.view(weight.shape), alpha=-rate * length)

    def _move_others(self, weights: Iterable[Tensor], rate: float, betas: tuple[float, float]) -> None:
        for weight in weights:
            gradient = cast("Tensor", weight.grad)
            state = self.state[weight]
            if not state:
                state.update(step=0, mean=torch.zeros_like(weight), square=torch.zeros_like(weight))
            state["step"] += 1
            mean: Tensor = state["mean"]
            square: Tensor = state["square"]
            mean.lerp_(gradient, 1 - betas[0])
            square.mul_(betas[1]).addcmul_(gradient, gradient, value=1 - betas[1])
            first, second = (1 - beta ** state["step"] for beta in betas)
            weight.addcdiv_(mean, (square / second).sqrt_().add_(1e-8), value=-rate / first)


def inner_matrices(module: nn.Module) -> list[nn.Parameter]:
    """Return the weights that Muon moves: matrices and full convolutions, without the first and the last of them."""
    matrices = [weight for weight in module.parameters() if weight.ndim in (2, 4) and weight.shape[1] > 1]
    return matrices[1:-1]


def orthogonalized(matrices: Tensor) -> Tensor:
    """Replace singular values by about one, with a few steps of a Newton-Schulz iteration.

    Args:
        matrices: ``(n, rows, columns)`` float32.

    Returns:
        The same shape; singular values between about 0.7 and 1.2, those of a matrix of zeros stay zero.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    turned = matrices.transpose(1, 2) if tall else matrices
    turned = turned / (torch.linalg.matrix_norm(turned, keepdim=True) + 1e-12)
    linear, cubic, quintic = COEFFICIENTS
    for _ in range(ITERATIONS):
        squares = turned @ turned.transpose(1, 2)
        turned = torch.baddbmm(
            turned, torch.baddbmm(squares, squares, squares, beta=cubic, alpha=quintic), turned, beta=linear
        )
    return turned.transpose(1, 2) if tall else turned
