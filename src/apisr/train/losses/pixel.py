"""Pixel terms: how far an output is from its target, as functions of pictures ``(N, 3, H, W)`` in [0, 1].

>>> import torch
>>> output, target = torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.5)
>>> float(l1(output, target))
0.5
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

import torch
from torch import Tensor
from torch.nn import functional

from apisr.image import BT601_LUMA

_LOG_MSE_FLOOR = 2e-4
_RELATIVE_FLOOR = 1e-4
_YCBCR = (BT601_LUMA, (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_GRID_FLOOR = 1e-4


class SavedTensors(Protocol):
    """What a function of autograd keeps between its two passes."""

    saved_tensors: tuple[Tensor, ...]

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Keep tensors for the backward pass."""
        ...


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


def relative_mse(output: Tensor, target: Tensor, bilinear_error: Tensor) -> Tensor:
    """Mean over the crops of their MSE over that of the bilinear enlargement of the whole picture they come from.

    What a mean of the PSNR of pictures measures, to first order: pictures count alike, but within a picture flat and
    busy places count by their error, which :func:`log_mse` of crops makes alike too.

    Args:
        output: ``(N, 3, H, W)``.
        target: like `output`.
        bilinear_error: ``(N,)``, the MSE of the bilinear enlargement of each crop's picture, in squares of [0, 1].
    """
    return (squared_error(output, target) / (bilinear_error + _RELATIVE_FLOOR)).mean()


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    """The mean squared error of each crop, ``(N,)`` float32; `target` gets no gradient.

    ``(output.float() - target).square().mean((1, 2, 3))`` with a third of the memory traffic.
    """
    return cast("Tensor", _SquaredError.apply(output.float(), target))


def frequency(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of the two-dimensional spectra (orthonormal, real and imaginary parts)."""
    spectrum = torch.fft.rfft2(output.float(), norm="ortho") - torch.fft.rfft2(target.float(), norm="ortho")
    return torch.view_as_real(spectrum).abs().mean()


def chroma(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of Cb and Cr (BT.601).

    Codecs halve colour and blur it across outlines. Beside an outline an error of luma outweighs it by far, so that a
    squared error of RGB leaves it as it is; a person sees a coloured rim.

    Args:
        output: ``(N, 3, H, W)``.
        target: like `output`; it gets no gradient.
    """
    weights = torch.tensor(_YCBCR[1:], device=target.device)[:, :, None, None]
    return functional.conv2d(output.float() - target.float(), weights).abs().mean()


def grid(output: Tensor, target: Tensor) -> Tensor:
    """How much more uneven the steps from pixel to pixel are than the target's: a pattern with a period of two pixels.

    Sub-pixel convolutions compute neighbouring pixels with different weights, and blurred edges show it as a grid. For
    each crop and direction the energy of the steps of luma that begin at even places, less that from odd ones, over
    their sum, is compared with the target's; the mean of the absolute differences, 0 to 2, is returned.

    Args:
        output: ``(N, 3, H, W)``.
        target: like `output`; it gets no gradient.
    """
    with torch.no_grad():
        true = _unevenness(target)
    return (_unevenness(output) - true).abs().mean()


def line_depth(output: Tensor, target: Tensor, *, scale: int, deeper: float) -> Tensor:
    """How much depth the dark lines of a drawing lost, and less heavily, how much they gained.

    The depth of a place is how far its luma lies below its closing (the largest value of each window, then the smallest
    of those): that of thin dark structures, zero elsewhere. A network that is in doubt draws a line at the mean depth
    of all that it could be, which is pale. Lost depth that costs more than gained depth asks for a quantile above that
    mean: ``1 / (1 + deeper)``. Luma is a mean over `scale` by `scale` pixels here: a network that makes that many
    pixels of one would else win depth with dots, as raster printing does.

    Args:
        output: ``(N, 3, H, W)``.
        target: like `output`; it gets no gradient.
        scale: of the network; lines up to ``2*scale + 3`` pixels wide count.
        deeper: weight of gained depth, where that of lost depth is 1.
    """
    with torch.no_grad():
        true = _line_depth(target, scale)
    missing = true - _line_depth(output, scale)
    return torch.where(missing > 0, missing, -deeper * missing).mean()


def _line_depth(pictures: Tensor, scale: int) -> Tensor:
    """The black top-hat of luma, ``(N, 1, H - scale + 1, W - scale + 1)``."""
    luma = functional.avg_pool2d(_luma(pictures), scale, 1)
    side = 2 * scale + 3
    windows = ((side, 1), (1, side))
    widened = luma
    for window in windows:
        widened = functional.max_pool2d(widened, window, 1, (window[0] // 2, window[1] // 2))
    for window in windows:
        widened = -functional.max_pool2d(-widened, window, 1, (window[0] // 2, window[1] // 2))
    return widened - luma


def dots(output: Tensor, target: Tensor) -> Tensor:
    """How much more channels alternate from pixel to pixel in both directions than the target's: a raster of dots.

    Judges and a score of lines can be won with one. The mean over 5x5 pixels of the second difference in both
    directions, ``[1, -2, 1]/4`` each, counts where it is above the target's; the mean over the channels is returned.

    Args:
        output: ``(N, 3, H, W)``.
        target: like `output`; it gets no gradient.
    """
    with torch.no_grad():
        true = _alternation(target)
    return functional.relu(_alternation(output) - true).mean()


def _alternation(pictures: Tensor) -> Tensor:
    """(N, 3, H - 6, W - 6)."""
    values = pictures.float()
    for at in (2, 3):
        length = values.shape[at]
        before, here, after = (values.narrow(at, start, length - 2) for start in range(3))
        values = (before - 2 * here + after) / 4
    return functional.avg_pool2d(values.abs(), 5, 1)


def _unevenness(pictures: Tensor) -> Tensor:
    """(N, 2): down and across."""
    luma = _luma(pictures)[:, 0]
    result: list[Tensor] = []
    for turned in (luma, luma.transpose(1, 2)):
        energy = (turned[:, 1:] - turned[:, :-1]).square().mean(2)
        count = energy.shape[1] // 2 * 2
        even, odd = energy[:, 0:count:2].sum(1), energy[:, 1:count:2].sum(1)
        result.append((even - odd) / (even + odd + _GRID_FLOOR))
    return torch.stack(result, 1)


def _luma(pictures: Tensor) -> Tensor:
    """(N, 1, H, W)."""
    return functional.conv2d(pictures.float(), torch.tensor(_YCBCR[:1], device=pictures.device)[:, :, None, None])


class _SquaredError(torch.autograd.Function):
    """Keeps the difference and nothing else."""

    @staticmethod
    def forward(ctx: SavedTensors, output: Tensor, target: Tensor) -> Tensor:
        difference = output - target
        ctx.save_for_backward(difference)
        return torch.linalg.vector_norm(difference.flatten(1), dim=1).square() / difference[0].numel()

    @staticmethod
    def backward(ctx: SavedTensors, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (difference,) = ctx.saved_tensors
        return difference * (grad_outputs[0] * (2 / difference[0].numel()))[:, None, None, None], None


#: Pixel terms by name, but for ``relative_mse``, which wants to know the picture of each crop.
PIXEL: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"l1": l1, "charbonnier": charbonnier, "log_mse": log_mse}
