"""Lack of memory: a batch is run in halves, then a picture in two overlapping parts, until it fits. Nothing is dropped.

The parts carry the network's halo, so that the joined result is that of the whole. What comes back must have its full
size: libraries and drivers that fail may give an empty picture without an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from apisr.core.errors import RunError
from apisr.networks.traits import ModelTraits

#: A part is not split below this side.
SMALLEST_PART_PX = 32


class OutOfMemory(RunError):  # noqa: N818 - it is what happened
    """A device's memory did not suffice."""

    default_code = "out-of-memory"


T = TypeVar("T", np.float32, np.uint8)


def run_in_parts(
    run: Callable[[NDArray[T]], NDArray[T]], batch: NDArray[T], traits: ModelTraits, *, rows_axis: int = 2
) -> NDArray[T]:
    """Run a batch, in parts where the memory does not suffice.

    Args:
        run: maps ``(N, 3, H, W)`` to ``(N, 3, scale*H, scale*W)`` or raises :class:`OutOfMemory`.
        batch: ``(N, 3, H, W)``.
        traits: of the network.
        rows_axis: where H stands: 1 for ``(N, H, W, 3)``.

    Raises:
        OutOfMemory: not even the smallest part fits.
        RunError: the output does not have the size that the network promises, or is not numbers (code
            ``network-failed``).
    """
    try:
        output = run(batch)
        _check_size(output.shape, batch.shape, traits, rows_axis)
        if output.dtype.kind == "f" and output.size and np.isnan(output.min()):
            raise RunError("the network gave values that are not numbers (NaN).", code="network-failed")
        return output
    except OutOfMemory as error:
        message = str(error)
    # Outside the handler, so that what the failed attempt holds is free.
    if batch.shape[0] > 1:
        middle = batch.shape[0] // 2
        halves = (batch[:middle], batch[middle:])
        return np.concatenate([run_in_parts(run, half, traits, rows_axis=rows_axis) for half in halves])
    return _in_two_parts(run, batch, traits, message, rows_axis)


def _in_two_parts(
    run: Callable[[NDArray[T]], NDArray[T]], batch: NDArray[T], traits: ModelTraits, message: str, rows_axis: int
) -> NDArray[T]:
    axis = rows_axis if batch.shape[rows_axis] >= batch.shape[rows_axis + 1] else rows_axis + 1
    side, scale, unit = batch.shape[axis], traits.scale, traits.multiple_px
    middle = -(-side // (2 * unit)) * unit
    halo = traits.aligned_halo_px
    if traits.halo_px is None or traits.fixed_size or middle < SMALLEST_PART_PX or middle + halo >= side:
        raise OutOfMemory(f"{message} Use smaller tiles, another device or precision, or a smaller model.")
    first = run_in_parts(run, _cut(batch, axis, 0, middle + halo), traits, rows_axis=rows_axis)
    second = run_in_parts(run, _cut(batch, axis, middle - halo, side), traits, rows_axis=rows_axis)
    return np.concatenate(
        [
            _cut(first, axis, 0, middle * scale),
            _cut(second, axis, halo * scale, (side - middle + halo) * scale),
        ],
        axis,
    )


def _check_size(found: tuple[int, ...], given: tuple[int, ...], traits: ModelTraits, rows_axis: int) -> None:
    expected = tuple(
        side * (traits.scale if axis in (rows_axis, rows_axis + 1) else 1) for axis, side in enumerate(given)
    )
    if found != expected:
        size = f"{given[rows_axis + 1]}x{given[rows_axis]}"
        raise RunError(
            f"the network failed on a picture of {size}: expected an output of the shape {expected}, got {found}.",
            code="network-failed",
        )


def _cut(values: NDArray[T], axis: int, start: int, end: int) -> NDArray[T]:
    index = [slice(None)] * 4
    index[axis] = slice(start, end)
    return np.ascontiguousarray(values[tuple(index)])
