"""The twin perceptual loss (equations 5 and 6): distances between features of output and target.

:class:`PerceptualTerm` is one branch with its frozen network, :class:`TwinPerceptual` their sum. A branch compares the
features layer by layer::

    branch = sum over layers of  w_layer * mean |F_layer(output) - F_layer(target)|

Gradients reach the output through every layer of every branch. (The reference implementation detaches the features of
its ResNet, so that its anime branch has a value and no gradient; only its photo branch trains.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from apisr.core.errors import InputError
from apisr.train.losses.pixel import SavedTensors

#: Pictures (N, 3, H, W) in [0, 1] -> features by layer name. The network's own normalisation is inside.
Features = Callable[[Tensor], Mapping[str, Tensor]]


class PerceptualTerm(nn.Module):
    """One branch of the perceptual loss.

    Args:
        features: the frozen feature network.
        weights: weight of each layer by name; layers that the network does not give are an error.
        weight: weight of the branch.
        name: for the log.
    """

    def __init__(
        self, features: Features, *, weights: Mapping[str, float], weight: float = 1.0, name: str = "features"
    ) -> None:
        super().__init__()
        if isinstance(features, nn.Module):
            features.eval().requires_grad_(False)
        self.features = features
        self.layer_weights = dict(weights)
        self.weight = weight
        self.name = name

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """The weighted sum over layers; `target` has no gradient.

        Raises:
            InputError: a weight names no layer of the network.
        """
        with torch.no_grad():
            target_features = self.features(target)
        output_features = self.features(output)
        missing = [layer for layer in self.layer_weights if layer not in output_features]
        if missing:
            raise InputError(
                f"feature network '{self.name}' has no layer '{missing[0]}'. Layers: {', '.join(output_features)}.",
                code="unknown-layer",
            )
        terms = [
            weight * feature_distance(output_features[layer], target_features[layer])
            for layer, weight in self.layer_weights.items()
        ]
        return self.weight * torch.stack(terms).sum()

    def train(self, mode: bool = True) -> PerceptualTerm:
        """Stay in evaluation mode: batch statistics of a feature network never change."""
        del mode
        return cast("PerceptualTerm", super().train(False))


class TwinPerceptual(nn.Module):
    """The sum of the branches: ``L_ResNet + delta * L_VGG`` of equation 4 (any number of branches)."""

    def __init__(self, terms: Sequence[PerceptualTerm]) -> None:
        super().__init__()
        self.terms = nn.ModuleList(terms)

    def forward(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The value of each branch by name."""
        return {cast("str", term.name): term(output, target) for term in self.terms}


def feature_distance(output_features: Tensor, target_features: Tensor) -> Tensor:
    """Mean absolute difference in float32 of features that may be half precision; `target_features` gets no gradient.

    The same as ``l1_loss`` of both in float32 with a third of the memory traffic: the first layers of a feature network
    are by far the largest arrays of a training step.
    """
    return cast("Tensor", _MeanAbsolute.apply(output_features, target_features))


def balanced_weights(
    features: Features, pairs: Sequence[tuple[Tensor, Tensor]], *, total: float = 1.0
) -> dict[str, float]:
    """Layer weights with which every layer contributes the same on the given pairs ("balanced scale", section 3.4).

    Args:
        features: a feature network.
        pairs: (output, target) pictures of a typical kind, for example stage-1 outputs and their targets.
        total: sum of the weighted terms, on these pairs.

    Returns:
        ``total / (number of layers * mean difference of the layer)`` for each layer.
    """
    sums: dict[str, float] = {}
    with torch.no_grad():
        for output, target in pairs:
            output_features, target_features = features(output), features(target)
            for layer, value in output_features.items():
                sums[layer] = sums.get(layer, 0.0) + float(
                    functional.l1_loss(value.float(), target_features[layer].float())
                )
    return {layer: total * len(pairs) / (len(sums) * value) for layer, value in sums.items()}


class _MeanAbsolute(torch.autograd.Function):
    """Keeps the sign of the difference, in the precision of the features, and nothing else."""

    @staticmethod
    def forward(ctx: SavedTensors, output_features: Tensor, target_features: Tensor) -> Tensor:
        difference = output_features - target_features
        total = torch.linalg.vector_norm(difference, 1, dtype=torch.float32)
        ctx.save_for_backward(difference.sign_())
        return total / difference.numel()

    @staticmethod
    def backward(ctx: SavedTensors, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (sign,) = ctx.saved_tensors
        return sign * (grad_outputs[0] / sign.numel()).to(sign.dtype), None
