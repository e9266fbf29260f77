"""How far a picture must be continued for a network, so that its border comes out as its middle does.

Networks fill what is outside the picture with zeros, which darkens its border (by up to 106 of 255 levels on a flat
picture). Each needs another number of pixels around the picture to forget them; the fewer, the less is computed.

>>> from apisr.networks import ModelTraits
>>> smallest_rim_px(lambda batch: batch, ModelTraits(1, halo_px=0))
0
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
from numpy.typing import NDArray

from apisr.networks.traits import ModelTraits

#: Widest rim that is tried; no shipped network needs more.
WIDEST_RIM_PX = 16
#: Side of the flat pictures, without the rim.
_SIDE_PX = 40
#: Each is run as a flat picture: the ends of every channel, a gray and colours between.
COLOURS = (*product((0, 255), repeat=3), (128, 128, 128), (243, 123, 31), (30, 60, 200), (230, 200, 180))


def smallest_rim_px(run: Callable[[NDArray[np.float32]], NDArray[np.float32]], traits: ModelTraits) -> int | None:
    """Return the smallest rim with which flat pictures come out flat, within one 8-bit level.

    Args:
        run: the network: ``(1, 3, H, W)`` in [0, 1] to ``(1, 3, scale*H, scale*W)``.
        traits: scale and multiple of the network.

    Returns:
        A multiple of the network's, even where that is odd. None for a network that takes one size only, and for one
        that looks at the whole picture: what lies around it changes the middle, too.
    """
    if traits.fixed_size is not None or traits.halo_px is None:
        return None
    unit = traits.multiple_px if traits.multiple_px % 2 == 0 else 2 * traits.multiple_px
    widest = -(-WIDEST_RIM_PX // unit) * unit
    side = -(-_SIDE_PX // unit) * unit
    rims = range(0, widest, unit)
    return next((rim for rim in rims if all(_is_flat(run, traits, colour, side, rim) for colour in COLOURS)), widest)


def _is_flat(
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    traits: ModelTraits,
    colour: tuple[int, ...],
    side: int,
    rim: int,
) -> bool:
    """Whether a flat picture is everywhere what it is in the middle: one period of the network, repeated."""
    around = side + 2 * rim
    values = np.array(colour, np.float32)[None, :, None, None] / np.float32(255)
    output = run(np.ascontiguousarray(np.broadcast_to(values, (1, 3, around, around))))[0]
    cut = slice(traits.scale * rim, traits.scale * (rim + side))
    levels = np.rint(np.clip(output[:, cut, cut], 0, 1) * 255)
    period = traits.scale * traits.multiple_px
    first = levels.shape[1] // 2 // period * period
    middle = levels[:, first : first + period, first : first + period]
    pattern = np.tile(middle, (1, -(-levels.shape[1] // period), -(-levels.shape[2] // period)))
    return bool(np.abs(levels - pattern[:, : levels.shape[1], : levels.shape[2]]).max() <= 1)
