"""The tail of GRL as a stream of rows, and nearest x2 with a convolution as one step.

Nearest x2 before a 3x3 convolution equals four 2x2 convolutions on the small grid: 4 multiplications in place of 9. At
inference on the CPU the tail runs in bands: each convolution keeps the two rows that it needs from the band before,
nothing is computed twice, and bands are small enough to stay in the cache and in memory already mapped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from apisr.networks.functional import doubled_taps


class RowStream:
    """A padded 3x3 convolution that is given its picture in bands of rows, from the top; it answers one row late.

    Args:
        valid: the convolution of n + 2 rows, for the n rows in between (or what is made of these).
    """

    def __init__(self, valid: Callable[[Tensor], Tensor]) -> None:
        self._valid = valid
        self._kept: Tensor | None = None

    def push(self, rows: Tensor, *, ends: bool) -> Tensor:
        """Take the next rows (N, C, n, W); the last ones when `ends`."""
        zero = rows.new_zeros(*rows.shape[:2], 1, rows.shape[3])
        parts = [zero if self._kept is None else self._kept, rows, *([zero] if ends else [])]
        stacked = torch.cat([part.contiguous(memory_format=torch.channels_last) for part in parts], 2)
        self._kept = stacked[:, :, -2:].clone()
        return self._valid(stacked)


def leaky(x: Tensor) -> Tensor:
    """Leaky ReLU with slope 0.2, in place where no gradient is needed."""
    return functional.leaky_relu(x, 0.2, inplace=not torch.is_grad_enabled())


def plain(convolution: nn.Conv2d, slope: float) -> Callable[[Tensor], Tensor]:
    """The convolution and a leaky rectifier, padded in columns only."""
    weight = convolution.weight.contiguous(memory_format=torch.channels_last)

    def valid(x: Tensor) -> Tensor:
        return functional.leaky_relu_(functional.conv2d(x, weight, convolution.bias, padding=(0, 1)), slope)

    return valid


def phases(convolution: nn.Conv2d) -> Callable[[Tensor], Tensor]:
    """Nearest x2, the convolution and a leaky rectifier: a 2x2 convolution for each of the four kinds of pixels.

    The sums of taps are those of :func:`apisr.networks.functional.up_conv`.
    """
    taps = doubled_taps(convolution.weight)
    kernels = {
        # Flipped: a transposed convolution runs its taps backwards.
        (i, j): taps[:, :, 1 - i :: 2, 1 - j :: 2].flip(2, 3).contiguous(memory_format=torch.channels_last)
        for i in range(2)
        for j in range(2)
    }

    def valid(x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        rows = height - 2
        out = x.new_empty(batch, 2 * rows, 2 * width, convolution.out_channels).permute(0, 3, 1, 2)
        for (i, j), kernel in kernels.items():
            phase = functional.conv2d(x[:, :, i : i + rows + 1], kernel, convolution.bias, padding=(0, 1))
            out[:, :, i::2, j::2] = phase[:, :, :, j : j + width]
        return functional.leaky_relu_(out, 0.2)

    return valid


def to_planes(convolution: nn.Conv2d) -> Callable[[Tensor], Tensor]:
    """A convolution to few channels as one matrix product (a plane for each tap) and a sum of shifted planes."""
    outputs, inputs = convolution.weight.shape[:2]
    matrix = convolution.weight.permute(2, 3, 0, 1).reshape(-1, inputs)
    bias = cast(Tensor, convolution.bias)

    def valid(x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        pixels = x.permute(0, 2, 3, 1).reshape(-1, inputs)
        planes = torch.mm(matrix, pixels.t()).view(3, 3, outputs, batch, height, width)
        total = planes[0, 1, :, :, : height - 2].clone()
        for i in range(3):
            rows = planes[i, :, :, :, i : i + height - 2]
            if i > 0:
                total += rows[1]
            total[..., 1:] += rows[0, ..., :-1]
            total[..., :-1] += rows[2, ..., 1:]
        return (total + bias[:, None, None, None]).transpose(0, 1)

    return valid
