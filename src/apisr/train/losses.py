"""The losses of equations 4 to 6, as functions of pictures in [0, 1].

Pixel terms (:func:`l1`, :func:`charbonnier`, :func:`ms_ssim_loss`, :func:`frequency`) and adversarial terms are pure
functions. The perceptual terms hold a frozen network: :class:`PerceptualTerm` is one branch (equation 5 or 6),
:class:`TwinPerceptual` their sum. A branch compares the features of output and target, layer by layer::

    branch = sum over layers of  w_layer * mean |F_layer(output) - F_layer(target)|

Gradients reach the output through every layer of every branch. (The reference implementation detaches the features of
its ResNet, so that its anime branch has a value and no gradient; only its photo branch trains.)

    >>> import torch
    >>> output, target = torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.5)
    >>> float(l1(output, target)), float(adversarial_loss([torch.zeros(1, 1, 2, 2)], real=True, kind="lsgan"))
    (0.5, 1.0)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from apisr.core.errors import InputError

#: Pictures (N, 3, H, W) in [0, 1] -> features by layer name. The network's own normalisation is inside.
Features = Callable[[Tensor], Mapping[str, Tensor]]

_MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW_PX, _SIGMA = 11, 1.5
_FLAT_PX = 8
_LOG_MSE_FLOOR, _LOG_SSIM_FLOOR = 2e-4, 0.01
_RELATIVE_FLOOR = 1e-4


def l1(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference (the paper's pixel term)."""
    return functional.l1_loss(output.float(), target)


def charbonnier(output: Tensor, target: Tensor, *, epsilon: float = 1e-3) -> Tensor:
    """Mean of ``sqrt(difference^2 + epsilon^2)``: L1 with a round tip (Lai et al., CVPR 2017)."""
    return torch.sqrt((output.float() - target).square() + epsilon**2).mean()


def log_mse(output: Tensor, target: Tensor) -> Tensor:
    """Mean over the crops of ``log(1 + MSE / 2e-4)``: every crop counts alike, as in a mean of PSNR values.

    With the plain mean squared error, crops of ruined pictures, which have a hundred times the error of others and
    little to be won, steer the training. The gradient is that of ``log(MSE + 2e-4)``; the constant only keeps the value
    from falling below 0. Below an error of 2e-4 (37 dB) a crop counts less and less.
    """
    return torch.log1p(squared_error(output, target) / _LOG_MSE_FLOOR).mean()


def relative_mse(output: Tensor, target: Tensor, blurred: Tensor) -> Tensor:
    """Mean over the crops of their MSE over that of the bilinear enlargement of the whole picture they come from.

    What a mean of the PSNR of pictures measures, to first order: pictures count alike, but within a picture flat and
    busy places count by their error, which :func:`log_mse` of crops makes alike too.

    Args:
        output: ``(N, 3, H, W)``.
        target: like `output`.
        blurred: ``(N,)``, the MSE of the bilinear enlargement of each crop's picture, in squares of [0, 1].
    """
    return (squared_error(output, target) / (blurred + _RELATIVE_FLOOR)).mean()


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    """The mean squared error of each crop, ``(N,)`` float32; `target` gets no gradient.

    ``(output.float() - target).square().mean((1, 2, 3))`` with a third of the memory traffic.
    """
    return cast("Tensor", _SquaredError.apply(output.float(), target))


class _SquaredError(torch.autograd.Function):
    """Keeps the difference and nothing else."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, target: Tensor) -> Tensor:
        difference = output - target
        ctx.save_for_backward(difference)
        return torch.linalg.vector_norm(difference.flatten(1), dim=1).square() / difference[0].numel()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor, None]:
        (difference,) = ctx.saved_tensors
        return difference * (grad_outputs[0] * (2 / difference[0].numel()))[:, None, None, None], None


#: Pixel terms by name.
PIXEL: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"l1": l1, "charbonnier": charbonnier, "log_mse": log_mse}


def ssim_loss(output: Tensor, target: Tensor, *, kind: Literal["mean", "log"] = "mean") -> Tensor:
    """1 - structural similarity of square windows of 8 pixels at every second place, the mean over the channels.

    The form of Wang et al. (2004) with flat windows instead of Gaussian ones and sample statistics: cheap enough for
    every step on a processor. ``kind="log"`` takes the mean over the crops of ``log(1 + (1 - SSIM)/0.01)``: as with
    :func:`log_mse`, crops that are nearly right count as much as hopeless ones.
    """
    output = output.float()
    pictures = (output, target, output * output, target * target, output * target)
    # 8x8 windows at every second place are 4x4 windows, as two lines, of 2x2 means: a sixth of the work.
    quarter = functional.avg_pool2d(torch.cat(pictures, 1), 2)
    lines = functional.avg_pool2d(quarter, (_FLAT_PX // 2, 1), stride=1)
    mean_1, mean_2, square_1, square_2, product = functional.avg_pool2d(lines, (1, _FLAT_PX // 2), stride=1).chunk(5, 1)
    variances = square_1 - mean_1.square() + square_2 - mean_2.square()
    covariance = product - mean_1 * mean_2
    c1, c2 = 0.01**2, 0.03**2
    structure = (2 * covariance + c2) / (variances + c2)
    similarity = structure * (2 * mean_1 * mean_2 + c1) / (mean_1.square() + mean_2.square() + c1)
    loss = 1 - similarity.mean((1, 2, 3))
    return (torch.log1p(loss / _LOG_SSIM_FLOOR) if kind == "log" else loss).mean()


def ms_ssim_loss(output: Tensor, target: Tensor) -> Tensor:
    """1 - multi-scale structural similarity over the channels (Wang et al. 2003), for crops.

    Gaussian window of 11 pixels (sigma 1.5), no padding, sample statistics of each channel. Crops smaller than 176
    pixels use the scales that fit and the first weights of them, normalised to sum 1.
    """
    output = output.float()
    scales = 0
    while scales < len(_MS_SSIM_WEIGHTS) and min(output.shape[-2:]) // 2**scales >= _WINDOW_PX:
        scales += 1
    if scales == 0:
        raise InputError(f"MS-SSIM needs crops of at least {_WINDOW_PX} pixels, got {tuple(output.shape[-2:])}.")
    weights = torch.tensor(_MS_SSIM_WEIGHTS[:scales], device=output.device)
    weights = weights / weights.sum()
    window = _gaussian(output)
    product = torch.ones(output.shape[:2], device=output.device)
    for scale in range(scales):
        structure, similarity = _ssim_terms(output, target, window)
        value = similarity if scale == scales - 1 else structure
        product = product * value.clamp_min(1e-6) ** weights[scale]
        output, target = functional.avg_pool2d(output, 2), functional.avg_pool2d(target, 2)
    return 1 - product.mean()


def frequency(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of the two-dimensional spectra (orthonormal, real and imaginary parts)."""
    spectrum = torch.fft.rfft2(output.float(), norm="ortho") - torch.fft.rfft2(target.float(), norm="ortho")
    return torch.view_as_real(spectrum).abs().mean()


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
            wanted = self.features(target)
        given = self.features(output)
        missing = [layer for layer in self.layer_weights if layer not in given]
        if missing:
            raise InputError(f"feature network '{self.name}' has no layer '{missing[0]}'. Layers: {', '.join(given)}.")
        terms = [weight * feature_distance(given[layer], wanted[layer]) for layer, weight in self.layer_weights.items()]
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


def feature_distance(given: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute difference in float32 of features that may be half precision; `wanted` gets no gradient.

    The same as ``l1_loss(given.float(), wanted.float())`` with a third of the memory traffic: the first layers of a
    feature network are by far the largest arrays of a training step.
    """
    return cast("Tensor", _MeanAbsolute.apply(given, wanted))


class _MeanAbsolute(torch.autograd.Function):
    """Keeps the sign of the difference, in the precision of the features, and nothing else."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, wanted: Tensor) -> Tensor:
        difference = given - wanted
        total = torch.linalg.vector_norm(difference, 1, dtype=torch.float32)
        ctx.save_for_backward(difference.sign_())
        return total / difference.numel()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor, None]:
        (sign,) = ctx.saved_tensors
        return sign * (grad_outputs[0] / sign.numel()).to(sign.dtype), None


def adversarial_loss(verdicts: Sequence[Tensor], *, real: bool, kind: Literal["lsgan", "vanilla"]) -> Tensor:
    """How far a discriminator's verdicts are from `real` (1) or not (0), the mean over its scales.

    Args:
        verdicts: one tensor of logits for each scale.
        real: the wanted answer. The generator's term wants True of its own output.
        kind: ``lsgan`` mean squared error (Mao et al., ICCV 2017), ``vanilla`` binary cross-entropy on logits.
    """
    losses: list[Tensor] = []
    for verdict in verdicts:
        wanted = torch.full_like(verdict, float(real), dtype=torch.float32)
        if kind == "lsgan":
            losses.append(functional.mse_loss(verdict.float(), wanted))
        else:
            losses.append(functional.binary_cross_entropy_with_logits(verdict.float(), wanted))
    return torch.stack(losses).mean()


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
            given, wanted = features(output), features(target)
            for layer, value in given.items():
                sums[layer] = sums.get(layer, 0.0) + float(functional.l1_loss(value.float(), wanted[layer].float()))
    return {layer: total * len(pairs) / (len(sums) * value) for layer, value in sums.items()}


def _gaussian(like: Tensor) -> Tensor:
    place = torch.arange(_WINDOW_PX, dtype=torch.float32, device=like.device) - _WINDOW_PX // 2
    line = torch.exp(-place.square() / (2 * _SIGMA**2))
    line = line / line.sum()
    return torch.outer(line, line).expand(like.shape[1], 1, _WINDOW_PX, _WINDOW_PX)


def _ssim_terms(first: Tensor, second: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
    """Contrast-structure and full similarity, the mean over space: (N, C) each."""
    channels = first.shape[1]

    def blur(values: Tensor) -> Tensor:
        return functional.conv2d(values, window, groups=channels)

    mean_1, mean_2 = blur(first), blur(second)
    variance_1 = blur(first * first) - mean_1.square()
    variance_2 = blur(second * second) - mean_2.square()
    covariance = blur(first * second) - mean_1 * mean_2
    c1, c2 = 0.01**2, 0.03**2
    structure = (2 * covariance + c2) / (variance_1 + variance_2 + c2)
    similarity = structure * (2 * mean_1 * mean_2 + c1) / (mean_1.square() + mean_2.square() + c1)
    return structure.mean((-2, -1)), similarity.mean((-2, -1))
