"""Functions that several networks share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def is_tracing() -> bool:
    """Whether a graph is being recorded for export."""
    return bool(torch.jit.is_tracing())  # pyright: ignore[reportPrivateImportUsage]


def unit_vectors(x: Tensor) -> Tensor:
    """Return the vectors of the last dimension over their length, computed in float32 (lengths overflow float16).

    Args:
        x: ``(..., d)``, any float type, which the result has too.
    """
    wide = x.float()
    return (wide * wide.square().sum(-1, keepdim=True).clamp_min(1e-24).rsqrt()).to(x.dtype)


def up_conv(x: Tensor, convolution: nn.Conv2d) -> Tensor:
    """Nearest x2 then a padded 3x3 convolution, as one transposed convolution (4x4, stride 2) on the small grid.

    An even output row sees rows (m-1, m, m) of the small grid, an odd one (m, m, m+1): the taps that meet the same row
    are added beforehand. Borders agree too: the row beyond the edge is zero in both forms.

    Args:
        x: ``(N, C, H, W)``.
        convolution: 3x3, stride 1, padding 1.

    Returns:
        ``(N, convolution.out_channels, 2H, 2W)``.
    """
    kernel = doubled_taps(convolution.weight)
    return functional.conv_transpose2d(x, kernel.transpose(0, 1), convolution.bias, stride=2, padding=1)


def doubled_taps(weight: Tensor) -> Tensor:
    """Return the taps of that transposed convolution, ``(out, in, 4, 4)``, from the weight of the 3x3 convolution.

    Along each dimension they are ``(w2, w1 + w2, w0 + w1, w0)``.
    """
    for dim in (2, 3):
        first, second, third = weight.unbind(dim)
        weight = torch.stack((third, second + third, first + second, first), dim)
    return weight
